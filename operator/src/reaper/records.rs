//! Records of quotas that never start anew: which know dead pods, and putting them right by compare-and-set.

use std::collections::BTreeSet;
use std::time::Duration;

use event::Incarnation;
use event::names::{LEDGER_SHARDS, ledger_bucket};
use futures_util::{StreamExt, TryStreamExt, stream};
use jetstream::{Bucket, CasError};
use policy::ledger::Record;
use policy::window::Window;

use super::book::Charged;
use super::wards::Ward;
use crate::clock;
use crate::context::Context;
use crate::errors::{Failure, System};

/// How long a settled pod stays in its records: longer than anything that it sent can be on its way, and than it can sleep
/// without ending itself ([`policy::heartbeat::SILENT_MAX_MS`]).
const FORGET_AFTER_MS: i64 = 24 * 3_600_000;
/// Tries of one compare-and-set, and the pause between two.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// Records under way at once.
const AT_ONCE: usize = 16;

/// A record that knows pods which are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Which bucket holds it.
    pub shard: u8,
    /// Its key.
    pub key: String,
    /// The pods.
    pub pods: Vec<Incarnation>,
}

/// One of the buckets.
///
/// # Errors
/// When NATS fails, or there is none.
pub async fn bucket(ctx: &Context, shard: u8) -> Result<Bucket, Failure> {
    Ok(Bucket::open(&ctx.nats, &ledger_bucket(Window::Total.label(), shard)).await?)
}

/// Every record that knows a pod which is not among `live`.
///
/// # Errors
/// When NATS fails, or a value is no record.
pub async fn orphans(ctx: &Context, live: &BTreeSet<Incarnation>) -> Result<Vec<Orphan>, Failure> {
    let mut orphans = Vec::new();
    for shard in 0..LEDGER_SHARDS {
        for entry in bucket(ctx, shard).await?.entries().await? {
            let pods = gone(&decode(&entry.key, &entry.value)?, live);
            if !pods.is_empty() {
                orphans.push(Orphan { shard, key: entry.key, pods });
            }
        }
    }
    Ok(orphans)
}

fn gone(record: &Record, live: &BTreeSet<Incarnation>) -> Vec<Incarnation> {
    record.pods().map(|(pod, _)| pod).filter(|pod| !live.contains(pod)).collect()
}

/// Settles the dead pods of a ward in every record of it; returns the units that came back.
///
/// # Errors
/// When NATS fails.
pub async fn reap(ctx: &Context, ward: Ward, charged: &Charged) -> Result<u64, Failure> {
    let forget_ms = clock::now().as_millisecond() + FORGET_AFTER_MS;
    let mut buckets = Vec::new();
    for shard in 0..LEDGER_SHARDS {
        buckets.push(bucket(ctx, shard).await?);
    }
    let with_bucket: Vec<(Bucket, Orphan)> = ward
        .orphans
        .into_iter()
        .filter_map(|(_, orphan)| Some((buckets.get(usize::from(orphan.shard))?.clone(), orphan)))
        .collect();
    stream::iter(with_bucket)
        .map(|(bucket, orphan)| async move {
            change(&bucket, &orphan.key, |record| reaped(record, &orphan, charged, forget_ms)).await
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(0, |sum, changed| async move {
            let back = changed.map_or(0, |(before, after)| after.free().saturating_sub(before.free()));
            Ok(sum + back)
        })
        .await
}

/// The record without what its dead pods held; `None` when all of them were settled before.
fn reaped(record: &Record, orphan: &Orphan, charged: &Charged, forget_ms: i64) -> Option<Record> {
    let mut next: Option<Record> = None;
    for pod in &orphan.pods {
        let units = charged.get(&(orphan.key.clone(), *pod)).copied().unwrap_or(0);
        next = next.as_ref().unwrap_or(record).reap(*pod, units, forget_ms).or(next);
    }
    next
}

/// Changes a record by compare-and-set; what it was and is, or `None` when there is nothing to change.
///
/// # Errors
/// When NATS fails, or others keep changing it.
pub async fn change(
    bucket: &Bucket,
    key: &str,
    next: impl Fn(&Record) -> Option<Record>,
) -> Result<Option<(Record, Record)>, Failure> {
    for _ in 0..TRIES {
        let Some(entry) = bucket.get(key).await?.filter(|entry| !entry.deleted) else { return Ok(None) };
        let record = decode(key, &entry.value)?;
        let Some(next) = next(&record) else { return Ok(None) };
        let value = serde_json::to_vec(&next).map_err(|error| defect(key, &error))?;
        match bucket.update(key, value.into(), entry.revision).await {
            Ok(_) => return Ok(Some((record, next))),
            // Somebody else's write, or this one's whose answer was lost: the next look tells.
            Err(CasError::Conflict | CasError::Unknown(_)) => tokio::time::sleep(PAUSE).await,
            Err(error @ CasError::Refused(_)) => return Err(error.into()),
        }
    }
    Err(Failure::unknown(System::Nats, format!("record {key} keeps changing")))
}

fn decode(key: &str, value: &[u8]) -> Result<Record, Failure> {
    serde_json::from_slice(value).map_err(|error| defect(key, &error))
}

fn defect(key: &str, error: &serde_json::Error) -> Failure {
    Failure::Defect { system: System::Nats, detail: format!("record {key}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::ledger::{Holder, Terms};

    #[test]
    fn the_dead_pods_of_a_record_are_settled_together_and_once() {
        let terms = Terms { cap: 100, cap_generation: 1, ledger_id: "l" };
        let holder = |held, spent| Holder { held, last_op: 3, spent, expires_ms: None };
        let (a, b, c) = (Incarnation(1), Incarnation(2), Incarnation(3));
        let holders = [(a, holder(20, 5)), (b, holder(0, 10)), (c, holder(30, 0))].into();
        let record = Record { used: 15, holders, ..Record::new(&terms) };
        let live = BTreeSet::from([c]);
        let orphan = Orphan { shard: 0, key: "k".into(), pods: gone(&record, &live) };
        assert_eq!(orphan.pods, [a, b]);
        // The first has charged 7 of which 5 are reported, of the second's 10 a pack of 4 was never stored.
        let charged: Charged = [(("k".to_owned(), a), 7), (("k".to_owned(), b), 6)].into();
        let after = reaped(&record, &orphan, &charged, 0).unwrap();
        assert_eq!((after.used, after.held(), after.free()), (13, 30, 57));
        assert_eq!(reaped(&after, &orphan, &charged, 0), None);
        assert_eq!(gone(&after, &live), []);
    }
}
