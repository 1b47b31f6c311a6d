//! Runs operations against records in the ledger buckets by compare-and-set.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use event::names::ledger_bucket;
use jetstream::{Bucket, CasError, Client, KvError};
use parking_lot::Mutex;
use policy::ledger::{Applied, Denied, Op, OpKind, Record, Terms};
use policy::window::Window;

use super::entry::{Entry, OpState};

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
}

/// Buckets whose last operation had no answer and which have answered none since, with the time to ask them again.
#[derive(Debug, Default)]
struct Silent(Mutex<HashMap<(Window, u8), Instant>>);

impl Silent {
    fn note(&self, at: (Window, u8), answered: bool, now: Instant) {
        let mut silent = self.0.lock();
        if answered {
            silent.remove(&at);
        } else if silent.insert(at, now + PROBE_EVERY).is_none() {
            tracing::warn!(window = at.0.label(), shard = at.1, "a quota ledger does not answer");
        }
    }

    /// `None` when the bucket answers; otherwise whether the caller is to ask it now.
    fn due(&self, at: (Window, u8), now: Instant) -> Option<bool> {
        let mut silent = self.0.lock();
        let next = silent.get_mut(&at)?;
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
    Denied(Denied, Option<Record>),
    /// It was never sent, or the store refused it.
    NotApplied(String),
    /// It may have been applied: it must be repeated, under the same number, before anything else is asked.
    Unanswered(String),
}

impl Ledger {
    /// The buckets behind a connection.
    pub fn new(client: Client) -> Self {
        Self { client, buckets: Mutex::default(), silent: Silent::default() }
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

    /// Whether the bucket of a key answers, as far as is known; one that did not is asked again now and then.
    pub async fn answers(&self, entry: &Entry) -> bool {
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

    /// Makes `op` true exactly once and returns the record that holds it.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run(
        &self,
        entry: &Entry,
        state: &mut OpState,
        terms: &Terms<'_>,
        op: &Op,
    ) -> Result<Record, RunError> {
        let result = self.attempt(entry, state, terms, op).await;
        let answered = !matches!(result, Err(RunError::NotApplied(_) | RunError::Unanswered(_)));
        self.silent.note(entry.bucket, answered, Instant::now());
        result
    }

    async fn attempt(
        &self,
        entry: &Entry,
        state: &mut OpState,
        terms: &Terms<'_>,
        op: &Op,
    ) -> Result<Record, RunError> {
        let not_applied = |error: KvError| RunError::NotApplied(error.to_string());
        let bucket = self.bucket(entry.bucket).await.map_err(not_applied)?;
        let (begun, mut sent) = (Instant::now(), state.unanswered.is_some());
        let mut op = *op;
        let gave_up = |sent: bool, why: String| {
            if sent { RunError::Unanswered(why) } else { RunError::NotApplied(why) }
        };
        loop {
            if begun.elapsed() > PATIENCE {
                return Err(gave_up(sent, "the ledger did not answer in time".to_owned()));
            }
            let cached = state.known.is_some();
            let known = match state.known.take() {
                Some(known) => Some(known),
                None => read(&bucket, &entry.record_key).await.map_err(|error| gave_up(sent, error))?,
            };
            let (record, revision) = known.map_or((None, 0), |(record, revision)| (Some(record), revision));
            let next = match Record::apply(record.as_ref(), terms, &op) {
                Ok(Applied::Changed(next)) => next,
                Ok(Applied::Already | Applied::Dropped) => {
                    let record = record.unwrap_or_else(|| Record::new(terms));
                    state.known = Some((record.clone(), revision));
                    return Ok(record);
                }
                // What we remember may be old: a definite no comes from a fresh read only.
                Err(_) if cached => continue,
                // An earlier send may still arrive. Its number is used up by an operation that only reports, so that
                // either that one or this one is in the record, and what is held is known.
                Err(Denied::Exhausted { .. } | Denied::OldPolicy) if sent => {
                    op.kind = OpKind::Return { units: 0 };
                    state.known = record.map(|record| (record, revision));
                    continue;
                }
                Err(denied) => return Err(RunError::Denied(denied, record)),
            };
            let value = serde_json::to_vec(&next).map_err(|error| gave_up(sent, error.to_string()))?;
            match bucket.update(&entry.record_key, value.into(), revision).await {
                Ok(revision) => {
                    state.known = Some((next.clone(), revision));
                    return Ok(next);
                }
                Err(CasError::Conflict) => {}
                Err(CasError::Refused(why)) => return Err(gave_up(sent, why)),
                // A read that does not show the operation proves nothing; the next compare-and-set decides.
                Err(CasError::Unknown(_)) => sent = true,
            }
        }
    }
}

async fn read(bucket: &Bucket, key: &str) -> Result<Option<(Record, u64)>, String> {
    let Some(entry) = bucket.get(key).await.map_err(|error| error.to_string())? else { return Ok(None) };
    let record = serde_json::from_slice(&entry.value).map_err(|error| format!("record {key}: {error}"))?;
    Ok(Some((record, entry.revision)))
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
        assert_eq!(silent.due(at, later), None);
    }
}
