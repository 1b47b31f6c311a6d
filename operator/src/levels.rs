//! How much of each tenant-wide UsageLimit is used or handed out to pods, followed in the quota ledgers: what `status.level` says.
//!
//! Only records of whole tenants under limits of namespaces are followed, one a limit. Those of users, of which there are millions, never
//! leave NATS.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use event::ids::base32;
use event::ledger_key::LedgerKey;
use event::names::{LEDGER_SHARDS, ledger_bucket};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use jetstream::{Bucket, WatchEvent};
use parking_lot::{Mutex, RwLock};
use policy::ledger::Record;
use policy::level::Level;
use policy::limit::{Limit, Per};
use policy::snapshot::Snapshot;
use policy::window::{WINDOWS, remaining_ms, zone};

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::{Failure, System};
use crate::snapshot::keys::limit_of_identity;

/// How long ledgers that exist take to be told at most; longer, and somebody should know.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// The newest record of each limit.
pub struct Levels {
    counts: RwLock<HashMap<Counter, Count>>,
    /// Buckets of which not everything was told yet.
    untold: Mutex<BTreeSet<String>>,
}

/// How much of a limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Used {
    /// It is no quota of the whole tenant.
    #[default]
    NotCounted,
    /// The ledgers were not read yet: what was said before stands.
    Unknown,
    /// So much, for at most so long unless more is used.
    Known(Level, Option<Duration>),
}

/// What is counted: a limit of a lineage, under one meaning of what it counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counter {
    lineage: String,
    epoch: String,
    identity: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    bucket: String,
    period_start_s: i64,
    used: u64,
    cap: u64,
}

impl Counter {
    fn of(key: LedgerKey<'_>) -> Self {
        let LedgerKey { lineage, epoch, identity, .. } = key;
        Self { lineage: lineage.to_owned(), epoch: epoch.to_owned(), identity: identity.to_owned() }
    }
}

impl Count {
    /// Whole percents: between two of them no level changes.
    fn percent(&self) -> u64 {
        (u128::from(self.used) * 100 / u128::from(self.cap.max(1))).min(100) as u64
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self { counts: RwLock::default(), untold: Mutex::new(buckets().collect()) }
    }
}

/// The ledgers of quotas.
fn buckets() -> impl Iterator<Item = String> {
    let windows = WINDOWS.into_iter().filter(|window| !window.is_rate());
    windows.flat_map(|window| (0..LEDGER_SHARDS).map(move |shard| ledger_bucket(window.label(), shard)))
}

impl Levels {
    /// How much of a limit is used at a moment.
    pub fn of(&self, snapshot: &Snapshot, limit: &Limit, now_ms: i64) -> Used {
        if limit.window.is_rate() || limit.per != Per::Tenant {
            return Used::NotCounted;
        }
        let Ok(zone) = zone(&snapshot.time_zone) else { return Used::NotCounted };
        if !self.untold.lock().is_empty() {
            return Used::Unknown;
        }
        let period = limit.window.period(now_ms, &zone);
        let counter = Counter {
            lineage: snapshot.lineage.clone(),
            epoch: limit.epoch.clone(),
            identity: limit.identity.clone(),
        };
        let counted = self.counts.read().get(&counter).cloned();
        let used = counted
            .filter(|count| count.period_start_s == period.start_ms.div_euclid(1_000))
            .map_or(0, |count| count.used);
        let level = Level::of(used, limit.max, &limit.warn_at);
        let ends =
            (level != Level::Normal && period.end_ms < i64::MAX).then(|| remaining_ms(&period, now_ms));
        Used::Known(level, ends.map(Duration::from_millis))
    }

    /// Everything of this bucket is about to be told anew: what it said is void.
    fn begin(&self, bucket: &str) {
        self.untold.lock().insert(bucket.to_owned());
        self.counts.write().retain(|_, count| count.bucket != bucket);
    }

    /// Everything of it was told; whether that was the last one.
    fn told(&self, bucket: &str) -> bool {
        let mut untold = self.untold.lock();
        untold.remove(bucket) && untold.is_empty()
    }

    /// A record is gone.
    fn remove(&self, key: &str) {
        let Some(key) = LedgerKey::parse(key) else { return };
        let mut known = self.counts.write();
        // That of an earlier period says nothing of this one.
        if let Entry::Occupied(count) = known.entry(Counter::of(key))
            && count.get().period_start_s == key.period_start_s
        {
            count.remove();
        }
    }

    /// Takes a record over; the limit about which something else may be to be said.
    fn put(&self, bucket: &str, key: &str, record: &Record) -> Option<ObjectKey> {
        let key = LedgerKey::parse(key)?;
        let counter = Counter::of(key);
        let count = Count {
            bucket: bucket.to_owned(),
            period_start_s: key.period_start_s,
            // Pods hold what they use within two seconds, and say only later what of it they have used.
            used: record.used.saturating_add(record.held()),
            cap: record.cap,
        };
        let mut known = self.counts.write();
        // Events of yesterday are charged to yesterday's record.
        if known.get(&counter).is_some_and(|old| old.period_start_s > count.period_start_s) {
            return None;
        }
        let percent = count.percent();
        let old = known.insert(counter, count);
        (old.is_none_or(|old| old.percent() != percent)).then(|| limit_of_identity(key.identity)).flatten()
    }
}

/// Follows the ledgers for ever.
///
/// # Errors
/// When the watches end.
pub async fn run(ctx: &Context) -> Result<(), Failure> {
    // Lineage, epoch and period are any; the whole tenant; a limit of a namespace.
    let wanted = format!("*.*.*.{}.ns.>", base32(0));
    let watches = buckets().map(|name| {
        let watch = Bucket::named(&ctx.nats, &name).watch_matching(&wanted);
        watch.map(move |event| (name.clone(), event)).boxed()
    });
    let mut events = select_all(watches);
    let mut patience = std::pin::pin!(tokio::time::sleep(TOLD_WITHIN));
    let mut patient = true;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some((bucket, event)) => take(ctx, &bucket, event),
                None => break,
            },
            () = &mut patience, if patient => {
                patient = false;
                let untold = ctx.levels.untold.lock().clone();
                if !untold.is_empty() {
                    tracing::warn!(?untold, "levels of limits stay as they are: may our user at NATS watch these ledgers?");
                }
            }
        }
    }
    Err(Failure::unknown(System::Nats, "the watches on quota ledgers ended"))
}

fn take(ctx: &Context, bucket: &str, event: WatchEvent) {
    match event {
        WatchEvent::Put(entry) => {
            let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else { return };
            if let Some(limit) = ctx.levels.put(bucket, &entry.key, &record) {
                ctx.queues.usage_limit.add(limit);
            }
        }
        WatchEvent::Delete { key, .. } => ctx.levels.remove(&key),
        WatchEvent::Reset => ctx.levels.begin(bucket),
        WatchEvent::Synced { .. } => {
            if ctx.levels.told(bucket) {
                ctx.caches
                    .limits
                    .list()
                    .iter()
                    .for_each(|limit| ctx.queues.usage_limit.add(ObjectKey::of(limit.as_ref())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Incarnation;
    use policy::ledger::{Holder, Terms};

    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;

    fn record(used: u64) -> Record {
        let terms = Terms { cap: 10, cap_generation: 1, ledger_id: "a" };
        let holder = Holder { held: 1, ..Holder::default() };
        Record { used: used - 1, holders: [(Incarnation(7), holder)].into(), ..Record::new(&terms) }
    }

    #[test]
    fn a_level_follows_the_record_of_the_current_period() {
        let levels = Levels::default();
        let snapshot = snapshot_of(&[("ns.acme.x", 10)]);
        let limit = Limit { warn_at: vec![80], ..snapshot.limits[0].clone() };
        let day = 86_400_000_i64;
        let key = |day: i64| {
            format!("{}.{}.{}.{}.ns.acme.x", snapshot.lineage, limit.epoch, day * 86_400, base32(0))
        };
        let known = |level, ends: Option<u64>| Used::Known(level, ends.map(Duration::from_secs));
        let at = |now_ms| levels.of(&snapshot, &limit, now_ms);
        assert_eq!(at(day), Used::Unknown, "what is not read yet is not said to be nothing");
        assert_eq!(buckets().filter(|bucket| levels.told(bucket)).count(), 1, "the last one ends it");
        assert_eq!(at(day), known(Level::Normal, None));
        let moved = levels.put("ledger-day-0", &key(1), &record(8));
        assert_eq!(moved, Some(ObjectKey { namespace: "acme".into(), name: "x".into() }));
        assert_eq!(levels.put("ledger-day-0", &key(1), &record(8)), None, "the same is no news");
        assert_eq!(at(day + 1_000), known(Level::Warned(80), Some(86_399)));
        let yesterday = levels.put("ledger-day-1", &key(0), &record(10));
        assert_eq!(yesterday, None, "yesterday's record says nothing of today");
        assert_eq!(at(2 * day), known(Level::Normal, None), "a new day begins with nothing");
        levels.begin("ledger-day-0");
        assert_eq!(at(day + 1_000), Used::Unknown);
        assert!(levels.told("ledger-day-0"));
        assert_eq!(at(day + 1_000), known(Level::Normal, None));
        levels.put("ledger-day-0", &key(1), &record(8));
        levels.remove(&key(0));
        assert_eq!(at(day + 1_000), known(Level::Warned(80), Some(86_399)), "yesterday's record was another");
        levels.remove(&key(1));
        assert_eq!(at(day + 1_000), known(Level::Normal, None));
    }
}
