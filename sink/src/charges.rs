//! What pods charged to quotas that never start anew: one row a key, pod and intent, by which dead pods are settled and repeated
//! events give their units back.
//!
//! A pod charges each pack once. So a pack that landed twice counts once, and the second landing is told by what the first one
//! left behind: all of its events were stored or removed before, under the same pack id. Which packs those are is recorded with
//! the intent, because a replay must not ask again.

use std::collections::{BTreeMap, HashMap, HashSet};

use clickhouse::Day;
use clickhouse::rows::ChargeRow;
use clickhouse::schema::Table;
use event::pack::Pack;
use event::{Incarnation, PackId, TenantNumber};

use crate::batch::{Batch, Id};
use crate::blocks::{Block, Writer};
use crate::removed::Removed;

/// A pack that may have landed before: every event of it was stored before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubtful {
    /// Its sequence.
    pub seq: u64,
    /// The pack.
    pub pack: PackId,
    /// Its first event: wherever the pack landed, that one was stored or removed.
    pub first: Id,
    /// The event's day.
    pub day: Day,
    /// When a pod received it, in Unix milliseconds.
    pub received_ms: i64,
}

/// Units charged to one key by one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Units {
    stored: u64,
    repeated: u64,
}

fn charges_totals(pack: &Pack<'_>) -> bool {
    pack.events.iter().flat_map(|event| &event.charges).any(|charge| event::ledger_key::is_total(charge.key))
}

/// Packs of the batch that charge quotas which never start anew, and of which nothing was stored.
pub fn doubtful(batch: &Batch<'_>, removed: &Removed) -> Vec<Doubtful> {
    let gone = |ordinal: u32, pack: &Pack<'_>| {
        (ordinal..).zip(&pack.events).all(|(ordinal, _)| removed.contains(ordinal))
    };
    let doubtful = |(seq, ordinal, pack): (u64, u32, &Pack<'_>)| {
        let first = pack.events.first().filter(|_| gone(ordinal, pack) && charges_totals(pack))?;
        let id = Id { tenant: first.tenant, hash: first.event_hash };
        let day = Day::of(first.time_ms)?;
        Some(Doubtful { seq, pack: pack.id, first: id, day, received_ms: pack.received_ms })
    };
    batch.packs().filter_map(doubtful).collect()
}

/// Which of the `doubtful` landed before: earlier in the batch, or as ClickHouse knows (`landed`). Places in the range from `lo`
/// on.
pub fn again(batch: &Batch<'_>, lo: u64, doubtful: &[Doubtful], landed: &HashSet<PackId>) -> Removed {
    if doubtful.is_empty() {
        return Removed::default();
    }
    let mut first: HashMap<PackId, u64> = HashMap::new();
    for (seq, _, pack) in batch.packs() {
        first.entry(pack.id).or_insert(seq);
    }
    let before = |one: &&Doubtful| {
        landed.contains(&one.pack) || first.get(&one.pack).is_some_and(|first| *first < one.seq)
    };
    doubtful.iter().filter(before).map(|one| place(one.seq, lo)).collect()
}

/// A message's place in the range from `lo` on; a range holds far fewer messages than that can count.
fn place(seq: u64, lo: u64) -> u32 {
    u32::try_from(seq.saturating_sub(lo)).unwrap_or(u32::MAX)
}

impl Writer<'_> {
    /// The block for `charges`; `None` when nothing in the batch is charged to a quota that never starts anew. `lo`: first
    /// sequence of the intent.
    pub fn charges(&self, batch: &Batch<'_>, lo: u64, removed: &Removed, again: &Removed) -> Option<Block> {
        let mut rows: BTreeMap<(TenantNumber, &str, Incarnation), Units> = BTreeMap::new();
        for place_of in batch.places().filter(|event| !again.contains(place(event.seq, lo))) {
            for charge in &place_of.event.charges {
                if !event::ledger_key::is_total(charge.key) {
                    continue;
                }
                let units =
                    rows.entry((place_of.event.tenant, charge.key, place_of.incarnation)).or_default();
                let sum =
                    if removed.contains(place_of.ordinal) { &mut units.repeated } else { &mut units.stored };
                *sum = sum.saturating_add(charge.units);
            }
        }
        let received_ms = batch.received_ms()?;
        let mut bytes = Vec::new();
        for ((tenant, key, incarnation), Units { stored, repeated }) in &rows {
            ChargeRow {
                tenant: *tenant,
                key,
                incarnation: *incarnation,
                lane: self.lane,
                epoch: self.epoch,
                intent: self.intent,
                received_ms,
                stored: *stored,
                repeated: *repeated,
            }
            .encode(&mut bytes);
        }
        let rows = rows.len() as u32;
        (rows > 0).then(|| Block { table: Table::Charges, day: None, dead: 0, rows, bytes: bytes.into() })
    }
}
