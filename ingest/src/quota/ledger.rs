//! Runs operations against records in the ledger buckets by compare-and-set.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use event::names::ledger_bucket;
use jetstream::{Bucket, CasError, Client, KvError};
use parking_lot::Mutex;
use policy::attempt::{Attempt, Outcome, Step, Wrote};
use policy::ledger::{Denied, Record, Terms};
use policy::window::Window;

use super::entry::Entry;

/// How long an operation is tried before it is left unanswered.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ledger buckets.
pub struct Ledger {
    client: Client,
    buckets: Mutex<HashMap<(Window, u8), Bucket>>,
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunError {
    /// A definite no; the record that said so.
    Denied(Denied, Option<Record>),
    /// It was never sent, or the store refused it.
    NotApplied(String),
    /// It may have been applied: it must be repeated, under the same number, before anything else is asked.
    Unanswered(String),
}

impl Ledger {
    /// The buckets behind a connection.
    pub fn new(client: Client) -> Self {
        Self { client, buckets: Mutex::default() }
    }

    async fn bucket(&self, at: (Window, u8)) -> Result<Bucket, KvError> {
        let known = self.buckets.lock().get(&at).cloned();
        if let Some(bucket) = known {
            return Ok(bucket);
        }
        let bucket = Bucket::open(&self.client, &ledger_bucket(at.0.label(), at.1)).await?;
        self.buckets.lock().insert(at, bucket.clone());
        Ok(bucket)
    }

    /// The record as it is now; nothing is written.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn peek(&self, at: (Window, u8), key: &str) -> Result<Option<Record>, String> {
        let bucket = self.bucket(at).await.map_err(|error| error.to_string())?;
        Ok(read(&bucket, key).await?.map(|(record, _)| record))
    }

    /// Makes an operation true exactly once; returns the record that holds it and its revision, or `None` when no record is
    /// needed.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run(
        &self,
        entry: &Entry,
        terms: &Terms<'_>,
        mut attempt: Attempt,
    ) -> Result<(Option<Record>, u64), RunError> {
        let bucket = match self.bucket(entry.bucket).await {
            Ok(bucket) => bucket,
            Err(error) => return Err(gave_up(&attempt, error.to_string())),
        };
        let begun = Instant::now();
        loop {
            if begun.elapsed() > PATIENCE {
                return Err(gave_up(&attempt, "the ledger did not answer in time".to_owned()));
            }
            match attempt.step(terms) {
                Step::Read => match read(&bucket, &entry.record_key).await {
                    Ok(read) => attempt.read(terms, read),
                    Err(why) => return Err(gave_up(&attempt, why)),
                },
                Step::Write(record, revision) => {
                    let wrote = match write(&bucket, &entry.record_key, &record, revision).await {
                        Ok(wrote) => wrote,
                        Err(why) => return Err(gave_up(&attempt, why)),
                    };
                    if let Some(outcome) = attempt.wrote(record, wrote) {
                        return result(outcome);
                    }
                }
                Step::Done(outcome) => return result(outcome),
            }
        }
    }
}

fn result(outcome: Outcome) -> Result<(Option<Record>, u64), RunError> {
    match outcome {
        Outcome::Applied(record, revision) => Ok((record, revision)),
        Outcome::Denied(denied, record) => Err(RunError::Denied(denied, record)),
    }
}

fn gave_up(attempt: &Attempt, why: String) -> RunError {
    if attempt.is_unanswered() { RunError::Unanswered(why) } else { RunError::NotApplied(why) }
}

async fn read(bucket: &Bucket, key: &str) -> Result<Option<(Record, u64)>, String> {
    let Some(entry) = bucket.get(key).await.map_err(|error| error.to_string())? else { return Ok(None) };
    let record = serde_json::from_slice(&entry.value).map_err(|error| format!("record {key}: {error}"))?;
    Ok(Some((record, entry.revision)))
}

/// # Errors
/// The store refused it: it was not written.
async fn write(bucket: &Bucket, key: &str, record: &Record, revision: u64) -> Result<Wrote, String> {
    let value = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    match bucket.update(key, value.into(), revision).await {
        Ok(revision) => Ok(Wrote::Stored(revision)),
        Err(CasError::Conflict) => Ok(Wrote::Conflict),
        Err(CasError::Unknown(_)) => Ok(Wrote::Unknown),
        Err(CasError::Refused(why)) => Err(why),
    }
}
