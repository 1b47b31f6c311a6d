//! Writes sums into quota records, by compare-and-set among the pods that charge them.

use std::collections::HashMap;

use event::names::ledger_bucket;
use futures_util::{TryStreamExt, stream};
use jetstream::{Bucket, CasError};
use policy::ledger::Record;
use policy::tally::Used;
use policy::window::Window;

use crate::context::Context;
use crate::errors::{Failure, System};

/// Records written at once.
const WRITES: usize = 32;
/// Tries of one record: pods write it too.
const TRIES: usize = 50;

/// Adds what was used before to the records of one window.
///
/// # Errors
/// When NATS fails or a ledger is lost; what was added stays, and is not added again.
pub async fn add(ctx: &Context, window: Window, used: Vec<Used>) -> Result<(), Failure> {
    let known = ctx.ledgers.get();
    let mut buckets: HashMap<u8, (Bucket, String)> = HashMap::new();
    for used in &used {
        let name = ledger_bucket(window.label(), used.shard);
        if buckets.contains_key(&used.shard) {
            continue;
        }
        let id = known.ids.get(&name).filter(|_| !known.lost.contains(&name));
        let id = id.ok_or_else(|| Failure::unknown(System::Nats, format!("ledger {name} is lost")))?;
        buckets.insert(used.shard, (Bucket::open(&ctx.nats, &name).await?, id.clone()));
    }
    let with_bucket = used.into_iter().filter_map(|used| Some((buckets.get(&used.shard)?.clone(), used)));
    stream::iter(with_bucket.map(Ok))
        .try_for_each_concurrent(
            WRITES,
            |((bucket, id), used)| async move { add_one(&bucket, &id, &used).await },
        )
        .await
}

/// Writes the records of a ledger that is made anew; nobody charges it yet.
///
/// # Errors
/// When NATS fails.
pub async fn restore(bucket: &Bucket, ledger_id: &str, all: Vec<Restored>) -> Result<(), Failure> {
    stream::iter(all.into_iter().map(Ok))
        .try_for_each_concurrent(WRITES, |one| async move { restore_one(bucket, ledger_id, &one).await })
        .await
}

/// What a record held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Key of the record.
    pub record_key: String,
    /// Units that were charged.
    pub charged: u64,
    /// Units that were used before anybody charged them.
    pub before: u64,
}

async fn restore_one(bucket: &Bucket, ledger_id: &str, one: &Restored) -> Result<(), Failure> {
    let record = Record::seeded(ledger_id, one.charged, one.before);
    let value = serde_json::to_vec(&record)
        .map_err(|error| Failure::Defect { system: System::Nats, detail: error.to_string() })?;
    for _ in 0..TRIES {
        let found = bucket.get(&one.record_key).await?;
        if found.as_ref().is_some_and(|entry| entry.value[..] == value[..]) {
            return Ok(());
        }
        let revision = found.map_or(0, |entry| entry.revision);
        match bucket.update(&one.record_key, value.clone().into(), revision).await {
            Ok(_) => return Ok(()),
            Err(CasError::Conflict | CasError::Unknown(_)) => {}
            Err(CasError::Refused(why)) => return Err(Failure::unknown(System::Nats, why)),
        }
    }
    Err(Failure::unknown(System::Nats, format!("record {} changes all the time", one.record_key)))
}

async fn add_one(bucket: &Bucket, ledger_id: &str, used: &Used) -> Result<(), Failure> {
    let defect = |detail: String| Failure::Defect { system: System::Nats, detail };
    for _ in 0..TRIES {
        let (record, revision) = match bucket.get(&used.record_key).await? {
            None => (Some(Record::seeded(ledger_id, 0, used.units)), 0),
            Some(entry) => {
                let record: Record = serde_json::from_slice(&entry.value)
                    .map_err(|error| defect(format!("record {}: {error}", used.record_key)))?;
                if record.ledger_id != ledger_id {
                    return Err(defect(format!("record {} is of another ledger", used.record_key)));
                }
                (record.seed(used.units), entry.revision)
            }
        };
        let Some(record) = record else { return Ok(()) };
        let value = serde_json::to_vec(&record).map_err(|error| defect(error.to_string()))?;
        match bucket.update(&used.record_key, value.into(), revision).await {
            Ok(_) => return Ok(()),
            // Read again: it may be there by now.
            Err(CasError::Conflict | CasError::Unknown(_)) => {}
            Err(CasError::Refused(why)) => return Err(Failure::unknown(System::Nats, why)),
        }
    }
    Err(Failure::unknown(System::Nats, format!("record {} changes all the time", used.record_key)))
}
