//! What sinking a lane needs of the world. The rules of the protocol are in `flush` and `takeover`; they are written
//! against this trait so that a model can crash them at every point.

use std::collections::HashSet;

use bytes::Bytes;
use clickhouse::schema::Table;
use jetstream::LaneMessage;

use event::PackId;

use crate::batch::Id;
use crate::charges::Doubtful;
use crate::intent::Record;

/// Why sinking a lane ended. The lane is taken up again, from its record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Somebody else holds the lane, or its stream is gone.
    #[error("the lane is lost: {0}")]
    Lost(String),
    /// This process ends.
    #[error("shutting down")]
    ShuttingDown,
    /// A person has to act; nothing was skipped.
    #[error("the lane is stuck: {0}")]
    Stuck(String),
}

/// How sure it is that an insert that succeeded put its rows into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// The first answer was a success.
    Certain,
    /// An answer was lost before. A server that is killed between remembering a token and publishing the rows answers
    /// "known" for rows that never existed, so they have to be counted.
    Doubtful,
}

/// Rows that are in the tables for a range of sequences: (sequence, place in the pack).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    /// In `events_raw`.
    pub raw: Vec<(u64, u32)>,
    /// In `removed`, as repeats.
    pub removed: Vec<(u64, u32)>,
    /// In `removed`, as dead.
    pub dead: Vec<(u64, u32)>,
    /// Rows of the intent in `charges`.
    pub charges: u32,
}

/// Messages of a range, as far as the stream still has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Range {
    /// The last ones of the range, without gaps.
    pub messages: Vec<LaneMessage>,
    /// Messages at its beginning that are gone.
    pub missing: u64,
}

/// One lane's intent, tables and stream. Failures that time mends are retried inside, for as long as the lane is held.
pub trait Port: Send {
    /// The lane's record.
    fn read(&mut self) -> impl Future<Output = Result<Option<Record>, Stop>> + Send;

    /// Replaces the record that was read or written last; `Lost` when it is not the last one any more.
    fn write(&mut self, record: &Record) -> impl Future<Output = Result<(), Stop>> + Send;

    /// Whether `events_raw` holds rows of this epoch of the lane.
    fn has_rows(&mut self, epoch: i64) -> impl Future<Output = Result<bool, Stop>> + Send;

    /// Messages `lo..=hi`.
    fn messages(&mut self, lo: u64, hi: u64) -> impl Future<Output = Result<Range, Stop>> + Send;

    /// Which of `ids` are stored with an event time from `since_ms` on.
    fn known(&mut self, ids: &[Id], since_ms: i64) -> impl Future<Output = Result<HashSet<Id>, Stop>> + Send;

    /// Which of these packs are in the tables already.
    fn landed(&mut self, packs: &[Doubtful]) -> impl Future<Output = Result<HashSet<PackId>, Stop>> + Send;

    /// Inserts a block under its token, once.
    fn insert(
        &mut self,
        table: Table,
        rows: Bytes,
        token: &str,
    ) -> impl Future<Output = Result<Certainty, Stop>> + Send;

    /// What is in the tables for the range of `record`, and for its intent in `charges`.
    fn positions(&mut self, record: &Record) -> impl Future<Output = Result<Positions, Stop>> + Send;

    /// Gives an insert whose answer was lost the time to end.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;
}
