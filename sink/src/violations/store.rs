//! The record of stream `VIOLATIONS`, and the tables that its ranges go into.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse::schema::Table;
use clickhouse::{ClickHouseError, Query, Target};
use event::names::{VIOLATIONS_INTENT, VIOLATIONS_STREAM};
use event::{Incarnation, Lane};
use jetstream::lane_reader::read_range;
use jetstream::{LaneMessage, ReadError};
use serde::Deserialize;

use super::blocks::{Block, encode, missing};
use crate::context::Context;
use crate::intent::{Contents, Record, State};
use crate::port::{Certainty, Stop};
use crate::slot::{Slot, Tries};

/// How long a lane's table is waited for while its database is there: the operator adds it after an upgrade.
const TABLE_PATIENCE: Duration = Duration::from_secs(600);
/// How often rows that should be there are waited for before they are inserted again.
const SETTLE_TRIES: u32 = 3;
/// How often they are inserted again.
const REPAIRS_MAX: u32 = 5;
/// Pause for an insert whose answer was lost.
const SETTLE: Duration = Duration::from_secs(1);

/// The stream's record, held.
pub struct Store {
    context: Arc<Context>,
    slot: Slot,
    record: Record,
    /// Every row of the record's range is in its table.
    stored: bool,
    /// Since when a lane has had no table, for those that have none.
    without_table: HashMap<Lane, Instant>,
}

impl Store {
    /// Claims the record and repeats what is open.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn take(context: &Arc<Context>, me: Incarnation, epoch: i64) -> Result<Self, Stop> {
        let mut slot = Slot::new(context.clone(), VIOLATIONS_INTENT.to_owned(), me);
        let record = match slot.read().await? {
            Some(record) if record.owner == me || context.holders.is_gone(record.owner).await => {
                record.claimed(me)
            }
            Some(record) => return Err(Stop::Lost(format!("{} holds it", record.owner))),
            None => Record::first(me, epoch),
        };
        slot.write(&record).await?;
        let (context, stored) = (context.clone(), false);
        let mut store = Self { context, slot, record, stored, without_table: HashMap::new() };
        if store.record.epoch != epoch {
            // Another stream: what the old one still held is gone with it.
            store.put(store.record.in_epoch(epoch)).await?;
        } else if store.record.state == State::Open {
            store.replay().await?;
            store.stored = true;
            store.close().await?;
        }
        tracing::info!(next = store.next_seq(), "violations taken");
        Ok(store)
    }

    /// The sequence that comes next.
    pub fn next_seq(&self) -> u64 {
        self.record.next_seq()
    }

    /// Stores `messages`, which follow on what was stored last.
    ///
    /// # Errors
    /// [`Stop`]; what was begun is repeated by the next holder.
    pub async fn flush(&mut self, messages: &[LaneMessage]) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
        let mut record = self.record.open(first.seq, last.seq, Contents::default());
        record.events = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        self.stored = false;
        self.put(record).await?;
        self.insert_all(messages, false).await?;
        self.stored = true;
        Ok(())
    }

    /// Marks the range as stored, if it is.
    ///
    /// # Errors
    /// [`Stop`].
    pub async fn close(&mut self) -> Result<(), Stop> {
        let may_close = self.stored && self.record.state == State::Open;
        if may_close { self.put(self.record.closed()).await } else { Ok(()) }
    }

    async fn put(&mut self, record: Record) -> Result<(), Stop> {
        self.slot.write(&record).await?;
        self.record = record;
        Ok(())
    }

    /// Repeats the open intent, as far as the stream still has its messages.
    async fn replay(&mut self) -> Result<(), Stop> {
        let (lo, hi, mut from, mut tries) = (self.record.lo, self.record.hi, self.record.lo, Tries::new());
        let messages = loop {
            if from > hi {
                break Vec::new();
            }
            match read_range(&self.context.nats, VIOLATIONS_STREAM, from, hi).await {
                Ok(messages) => break messages,
                Err(ReadError::Gap { first_seq }) => from = first_seq,
                Err(ReadError::Unavailable(error)) => {
                    self.slot.again(&mut tries, "reading the stream", &error).await?;
                }
                Err(ReadError::Missing | ReadError::Recreated { .. }) => {
                    return Err(Stop::Lost("the stream is another".to_owned()));
                }
                Err(error) => return Err(Stop::Stuck(format!("violations {lo} to {hi}: {error}"))),
            }
        };
        if from > lo {
            tracing::error!(lost = from - lo, "messages of an open intent were dropped by the stream");
            self.context.metrics.violations_dropped.inc_by(from - lo);
            // A block without its first rows is another one: only what is missing goes in.
            let lanes: Vec<Lane> =
                encode(&messages, self.record.epoch, |_, _| true).lanes.into_keys().collect();
            for lane in lanes {
                self.confirm(&messages, &lane).await?;
            }
            return Ok(());
        }
        self.insert_all(&messages, true).await
    }

    /// Inserts a block a lane; `doubted` ones are counted afterwards.
    async fn insert_all(&mut self, messages: &[LaneMessage], doubted: bool) -> Result<(), Stop> {
        let blocks = encode(messages, self.record.epoch, |_, _| true);
        if blocks.unreadable > 0 {
            tracing::warn!(records = blocks.unreadable, "messages that are no violations were left out");
            self.context.metrics.violations_dropped.inc_by(blocks.unreadable);
        }
        for (lane, block) in &blocks.lanes {
            match self.insert(lane, block, "").await? {
                Some(Certainty::Certain) if !doubted => {}
                Some(_) => self.confirm(messages, lane).await?,
                None => continue,
            }
            self.context.metrics.violations.inc_by(block.seqs.len() as u64);
        }
        Ok(())
    }

    /// Inserts one block; `None` when the lane's database is gone, and its records with it.
    async fn insert(&mut self, lane: &Lane, block: &Block, suffix: &str) -> Result<Option<Certainty>, Stop> {
        let target = Target::new(lane, Table::Violations);
        let token = self.record.token(VIOLATIONS_INTENT, &format!("violations{suffix}"));
        let without_table = &mut self.without_table;
        let mut is_final = |error: &ClickHouseError| {
            if !error.is_missing() {
                return false;
            }
            let since = *without_table.entry(lane.clone()).or_insert_with(Instant::now);
            error.code() == Some(clickhouse::error::code::UNKNOWN_DATABASE)
                || since.elapsed() > TABLE_PATIENCE
        };
        match self.slot.insert(&target, block.rows.clone(), &token, &mut is_final).await? {
            Ok(certainty) => {
                self.without_table.remove(lane);
                Ok(Some(certainty))
            }
            Err(error) => {
                let records = block.seqs.len() as u64;
                tracing::error!(%lane, %error, records, "violations of a lane without a table were dropped");
                self.context.metrics.violations_dropped.inc_by(records);
                Ok(None)
            }
        }
    }

    /// Compares a lane's rows of the intent with the messages, and inserts what is missing until nothing is.
    async fn confirm(&mut self, messages: &[LaneMessage], lane: &Lane) -> Result<(), Stop> {
        let (mut waited, mut repairs) = (0, 0);
        loop {
            let found = self.positions(lane).await?;
            let Some(block) = missing(messages, self.record.epoch, lane, &found) else { return Ok(()) };
            // The answer "known" may come from an insert that is about to publish its rows.
            if waited < SETTLE_TRIES {
                waited += 1;
                self.context.pause(SETTLE).await;
                continue;
            }
            repairs += 1;
            if repairs > REPAIRS_MAX {
                let rows = block.seqs.len();
                return Err(Stop::Stuck(format!("{rows} violations of lane {lane} do not stay inserted")));
            }
            if self.insert(lane, &block, &format!(":r{repairs}")).await?.is_none() {
                return Ok(());
            }
        }
    }

    /// Sequences of the intent that are in the lane's table.
    async fn positions(&self, lane: &Lane) -> Result<HashSet<u64>, Stop> {
        #[derive(Deserialize)]
        struct Row {
            seq: u64,
        }
        let Record { epoch, lo, hi, .. } = self.record;
        let sql = format!(
            "SELECT seq FROM {}.{} WHERE epoch = {{epoch:Int64}} AND seq BETWEEN {{lo:UInt64}} AND {{hi:UInt64}}",
            lane.database(),
            Table::Violations.name()
        );
        let query = || {
            let query = Query::new(sql.clone()).bind("epoch", epoch).bind("lo", lo).bind("hi", hi);
            query.read_only().fetch::<Row>(&self.context.reader)
        };
        let rows = self.slot.ask("counting violations", query).await?;
        Ok(rows.into_iter().map(|row| row.seq).collect())
    }
}
