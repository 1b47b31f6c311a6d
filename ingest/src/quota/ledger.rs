//! Runs operations against records in the ledger buckets by compare-and-set.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use event::names::ledger_bucket;
use jetstream::{Bucket, CasError, Client, KvError};
use parking_lot::Mutex;
use policy::attempt::{Attempt, Outcome, Step, Wrote};
use policy::ledger::{Denied, Record, Terms};
use policy::ledger_ids::LedgerIds;
use policy::window::Window;

use super::entry::Entry;

/// How long an operation is tried before it is left unanswered.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a bucket that does not answer is asked whether it does again.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How long such a question waits.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// The ledger buckets.
pub struct Ledger {
    client: Client,
    buckets: Mutex<HashMap<(Window, u8), Bucket>>,
    silent: Silent,
    /// The ledgers that policy names: nothing is asked of another one.
    named: ArcSwap<LedgerIds>,
}

/// Buckets whose last operation had no answer and which have answered none since, with the time to ask them again.
#[derive(Debug, Default)]
struct Silent {
    any: AtomicBool,
    next: Mutex<HashMap<(Window, u8), Instant>>,
}

impl Silent {
    fn note(&self, at: (Window, u8), answered: bool, now: Instant) {
        if answered && !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut next = self.next.lock();
        if answered {
            next.remove(&at);
        } else if next.insert(at, now + PROBE_EVERY).is_none() {
            tracing::warn!(window = at.0.label(), shard = at.1, "a quota ledger does not answer");
        }
        self.any.store(!next.is_empty(), Ordering::Release);
    }

    /// `None` when the bucket answers; otherwise whether the caller is to ask it now.
    fn due(&self, at: (Window, u8), now: Instant) -> Option<bool> {
        let mut next = self.next.lock();
        let next = next.get_mut(&at)?;
        let due = *next <= now;
        if due {
            *next = now + PROBE_PATIENCE + PROBE_EVERY;
        }
        Some(due)
    }
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunError {
    /// A definite no; the record that said so.
    Denied(Denied, Option<Box<Record>>),
    /// It was never sent, or the store refused it.
    NotApplied(String),
    /// It may have been applied: it must be repeated, under the same number, before anything else is asked.
    Unanswered(String),
}

impl Ledger {
    /// The buckets behind a connection.
    pub fn new(client: Client) -> Self {
        Self { client, buckets: Mutex::default(), silent: Silent::default(), named: ArcSwap::default() }
    }

    /// From now on these ledgers may be asked, and no other: an operation that was granted from one that is lost must not
    /// make a record in the one that is made anew.
    pub fn name(&self, ledgers: Arc<LedgerIds>) {
        self.named.store(ledgers);
    }

    /// Whether policy names the ledger that an entry was made for.
    pub fn is_named(&self, entry: &Entry) -> bool {
        self.named.load().get(entry.bucket.0, entry.bucket.1) == Some(&entry.ledger_id)
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

    /// Whether the bucket of a key answers, as far as is known; one that did not is asked again now and then.
    pub async fn answers(&self, entry: &Entry) -> bool {
        if !self.silent.any.load(Ordering::Acquire) {
            return true;
        }
        match self.silent.due(entry.bucket, Instant::now()) {
            None => true,
            Some(false) => false,
            Some(true) => {
                let ask = async {
                    let bucket = self.bucket(entry.bucket).await.map_err(|error| error.to_string())?;
                    read(&bucket, &entry.record_key).await
                };
                let answered = matches!(tokio::time::timeout(PROBE_PATIENCE, ask).await, Ok(Ok(_)));
                self.silent.note(entry.bucket, answered, Instant::now());
                answered
            }
        }
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
        attempt: Attempt,
    ) -> Result<(Option<Record>, u64), RunError> {
        if !self.is_named(entry) {
            return Err(gave_up(&attempt, "the ledger is lost and being rebuilt".to_owned()));
        }
        let mut answered = None;
        let result = self.step_on(entry, terms, attempt, &mut answered).await;
        if let Some(answered) = answered {
            self.silent.note(entry.bucket, answered, Instant::now());
        }
        result
    }

    /// `answered`: whether the ledger did when it was asked last; one that is contended does, although the operation gives up.
    async fn step_on(
        &self,
        entry: &Entry,
        terms: &Terms<'_>,
        mut attempt: Attempt,
        answered: &mut Option<bool>,
    ) -> Result<(Option<Record>, u64), RunError> {
        let bucket = match self.bucket(entry.bucket).await {
            Ok(bucket) => bucket,
            Err(error) => {
                *answered = Some(false);
                return Err(gave_up(&attempt, error.to_string()));
            }
        };
        let begun = Instant::now();
        loop {
            if begun.elapsed() > PATIENCE {
                let why = if *answered == Some(true) {
                    "others write it all the time"
                } else {
                    "it did not answer in time"
                };
                return Err(gave_up(&attempt, why.to_owned()));
            }
            match attempt.step(terms) {
                Step::Read => {
                    let read = read(&bucket, &entry.record_key).await;
                    *answered = Some(read.is_ok());
                    attempt.read(terms, read.map_err(|why| gave_up(&attempt, why))?);
                }
                Step::Write(record, revision) => {
                    let wrote = write(&bucket, &entry.record_key, &record, revision).await;
                    *answered = Some(wrote.as_ref().is_ok_and(|wrote| *wrote != Wrote::Unknown));
                    let wrote = wrote.map_err(|why| gave_up(&attempt, why))?;
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
        Outcome::Denied(denied, record) => Err(RunError::Denied(denied, record.map(Box::new))),
    }
}

/// An operation that was not sent, or not any more.
pub(super) fn gave_up(attempt: &Attempt, why: String) -> RunError {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_bucket_is_asked_now_and_then_until_it_answers() {
        let (silent, begin, at) = (Silent::default(), Instant::now(), (Window::Day, 3));
        assert_eq!(silent.due(at, begin), None);
        silent.note(at, false, begin);
        assert_eq!(silent.due(at, begin), Some(false), "not at once");
        assert_eq!(silent.due((Window::Day, 4), begin), None, "others are not concerned");
        let later = begin + PROBE_EVERY;
        assert_eq!(silent.due(at, later), Some(true));
        assert_eq!(silent.due(at, later), Some(false), "one caller asks, the others do not wait");
        silent.note(at, true, later);
        assert_eq!((silent.due(at, later), silent.any.load(Ordering::Acquire)), (None, false));
    }
}
