//! The pack: what one message of a lane stream holds. Concurrent requests of a lane share one, so one durable write
//! acknowledges them all.
//!
//! Layout, version 2. Integers are little-endian; `str` is a `u32` length and UTF-8 bytes.
//!
//! ```text
//! magic        4 bytes  "MPPK"
//! version      u8       2
//! pack id      16 bytes
//! incarnation  16 bytes  the pod that admitted the events
//! received     i64       Unix milliseconds; decides the quota period
//! tenants      u16, then (u64 tenant number, u32 days for which its events are kept) each
//! keys         u16, then str each: ledger keys that were charged
//! events       u32, then each:
//!   tenant     u16       index into tenants
//!   event hash 16 bytes
//!   user key   16 bytes
//!   time       i64       Unix milliseconds
//!   value      i64       millionths
//!   latency    u32       milliseconds + 1; 0 = none
//!   charges    u8, then (u16 index into keys, u64 units) each
//!   source, id, feature, user, data   str each; the plain user stands nowhere else
//! ```
//! A reader accepts [`VERSION`] and the one before, once two were released (version 1 was not: it knew no days); a pack of any other
//! version stops the lane instead of being dropped.

use std::collections::HashMap;

use crate::decimal::Decimal;
use crate::ids::{EventHash, Incarnation, PackId, TenantNumber, UserKey};

/// The version that is written.
pub const VERSION: u8 = 2;
const MAGIC: &[u8; 4] = b"MPPK";
/// Size at which a pack is closed: one Raft entry of the stream holds it.
pub const TARGET_BYTES: usize = 256 * 1024;

/// Units of a quota that an event was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge<'a> {
    /// Key of the quota record.
    pub key: &'a str,
    /// Units taken.
    pub units: u64,
}

/// One event inside a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedEvent<'a> {
    /// Whose event it is.
    pub tenant: TenantNumber,
    /// Days after its time for which it is kept, as the tenant's policy was when it was admitted; a pool's rows go by it.
    pub retention_days: u32,
    /// Identity within the tenant.
    pub event_hash: EventHash,
    /// The user's pseudonym.
    pub user_key: UserKey,
    /// Event time, Unix milliseconds.
    pub time_ms: i64,
    /// `data.value`.
    pub value: Decimal,
    /// `data.latencyMs`.
    pub latency_ms: Option<u32>,
    /// What the event was charged.
    pub charges: Vec<Charge<'a>>,
    /// CloudEvents `source`.
    pub source: &'a str,
    /// CloudEvents `id`.
    pub id: &'a str,
    /// CloudEvents `type`.
    pub feature: &'a str,
    /// CloudEvents `subject`, empty when absent.
    pub user: &'a str,
    /// `data` as JSON text.
    pub data: &'a str,
}

/// Events encoded so far, without the head that names the pack: requests append to it until it is sealed.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    tenants: Vec<(TenantNumber, u32)>,
    counts: Vec<u32>,
    keys: Vec<String>,
    key_places: HashMap<String, u16>,
    events: u32,
    body: Vec<u8>,
}

impl Writer {
    /// Number of events appended.
    pub fn len(&self) -> u32 {
        self.events
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Bytes of the events so far.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Appends one event.
    pub fn push(&mut self, event: &PackedEvent<'_>) {
        let tenant = self.tenant_index((event.tenant, event.retention_days));
        self.counts[tenant as usize] += 1;
        let out = &mut self.body;
        out.extend_from_slice(&tenant.to_le_bytes());
        out.extend_from_slice(&event.event_hash.0.to_le_bytes());
        out.extend_from_slice(&event.user_key.0.to_le_bytes());
        out.extend_from_slice(&event.time_ms.to_le_bytes());
        out.extend_from_slice(&event.value.millionths().to_le_bytes());
        let latency = event.latency_ms.map_or(0, |ms| ms.saturating_add(1));
        out.extend_from_slice(&latency.to_le_bytes());
        // An event matches at most a tenant's few dozen limits; the compiler bounds them below 256.
        let charges = &event.charges[..event.charges.len().min(usize::from(u8::MAX))];
        out.push(charges.len() as u8);
        for charge in charges {
            let key = match self.key_places.get(charge.key) {
                Some(place) => *place,
                None => {
                    let place = self.keys.len() as u16;
                    self.keys.push(charge.key.to_owned());
                    self.key_places.insert(charge.key.to_owned(), place);
                    place
                }
            };
            self.body.extend_from_slice(&key.to_le_bytes());
            self.body.extend_from_slice(&charge.units.to_le_bytes());
        }
        for text in [event.source, event.id, event.feature, event.user, event.data] {
            put_str(&mut self.body, text);
        }
        self.events += 1;
    }

    /// Whether an event was charged to a quota that never starts anew.
    pub fn charges_totals(&self) -> bool {
        self.keys.iter().any(|key| crate::ledger_key::is_total(key))
    }

    /// Value of the `Mp-Counts` header: `<tenant number>=<events>,…`.
    pub fn counts_header(&self) -> String {
        let pairs: Vec<String> = self
            .tenants
            .iter()
            .zip(&self.counts)
            .map(|((tenant, _), count)| format!("{tenant}={count}"))
            .collect();
        pairs.join(",")
    }

    /// Gives the pack its identity and returns its bytes.
    pub fn seal(self, id: PackId, incarnation: Incarnation, received_ms: i64) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(64 + self.body.len() + self.keys.iter().map(|k| k.len() + 4).sum::<usize>());
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&id.0.to_le_bytes());
        out.extend_from_slice(&incarnation.0.to_le_bytes());
        out.extend_from_slice(&received_ms.to_le_bytes());
        out.extend_from_slice(&(self.tenants.len() as u16).to_le_bytes());
        for (tenant, days) in &self.tenants {
            out.extend_from_slice(&tenant.0.to_le_bytes());
            out.extend_from_slice(&days.to_le_bytes());
        }
        out.extend_from_slice(&(self.keys.len() as u16).to_le_bytes());
        for key in &self.keys {
            put_str(&mut out, key);
        }
        out.extend_from_slice(&self.events.to_le_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    fn tenant_index(&mut self, tenant: (TenantNumber, u32)) -> u16 {
        let at = self.tenants.iter().position(|known| *known == tenant).unwrap_or_else(|| {
            self.tenants.push(tenant);
            self.counts.push(0);
            self.tenants.len() - 1
        });
        at as u16
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A pack as read from a stream, borrowing from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack<'a> {
    /// Identity of the pack.
    pub id: PackId,
    /// The pod that wrote it.
    pub incarnation: Incarnation,
    /// Receipt time, Unix milliseconds.
    pub received_ms: i64,
    /// The events in the order of admission; an event's place here is its `idx` in storage.
    pub events: Vec<PackedEvent<'a>>,
}

/// Reads [`Writer::counts_header`]: events by tenant. What is not of that form counts nothing.
pub fn read_counts(header: &str) -> impl Iterator<Item = (TenantNumber, u64)> {
    let pairs = header.split(',').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(tenant, count)| Some((TenantNumber(tenant.parse().ok()?), count.parse().ok()?)))
}

/// Why bytes are not a pack that this build can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Not a pack at all.
    #[error("the message does not begin with the pack magic")]
    NotAPack,
    /// Written by a build that this one does not understand: upgrade this process.
    #[error("pack version {0} is not supported (this build reads version {VERSION})")]
    UnknownVersion(u8),
    /// Cut short or inconsistent.
    #[error("the pack is damaged at byte {0}")]
    Damaged(usize),
}

impl<'a> Pack<'a> {
    /// Reads a pack.
    ///
    /// # Errors
    /// [`PackError`] when the bytes are not a whole pack of a known version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PackError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4).ok() != Some(MAGIC.as_slice()) {
            return Err(PackError::NotAPack);
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(PackError::UnknownVersion(version));
        }
        let id = PackId(reader.u128()?);
        let incarnation = Incarnation(reader.u128()?);
        let received_ms = reader.i64()?;
        let tenants = (0..reader.u16()?)
            .map(|_| Ok((TenantNumber(reader.u64()?), reader.u32()?)))
            .collect::<Result<Vec<_>, PackError>>()?;
        let keys = (0..reader.u16()?).map(|_| reader.str()).collect::<Result<Vec<_>, _>>()?;
        let events =
            (0..reader.u32()?).map(|_| reader.event(&tenants, &keys)).collect::<Result<Vec<_>, _>>()?;
        if reader.at == bytes.len() {
            Ok(Self { id, incarnation, received_ms, events })
        } else {
            Err(PackError::Damaged(reader.at))
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! number {
    ($name:ident) => {
        fn $name(&mut self) -> Result<$name, PackError> {
            let at = self.at;
            let bytes = self.take(std::mem::size_of::<$name>())?;
            bytes.try_into().map($name::from_le_bytes).map_err(|_| PackError::Damaged(at))
        }
    };
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], PackError> {
        let slice = self.bytes.get(self.at..self.at.saturating_add(n)).ok_or(PackError::Damaged(self.at))?;
        self.at += n;
        Ok(slice)
    }

    number!(u8);
    number!(u16);
    number!(u32);
    number!(u64);
    number!(i64);
    number!(u128);

    fn str(&mut self) -> Result<&'a str, PackError> {
        let length = self.u32()? as usize;
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|_| PackError::Damaged(at))
    }

    fn event(
        &mut self,
        tenants: &[(TenantNumber, u32)],
        keys: &[&'a str],
    ) -> Result<PackedEvent<'a>, PackError> {
        let damaged = PackError::Damaged(self.at);
        let (tenant, retention_days) =
            *tenants.get(usize::from(self.u16()?)).ok_or_else(|| damaged.clone())?;
        let event_hash = EventHash(self.u128()?);
        let user_key = UserKey(self.u128()?);
        let time_ms = self.i64()?;
        let value = Decimal::from_millionths(self.i64()?);
        let latency_ms = self.u32()?.checked_sub(1);
        let charges = (0..self.u8()?)
            .map(|_| {
                let key = *keys.get(usize::from(self.u16()?)).ok_or_else(|| damaged.clone())?;
                Ok(Charge { key, units: self.u64()? })
            })
            .collect::<Result<Vec<_>, PackError>>()?;
        let (source, id, feature) = (self.str()?, self.str()?, self.str()?);
        let (user, data) = (self.str()?, self.str()?);
        Ok(PackedEvent {
            tenant,
            retention_days,
            event_hash,
            user_key,
            time_ms,
            value,
            latency_ms,
            charges,
            source,
            id,
            feature,
            user,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tenant: u64, id: &'static str, charges: Vec<Charge<'static>>) -> PackedEvent<'static> {
        PackedEvent {
            tenant: TenantNumber(tenant),
            retention_days: 90,
            event_hash: EventHash(7),
            user_key: UserKey(u128::MAX),
            time_ms: -1,
            value: Decimal::from_millionths(-2_500_000),
            latency_ms: Some(0),
            charges,
            source: "app",
            id,
            feature: "report.export",
            user: "änn 😀",
            data: r#"{"value":-2.5}"#,
        }
    }

    fn sample() -> (Vec<PackedEvent<'static>>, Writer) {
        let charge = |key, units| Charge { key, units };
        let events = vec![
            event(1, "a", vec![charge("k1", 1), charge("k2", u64::MAX)]),
            event(u64::MAX, "b", vec![]),
            PackedEvent { latency_ms: None, user: "", ..event(1, "c", vec![charge("k1", 3)]) },
        ];
        let mut writer = Writer::default();
        events.iter().for_each(|event| writer.push(event));
        (events, writer)
    }

    #[test]
    fn packs_survive_the_wire() {
        let (events, writer) = sample();
        assert_eq!(writer.counts_header(), format!("1=2,{}=1", u64::MAX));
        let bytes = writer.seal(PackId(5), Incarnation(6), 1_700_000_000_000);
        let pack = Pack::decode(&bytes).unwrap();
        assert_eq!(
            (pack.id, pack.incarnation, pack.received_ms),
            (PackId(5), Incarnation(6), 1_700_000_000_000)
        );
        assert_eq!(pack.events, events);
    }

    #[test]
    fn damaged_packs_are_refused_wherever_they_are_cut() {
        let bytes = sample().1.seal(PackId(5), Incarnation(6), 0);
        for end in 0..bytes.len() {
            assert!(Pack::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Pack::decode(&longer), Err(PackError::Damaged(bytes.len())));
        let mut newer = bytes;
        newer[4] = 9;
        assert_eq!(Pack::decode(&newer), Err(PackError::UnknownVersion(9)));
        assert_eq!(Pack::decode(b"hello"), Err(PackError::NotAPack));
    }

    #[test]
    fn the_wire_form_of_version_2_is_fixed() {
        let mut writer = Writer::default();
        writer.push(&event(1, "a", vec![Charge { key: "k", units: 2 }]));
        let bytes = writer.seal(PackId(1), Incarnation(2), 3);
        let hash = blake3::hash(&bytes).to_hex();
        assert_eq!(
            (bytes.len(), &hash[..16]),
            (GOLDEN.0, GOLDEN.1),
            "the layout changed: that is a new version"
        );
    }

    const GOLDEN: (usize, &str) = (195, "ba39c322296769e6");
}
