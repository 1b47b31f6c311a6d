//! One key of bucket `intents` and the inserts under it, as their present holder uses them.
//!
//! Failures that time mends are tried again here, with the same bytes, for as long as the key is held.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::{ClickHouseError, InsertError, LaneInserter, Target};
use event::Incarnation;
use jetstream::CasError;

use crate::context::Context;
use crate::intent::{Record, RecordError};
use crate::metrics::{LaneLabel, LaneState};
use crate::port::{Certainty, Stop};

/// First and last pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Counts tries of one operation.
pub struct Tries {
    pause: Duration,
}

impl Tries {
    /// Before the first.
    pub fn new() -> Self {
        Self { pause: BACKOFF.0 }
    }
}

/// A key, its holder, and the only connection that inserts go over.
pub struct Slot {
    context: Arc<Context>,
    key: String,
    me: Incarnation,
    revision: u64,
    inserter: LaneInserter,
}

impl Slot {
    /// `key`, as `me` holds it.
    pub fn new(context: Arc<Context>, key: String, me: Incarnation) -> Self {
        let inserter = LaneInserter::new(context.reader.endpoint().clone());
        Self { context, key, me, revision: 0, inserter }
    }

    /// Waits before the next try, or says why there is none.
    pub async fn again(
        &self,
        tries: &mut Tries,
        what: &str,
        error: &(dyn Display + Sync),
    ) -> Result<(), Stop> {
        if self.context.lease.is_over(self.me) {
            return Err(Stop::Lost("another sink took it".to_owned()));
        }
        if self.context.is_shutting_down() {
            return Err(Stop::ShuttingDown);
        }
        tracing::warn!(lane = self.key, %error, "{what} failed: trying again in {:?}", tries.pause);
        self.context.pause(tries.pause).await;
        tries.pause = (tries.pause * 2).min(BACKOFF.1);
        Ok(())
    }

    fn set_state(&self, state: LaneState) {
        let label = LaneLabel { lane: self.key.clone() };
        self.context.metrics.state.get_or_create(&label).set(state as i64);
    }

    /// Asks ClickHouse until it answers. Also a missing table is waited for: the operator creates it.
    pub async fn ask<T, F>(&self, what: &str, query: impl Fn() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, ClickHouseError>>,
    {
        let mut tries = Tries::new();
        loop {
            match query().await {
                Ok(answer) => {
                    self.set_state(LaneState::Sinking);
                    return Ok(answer);
                }
                Err(error) => {
                    self.set_state(LaneState::Retrying);
                    self.again(&mut tries, what, &error).await?;
                }
            }
        }
    }

    /// What is stored now, read anew after a write whose outcome is not known.
    pub async fn read(&mut self) -> Result<Option<Record>, Stop> {
        let mut tries = Tries::new();
        loop {
            match self.context.intents.get(&self.key).await {
                Ok(entry) => {
                    let entry = entry.filter(|entry| !entry.deleted);
                    self.revision = entry.as_ref().map_or(0, |entry| entry.revision);
                    let record = entry.map(|entry| Record::decode(&entry.value)).transpose();
                    return record.map_err(|error: RecordError| Stop::Stuck(error.to_string()));
                }
                Err(error) => self.again(&mut tries, "reading the intent", &error).await?,
            }
        }
    }

    /// Replaces the record that was read or written last; `Lost` when it is not the last one any more.
    pub async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let value: Bytes = record.encode().map_err(|error| Stop::Stuck(error.to_string()))?.into();
        let (expected, mut tries) = (self.revision, Tries::new());
        loop {
            let written = match expected {
                0 => self.context.intents.create(&self.key, value.clone()).await,
                _ => self.context.intents.update(&self.key, value.clone(), expected).await,
            };
            #[cfg(feature = "crash-points")]
            let written = written.and_then(|revision| match crash_points::pass("P11") {
                Ok(()) => Ok(revision),
                Err(failed) => Err(CasError::Unknown(failed.to_string())),
            });
            match written {
                Ok(revision) => {
                    self.revision = revision;
                    return Ok(());
                }
                // After a lost answer the other writer may be this one.
                Err(CasError::Conflict) => {
                    return match self.read().await? {
                        Some(found) if found == *record => Ok(()),
                        _ => Err(Stop::Lost("its intent was written by another sink".to_owned())),
                    };
                }
                Err(error) => self.again(&mut tries, "writing the intent", &error).await?,
            }
        }
    }

    /// Inserts a block under its token, once. An error that `is_final` says of is returned instead of tried again.
    pub async fn insert(
        &mut self,
        target: &Target,
        rows: Bytes,
        token: &str,
        mut is_final: impl FnMut(&ClickHouseError) -> bool,
    ) -> Result<Result<Certainty, ClickHouseError>, Stop> {
        let (mut tries, mut certainty) = (Tries::new(), Certainty::Certain);
        loop {
            let permit = self.context.budget.permits.acquire().await;
            let started = Instant::now();
            let holds = || self.context.lease.holds(self.me);
            let outcome = self.inserter.insert(target, rows.clone(), token, holds).await;
            drop(permit);
            let error = match outcome {
                Ok(()) => {
                    self.context.metrics.insert_seconds.observe(started.elapsed().as_secs_f64());
                    self.set_state(LaneState::Sinking);
                    return Ok(Ok(certainty));
                }
                Err(error) => error,
            };
            // Everything but a definite no may have put rows into the table.
            if matches!(
                &error,
                InsertError::ClickHouse(ClickHouseError::Unknown(_) | ClickHouseError::Decode(_))
            ) {
                certainty = Certainty::Doubtful;
            }
            self.context.metrics.insert_failures.inc();
            match &error {
                InsertError::ClickHouse(error) if is_final(error) => return Ok(Err(error.clone())),
                _ => {}
            }
            self.set_state(LaneState::Retrying);
            self.again(&mut tries, "an insert", &error).await?;
        }
    }
}
