//! Finding events that were stored before, by identity and never by time.
//!
//! The memory holds ids of the lane's last days. It only ever *suspects*: an id that it knows is looked up in ClickHouse
//! before the event is removed, and an id that it does not know is looked up unless the memory is known to be complete for
//! the whole horizon. So what is removed is right whatever the memory holds; a small memory costs queries, not truth.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clickhouse::Day;
use event::TenantNumber;

use crate::batch::{Batch, Id};
use crate::removed::Removed;

/// What an id costs, with the table's slack.
const ID_BYTES: usize = 40;
const DAY_MS: i64 = 86_400_000;

/// Memory that all lanes of the process share.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
}

impl MemoryBudget {
    /// Of this many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, ids: usize) -> bool {
        let take = |used: usize| used.checked_add(ids * ID_BYTES).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self, ids: usize) {
        self.used.fetch_sub(ids * ID_BYTES, Ordering::Relaxed);
    }
}

/// Ids are keyed hashes: any 64 of their bits are as good as another hash of them.
#[derive(Debug, Default)]
pub struct Low64(u64);

impl Hasher for Low64 {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

type Ids = HashSet<u128, BuildHasherDefault<Low64>>;

/// Tenant and hash in one number. Two ids that fall together cost a query.
fn key(id: Id) -> u128 {
    id.hash.0 ^ (u128::from(id.tenant.0) << 64)
}

/// Ids of a lane's last days.
#[derive(Debug)]
pub struct Memory {
    budget: Arc<MemoryBudget>,
    days: BTreeMap<Day, Ids>,
    /// From this event day on every stored id is here.
    complete_from: Option<Day>,
    /// Tenants with rows in other lanes, and from which event day on their ids are here as well.
    guests: HashMap<TenantNumber, Option<Day>>,
}

impl Memory {
    /// Knows nothing yet.
    pub fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, days: BTreeMap::new(), complete_from: None, guests: HashMap::new() }
    }

    /// Whether every stored id with an event time from `since` on is here.
    pub fn covers(&self, since: Day) -> bool {
        self.complete_from.is_some_and(|from| from <= since)
    }

    /// From which day on every stored id is here.
    pub fn complete_from(&self) -> Option<Day> {
        self.complete_from
    }

    /// A tenant may have rows in other lanes from now on.
    pub fn welcome(&mut self, tenant: TenantNumber) {
        self.guests.insert(tenant, None);
    }

    /// Other lanes decide about a tenant from now on: what is here of it may be behind.
    pub fn dismiss(&mut self, tenant: TenantNumber) {
        self.guests.remove(&tenant);
    }

    /// Tenants of which ids in other lanes are not here, from `since` on.
    pub fn strangers(&self, since: Day) -> Vec<TenantNumber> {
        self.guests.keys().copied().filter(|tenant| self.is_strange(*tenant, since)).collect()
    }

    fn is_strange(&self, tenant: TenantNumber, since: Day) -> bool {
        self.guests.get(&tenant).is_some_and(|from| from.is_none_or(|from| from > since))
    }

    /// Takes over what is stored of a tenant in other lanes with an event day from `from` on. Returns `false`, and knows no more than
    /// before, when there is no room.
    pub fn introduce(&mut self, tenant: TenantNumber, from: Day, ids: &[(Day, Id)]) -> bool {
        let room = self.covers(from) && self.take(ids);
        if room && let Some(known) = self.guests.get_mut(&tenant) {
            *known = Some(from);
        }
        room
    }

    fn contains(&self, key: u128) -> bool {
        self.days.values().any(|ids| ids.contains(&key))
    }

    /// Takes over everything that is stored with an event day from `from` up to the day from which it was complete.
    /// Returns `false`, and stays as complete as it was, when there is no room.
    pub fn load(&mut self, from: Day, ids: &[(Day, Id)]) -> bool {
        let room = self.take(ids);
        if room {
            self.complete_from = Some(self.complete_from.map_or(from, |known| known.min(from)));
        }
        room
    }

    fn take(&mut self, ids: &[(Day, Id)]) -> bool {
        if !self.budget.take(ids.len()) {
            return false;
        }
        let mut repeated = 0;
        for (day, id) in ids {
            repeated += usize::from(!self.days.entry(*day).or_default().insert(key(*id)));
        }
        self.budget.give_back(repeated);
        true
    }

    /// Remembers what was stored just now. Without room the oldest days go.
    pub fn remember(&mut self, stored: impl IntoIterator<Item = (Day, Id)>) {
        for (day, id) in stored {
            // A day that is not complete is asked for anyway.
            while self.covers(day) {
                if !self.budget.take(1) {
                    self.forget_oldest();
                } else {
                    if !self.days.entry(day).or_default().insert(key(id)) {
                        self.budget.give_back(1);
                    }
                    break;
                }
            }
        }
    }

    /// Drops days before the horizon.
    pub fn forget_before(&mut self, since: Day) {
        let kept = self.days.split_off(&since);
        let dropped = std::mem::replace(&mut self.days, kept);
        self.budget.give_back(dropped.values().map(HashSet::len).sum());
    }

    fn forget_oldest(&mut self) {
        let dropped = self.days.pop_first();
        self.budget.give_back(dropped.as_ref().map_or(0, |(_, ids)| ids.len()));
        // With nothing of its own left to give, the lane remembers nothing.
        self.complete_from = dropped.and_then(|(day, _)| day.next());
        // What is loaded again is of this lane alone.
        self.guests.values_mut().for_each(|from| *from = None);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.give_back(self.days.values().map(HashSet::len).sum());
    }
}

/// A batch, before ClickHouse was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspects {
    /// Ids to look up, each once.
    pub ask: Vec<Id>,
    /// Event time from which on to look, in Unix milliseconds.
    pub since_ms: i64,
    /// First day of the horizon.
    pub since: Option<Day>,
}

/// Which ids of a batch must be looked up. `horizon_days`: window of event times and one day more.
pub fn suspects(batch: &Batch<'_>, memory: &Memory, horizon_days: u32) -> Suspects {
    let horizon_ms = i64::from(horizon_days) * DAY_MS;
    let since = batch.received_ms().and_then(|ms| Day::of(ms.saturating_sub(horizon_ms)));
    let complete = since.is_some_and(|since| memory.covers(since));
    let mut since_ms = since.map_or(i64::MAX, Day::start_ms);
    let mut ask = Vec::new();
    for place in batch.places().filter(|place| !place.dead) {
        // Backfilled events lie before the horizon; a repetition of one has the same time.
        let old = since.is_none_or(|since| place.day < since);
        if old {
            since_ms = since_ms.min(place.day.start_ms());
        }
        let strange = since.is_some_and(|since| memory.is_strange(place.event.tenant, since));
        if old || !complete || strange || memory.contains(key(place.id())) {
            ask.push(place.id());
        }
    }
    ask.sort_unstable();
    ask.dedup();
    Suspects { ask, since_ms, since }
}

/// Which events of a batch are not stored: duplicates of a stored one (`known`) or of an earlier one in the batch, and dead ones.
pub fn removed(batch: &Batch<'_>, known: &HashSet<Id>) -> Removed {
    let mut first: HashMap<Id, u32> = HashMap::with_capacity(batch.len() as usize);
    batch
        .places()
        .filter_map(|place| {
            if place.dead {
                return Some(place.ordinal);
            }
            let repeated = first.insert(place.id(), place.ordinal).is_some();
            (repeated || known.contains(&place.id())).then_some(place.ordinal)
        })
        .collect()
}

#[cfg(test)]
#[path = "dedup_tests.rs"]
mod tests;
