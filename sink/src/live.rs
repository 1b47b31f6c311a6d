//! The port of a real lane: its intent in NATS, its stream, its tables in ClickHouse.
//!
//! Failures that time mends are tried again here, with the same bytes, for as long as the lane is held.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::schema::Table;
use clickhouse::{ClickHouseError, InsertError, LaneInserter, Target};
use event::{Incarnation, Lane};
use jetstream::lane_reader::read_range;
use jetstream::{CasError, ReadError};

use crate::batch::Id;
use crate::context::Context;
use crate::intent::{Record, RecordError};
use crate::lookup;
use crate::metrics::{LaneLabel, LaneState};
use crate::port::{Certainty, Port, Positions, Range, Stop};

/// First and last pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause for an insert whose answer was lost.
const SETTLE: Duration = Duration::from_secs(1);

/// The port of one lane.
pub struct LivePort {
    context: Arc<Context>,
    lane: Lane,
    key: String,
    me: Incarnation,
    revision: u64,
    inserter: LaneInserter,
    raw: Target,
    removed: Target,
}

/// Counts tries of one operation.
pub struct Tries {
    pause: Duration,
}

impl Tries {
    fn new() -> Self {
        Self { pause: BACKOFF.0 }
    }
}

impl LivePort {
    /// For `lane`, held by `me`.
    pub fn new(context: Arc<Context>, lane: Lane, me: Incarnation) -> Self {
        Self {
            key: lane.to_string(),
            me,
            revision: 0,
            inserter: LaneInserter::new(context.reader.endpoint().clone()),
            raw: Target::new(&lane, Table::Raw),
            removed: Target::new(&lane, Table::Removed),
            context,
            lane,
        }
    }

    /// Waits before the next try, or says why there is none.
    async fn again(&self, tries: &mut Tries, what: &str, error: &(dyn Display + Sync)) -> Result<(), Stop> {
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
    async fn ask<T, F>(&self, what: &str, query: impl Fn() -> F) -> Result<T, Stop>
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
    async fn reread(&mut self) -> Result<Option<Record>, Stop> {
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
}

impl Port for LivePort {
    async fn read(&mut self) -> Result<Option<Record>, Stop> {
        self.reread().await
    }

    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let value: Bytes = record.encode().map_err(|error| Stop::Stuck(error.to_string()))?.into();
        let (expected, mut tries) = (self.revision, Tries::new());
        loop {
            let written = match expected {
                0 => self.context.intents.create(&self.key, value.clone()).await,
                _ => self.context.intents.update(&self.key, value.clone(), expected).await,
            };
            match written {
                Ok(revision) => {
                    self.revision = revision;
                    return Ok(());
                }
                // After a lost answer the other writer may be this one.
                Err(CasError::Conflict) => {
                    return match self.reread().await? {
                        Some(found) if found == *record => Ok(()),
                        _ => Err(Stop::Lost("its intent was written by another sink".to_owned())),
                    };
                }
                Err(error) => self.again(&mut tries, "writing the intent", &error).await?,
            }
        }
    }

    async fn has_rows(&mut self, epoch: i64) -> Result<bool, Stop> {
        self.ask("looking for rows", || lookup::has_rows(&self.context.reader, &self.lane, epoch)).await
    }

    async fn messages(&mut self, lo: u64, hi: u64) -> Result<Range, Stop> {
        let (stream, mut tries, mut from) = (self.lane.stream(), Tries::new(), lo);
        loop {
            if from > hi {
                return Ok(Range { messages: Vec::new(), missing: hi + 1 - lo });
            }
            match read_range(&self.context.nats, &stream, from, hi).await {
                Ok(messages) => return Ok(Range { messages, missing: from - lo }),
                Err(ReadError::Gap { first_seq }) => from = first_seq,
                Err(ReadError::Unavailable(error)) => {
                    self.again(&mut tries, "reading the stream", &error).await?;
                }
                Err(ReadError::Missing) => return Err(Stop::Lost("its stream is gone".to_owned())),
                Err(ReadError::Recreated { .. }) => {
                    return Err(Stop::Lost("its stream is another".to_owned()));
                }
                Err(error @ (ReadError::Beyond { .. } | ReadError::Refused(_))) => {
                    return Err(Stop::Stuck(format!("messages {lo} to {hi}: {error}")));
                }
            }
        }
    }

    async fn known(&mut self, ids: &[Id], since_ms: i64) -> Result<HashSet<Id>, Stop> {
        self.context.metrics.lookups.inc_by(ids.len() as u64);
        let query = || lookup::known(&self.context.reader, &self.lane, ids, since_ms);
        self.ask("looking up ids", query).await
    }

    async fn insert(&mut self, table: Table, rows: Bytes, token: &str) -> Result<Certainty, Stop> {
        let (mut tries, mut certainty) = (Tries::new(), Certainty::Certain);
        let target = match table {
            Table::Raw => self.raw.clone(),
            Table::Removed => self.removed.clone(),
        };
        loop {
            let permit = self.context.budget.permits.acquire().await;
            let started = Instant::now();
            let holds = || self.context.lease.holds(self.me);
            let outcome = self.inserter.insert(&target, rows.clone(), token, holds).await;
            drop(permit);
            let error = match outcome {
                Ok(()) => {
                    self.context.metrics.insert_seconds.observe(started.elapsed().as_secs_f64());
                    self.set_state(LaneState::Sinking);
                    return Ok(certainty);
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
            self.set_state(LaneState::Retrying);
            self.again(&mut tries, "an insert", &error).await?;
        }
    }

    async fn positions(&mut self, epoch: i64, lo: u64, hi: u64) -> Result<Positions, Stop> {
        let reader = &self.context.reader;
        self.ask("counting rows", || lookup::positions(reader, &self.lane, epoch, lo, hi)).await
    }

    async fn settle(&mut self) {
        self.context.pause(SETTLE).await;
    }
}
