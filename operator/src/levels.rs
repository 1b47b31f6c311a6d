//! How much of each tenant-wide UsageLimit is used, followed in the quota ledgers: what `status.level` says.
//!
//! Only records of whole tenants under limits of namespaces are followed, one a limit. Those of users, of which there are millions, never
//! leave NATS.

use std::collections::HashMap;
use std::time::Duration;

use event::ids::base32;
use event::ledger_key::LedgerKey;
use event::names::{LEDGER_SHARDS, ledger_bucket};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use jetstream::{Bucket, WatchEvent};
use parking_lot::RwLock;
use policy::ledger::Record;
use policy::level::Level;
use policy::limit::{Limit, Per};
use policy::snapshot::Snapshot;
use policy::window::{WINDOWS, remaining_ms, zone};

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::{Failure, System};
use crate::snapshot::keys::limit_of_identity;

/// The newest record of each limit.
#[derive(Default)]
pub struct Levels(RwLock<HashMap<Counter, Count>>);

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

impl Count {
    /// Whole percents: between two of them no level changes.
    fn percent(&self) -> u64 {
        (u128::from(self.used) * 100 / u128::from(self.cap.max(1))).min(100) as u64
    }
}

impl Levels {
    /// How much of a limit is used at a moment, and for how long that holds unless more is used. `None`: it is no
    /// quota of the whole tenant.
    pub fn of(&self, snapshot: &Snapshot, limit: &Limit, now_ms: i64) -> Option<(Level, Option<Duration>)> {
        if limit.window.is_rate() || limit.per != Per::Tenant {
            return None;
        }
        let period = limit.window.period(now_ms, &zone(&snapshot.time_zone).ok()?);
        let counter = Counter {
            lineage: snapshot.lineage.clone(),
            epoch: limit.epoch.clone(),
            identity: limit.identity.clone(),
        };
        let counted = self.0.read().get(&counter).cloned();
        let used = counted
            .filter(|count| count.period_start_s == period.start_ms.div_euclid(1_000))
            .map_or(0, |count| count.used);
        let level = Level::of(used, limit.max, &limit.warn_at);
        let ends =
            (level != Level::Normal && period.end_ms < i64::MAX).then(|| remaining_ms(&period, now_ms));
        Some((level, ends.map(Duration::from_millis)))
    }

    /// Takes a record over; the limit about which something else may be to be said.
    fn put(&self, bucket: &str, key: &str, record: &Record) -> Option<ObjectKey> {
        let key = LedgerKey::parse(key)?;
        let counter = Counter {
            lineage: key.lineage.to_owned(),
            epoch: key.epoch.to_owned(),
            identity: key.identity.to_owned(),
        };
        let count = Count {
            bucket: bucket.to_owned(),
            period_start_s: key.period_start_s,
            used: record.used,
            cap: record.cap,
        };
        let mut known = self.0.write();
        // Events of yesterday are charged to yesterday's record.
        if known.get(&counter).is_some_and(|old| old.period_start_s > count.period_start_s) {
            return None;
        }
        let percent = count.percent();
        let old = known.insert(counter, count);
        (old.is_none_or(|old| old.percent() != percent)).then(|| limit_of_identity(key.identity)).flatten()
    }

    /// A bucket was made anew: what it said is void.
    fn forget(&self, bucket: &str) {
        self.0.write().retain(|_, count| count.bucket != bucket);
    }
}

/// Follows the ledgers for ever.
///
/// # Errors
/// When the watches end.
pub async fn run(ctx: &Context) -> Result<(), Failure> {
    // Lineage, epoch and period are any; the whole tenant; a limit of a namespace.
    let wanted = format!("*.*.*.{}.ns.>", base32(0));
    let mut watches = Vec::new();
    for window in WINDOWS.into_iter().filter(|window| !window.is_rate()) {
        for shard in 0..LEDGER_SHARDS {
            let name = ledger_bucket(window.label(), shard);
            let watch = Bucket::named(&ctx.nats, &name).watch_matching(&wanted);
            watches.push(watch.map(move |event| (name.clone(), event)).boxed());
        }
    }
    let mut events = select_all(watches);
    while let Some((bucket, event)) = events.next().await {
        match event {
            WatchEvent::Put(entry) => {
                let Ok(record) = serde_json::from_slice::<Record>(&entry.value) else { continue };
                if let Some(limit) = ctx.levels.put(&bucket, &entry.key, &record) {
                    ctx.queues.usage_limit.add(limit);
                }
            }
            WatchEvent::Reset => ctx.levels.forget(&bucket),
            WatchEvent::Delete { .. } | WatchEvent::Synced { .. } => {}
        }
    }
    Err(Failure::unknown(System::Nats, "the watches on quota ledgers ended"))
}

#[cfg(test)]
mod tests {
    use policy::ledger::Terms;

    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;

    fn record(used: u64) -> Record {
        let terms = Terms { cap: 10, cap_generation: 1, ledger_id: "a" };
        Record { used, ..Record::new(&terms) }
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
        let at =
            |now_ms| levels.of(&snapshot, &limit, now_ms).map(|(level, again)| (level.to_string(), again));
        assert_eq!(at(day), Some(("Normal".to_owned(), None)));
        let moved = levels.put("ledger-day-0", &key(1), &record(8));
        assert_eq!(moved, Some(ObjectKey { namespace: "acme".into(), name: "x".into() }));
        assert_eq!(levels.put("ledger-day-0", &key(1), &record(8)), None, "the same is no news");
        assert_eq!(at(day + 1_000), Some(("80%".to_owned(), Some(Duration::from_secs(86_399)))));
        assert_eq!(
            levels.put("ledger-day-1", &key(0), &record(10)),
            None,
            "yesterday's record says nothing of today"
        );
        assert_eq!(at(2 * day), Some(("Normal".to_owned(), None)), "a new day begins with nothing");
        levels.forget("ledger-day-0");
        assert_eq!(at(day + 1_000), Some(("Normal".to_owned(), None)));
    }
}
