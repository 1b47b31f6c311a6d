//! Rows in ClickHouse's `RowBinary` form, written straight into the block that is sent.

use event::pack::PackedEvent;
use event::{EventHash, Incarnation, PackId, TenantNumber};

/// Where a row came from: one event of one pack of one stream, and the intent that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The lane.
    pub lane: &'a str,
    /// When the lane's stream was created, in Unix milliseconds.
    pub epoch: i64,
    /// The pack's sequence in the stream.
    pub seq: u64,
    /// The event's place in the pack.
    pub idx: u32,
    /// The intent.
    pub intent: u64,
}

/// A row of `events_raw`.
#[derive(Debug, Clone, Copy)]
pub struct RawRow<'a> {
    /// The event.
    pub event: &'a PackedEvent<'a>,
    /// Its pack.
    pub pack: PackId,
    /// The pod that admitted it.
    pub incarnation: Incarnation,
    /// When a pod received it, in Unix milliseconds.
    pub received_ms: i64,
    /// Where it came from.
    pub origin: Origin<'a>,
}

/// Columns that [`RawRow::encode`] writes, in its order.
pub(crate) const RAW_ORDER: &str = "tenant,event_hash,source,id,feature,user_key,user,time,received,value,latency_ms,data,lane,epoch,seq,idx,intent,pack,expires_at,incarnation,charges";

/// Columns that [`RemovedRow::encode`] writes, in its order.
pub(crate) const REMOVED_ORDER: &str = "tenant,lane,epoch,seq,idx,intent,reason,event_hash,at,pack";

/// Columns that [`ChargeRow::encode`] writes, in its order.
pub(crate) const CHARGE_ORDER: &str = "tenant,key,incarnation,lane,epoch,intent,at,stored,repeated";

impl RawRow<'_> {
    /// Bytes of a row without its texts and charges, at most.
    pub const FIXED_BYTES: usize = 172;

    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let event = self.event;
        out.extend_from_slice(&event.tenant.0.to_le_bytes());
        out.extend_from_slice(&event.event_hash.0.to_le_bytes());
        put_text(out, event.source);
        put_text(out, event.id);
        put_text(out, event.feature);
        out.extend_from_slice(&event.user_key.0.to_le_bytes());
        put_text(out, event.user);
        out.extend_from_slice(&event.time_ms.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.extend_from_slice(&event.value.millionths().to_le_bytes());
        match event.latency_ms {
            None => out.push(1),
            Some(ms) => {
                out.push(0);
                out.extend_from_slice(&ms.to_le_bytes());
            }
        }
        put_text(out, event.data);
        put_origin(out, &self.origin);
        out.extend_from_slice(&self.pack.0.to_le_bytes());
        out.extend_from_slice(&expires_at(event).to_le_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        put_length(out, event.charges.len());
        for charge in &event.charges {
            put_text(out, charge.key);
            out.extend_from_slice(&charge.units.to_le_bytes());
        }
    }
}

/// Unix seconds until which an event is kept; the end of the type where that is later.
fn expires_at(event: &PackedEvent<'_>) -> u32 {
    let end = event.time_ms.div_euclid(1_000).saturating_add(i64::from(event.retention_days) * 86_400);
    u32::try_from(end.max(0)).unwrap_or(u32::MAX)
}

/// Why an event of a lane is not in `events_raw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The same event was stored before.
    Duplicate,
    /// It cannot be stored and went to the dead letters.
    Dead,
}

/// A row of `removed`.
#[derive(Debug, Clone, Copy)]
pub struct RemovedRow<'a> {
    /// Whose event it was.
    pub tenant: TenantNumber,
    /// Its identity.
    pub event_hash: EventHash,
    /// Why it was removed.
    pub reason: Reason,
    /// When a pod received it, in Unix milliseconds.
    pub received_ms: i64,
    /// Its pack.
    pub pack: PackId,
    /// Where it came from.
    pub origin: Origin<'a>,
}

/// A row of `charges`: what one pod charged to one quota in the packs of one intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChargeRow<'a> {
    /// Whose quota it is.
    pub tenant: TenantNumber,
    /// Key of the quota record.
    pub key: &'a str,
    /// The pod.
    pub incarnation: Incarnation,
    /// The lane.
    pub lane: &'a str,
    /// When the lane's stream was created, in Unix milliseconds.
    pub epoch: i64,
    /// The intent.
    pub intent: u64,
    /// First receipt of the intent's packs, in Unix milliseconds.
    pub received_ms: i64,
    /// Units of events that are stored.
    pub stored: u64,
    /// Units of events that were removed.
    pub repeated: u64,
}

impl ChargeRow<'_> {
    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tenant.0.to_le_bytes());
        put_text(out, self.key);
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        put_text(out, self.lane);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.intent.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.extend_from_slice(&self.stored.to_le_bytes());
        out.extend_from_slice(&self.repeated.to_le_bytes());
    }
}

impl RemovedRow<'_> {
    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tenant.0.to_le_bytes());
        put_origin(out, &self.origin);
        out.push(match self.reason {
            Reason::Duplicate => 1,
            Reason::Dead => 2,
        });
        out.extend_from_slice(&self.event_hash.0.to_le_bytes());
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.extend_from_slice(&self.pack.0.to_le_bytes());
    }
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin<'_>) {
    put_text(out, origin.lane);
    out.extend_from_slice(&origin.epoch.to_le_bytes());
    out.extend_from_slice(&origin.seq.to_le_bytes());
    out.extend_from_slice(&origin.idx.to_le_bytes());
    out.extend_from_slice(&origin.intent.to_le_bytes());
}

/// A length as LEB128.
pub(crate) fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// A text: its length, then its bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{CHARGE_COLUMNS, RAW_COLUMNS, REMOVED_COLUMNS};
    use event::decimal::Decimal;
    use event::pack::Charge;

    #[test]
    fn every_column_is_written() {
        assert_eq!(RAW_COLUMNS.map(|column| column.name).join(","), RAW_ORDER);
        assert_eq!(REMOVED_COLUMNS.map(|column| column.name).join(","), REMOVED_ORDER);
        assert_eq!(CHARGE_COLUMNS.map(|column| column.name).join(","), CHARGE_ORDER);
    }

    #[test]
    fn rows_are_written_byte_for_byte() {
        let event = PackedEvent {
            tenant: TenantNumber(1),
            retention_days: 2,
            event_hash: EventHash(2),
            user_key: event::UserKey(3),
            time_ms: 4,
            value: Decimal::from_millionths(-1),
            latency_ms: None,
            charges: vec![Charge { key: "k", units: 2 }],
            source: "",
            id: "i",
            feature: "f",
            user: "u",
            data: &"x".repeat(300),
        };
        let origin = Origin { lane: "l", epoch: 5, seq: 6, idx: 7, intent: 8 };
        let row =
            RawRow { event: &event, pack: PackId(9), incarnation: Incarnation(11), received_ms: 10, origin };
        let mut out = Vec::new();
        row.encode(&mut out);
        // 300 = 0b10_0101100: 0xAC 0x02.
        assert_eq!(out[out.len() - 77 - 300 - 2..][..2], [0xAC, 0x02]);
        assert_eq!(out[out.len() - 11..], [1, 1, b'k', 2, 0, 0, 0, 0, 0, 0, 0], "one charge of two units");
        assert!(out.len() <= RawRow::FIXED_BYTES + 300 + 3 + 11);
        assert_eq!(expires_at(&event), 2 * 86_400);
        assert_eq!(expires_at(&PackedEvent { retention_days: u32::MAX, ..event.clone() }), u32::MAX);
        let without_latency = out.len();
        out.clear();
        RawRow { event: &PackedEvent { latency_ms: Some(0), ..event.clone() }, ..row }.encode(&mut out);
        assert_eq!(out.len(), without_latency + 4);
    }
}
