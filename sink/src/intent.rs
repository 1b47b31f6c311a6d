//! The record that makes a sink exactly-once: what is about to be inserted, written down before it is.
//!
//! One key a lane in bucket `intents`. It is the lane's position (everything up to `hi` is dealt with once it is closed),
//! its owner, and the only thing a replay reads: which events were removed, and how many rows each partition gets.
//!
//! ```text
//! first ── claim ──> Closed ── open(lo, hi) ──> Open ── (inserts) ── open(hi + 1, ..) or close ──> …
//! ```
//! Transitions are pure; writing them is a compare-and-set, so of two owners one learns that it is none.

use event::Incarnation;
use serde::{Deserialize, Serialize};

use crate::removed::Removed;

/// The version that is written. Others read the position in it.
pub const VERSION: u8 = event::position::INTENT_VERSION;
/// The version that is written of a lane that tenants have moved to or from: sinks that know no seats keep away.
const SEATED: u8 = event::position::SEATED_INTENT_VERSION;
/// The oldest version that is read. It knew no charges.
const OLDEST: u8 = event::position::OLDEST_INTENT_VERSION;

/// The owner of a lane that its holder gave away.
const NOBODY: Incarnation = Incarnation(0);

/// How far an intent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its rows may be in the tables, or not.
    Open,
    /// Its rows are in the tables.
    Closed,
}

/// Rows of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRows {
    /// Event day, `YYYYMMDD`.
    pub partition: u32,
    /// How many.
    pub rows: u32,
}

/// What stands in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// See [`VERSION`].
    pub version: u8,
    /// The sink that holds the lane.
    pub owner: Incarnation,
    /// When the lane's stream was created, in Unix milliseconds: sequences mean nothing beside another one.
    pub epoch: i64,
    /// Counts intents; never goes back, not even in a new epoch.
    pub intent: u64,
    /// First sequence.
    pub lo: u64,
    /// Last sequence; `lo - 1` before the first intent.
    pub hi: u64,
    /// How far it is.
    pub state: State,
    /// Events of `lo..=hi`, removed ones included.
    pub events: u32,
    /// Which of them are duplicates, counted over the whole range.
    pub removed: Removed,
    /// What goes into `events_raw`, in ascending order.
    pub blocks: Vec<PartitionRows>,
    /// Which messages, counted from `lo`, are packs that landed before: their charges count no second time.
    #[serde(default)]
    pub again: Removed,
    /// Rows that go into `charges`.
    #[serde(default)]
    pub charges: u32,
}

/// What an intent is about to insert.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// See [`Record::removed`].
    pub removed: Removed,
    /// See [`Record::blocks`].
    pub blocks: Vec<PartitionRows>,
    /// See [`Record::again`].
    pub again: Removed,
    /// See [`Record::charges`].
    pub charges: u32,
}

/// Why a stored value is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a build that this one does not understand: upgrade this process.
    #[error("intent version {0} is not supported (this build reads {OLDEST} to {SEATED})")]
    UnknownVersion(u8),
    /// Not a record.
    #[error("the intent is unreadable: {0}")]
    Unreadable(String),
}

impl Record {
    /// Before the first intent of a lane: the next sequence is 1.
    pub fn first(owner: Incarnation, epoch: i64) -> Self {
        Self {
            version: VERSION,
            owner,
            epoch,
            intent: 0,
            lo: 1,
            hi: 0,
            state: State::Closed,
            events: 0,
            removed: Removed::default(),
            blocks: Vec::new(),
            again: Removed::default(),
            charges: 0,
        }
    }

    /// The same under another owner.
    pub fn claimed(&self, owner: Incarnation) -> Self {
        Self { owner, ..self.clone() }
    }

    /// The same under nobody: the next sink need not wait. Only a closed record is given away.
    pub fn given_away(&self) -> Self {
        self.claimed(NOBODY)
    }

    /// The same, readable only by sinks that know seats, from now on.
    #[must_use]
    pub fn seated(&self) -> Self {
        Self { version: SEATED, ..self.clone() }
    }

    /// Whether only sinks that know seats can read it.
    pub fn is_seated(&self) -> bool {
        self.version >= SEATED
    }

    /// Who holds it, if anybody does.
    pub fn holder(&self) -> Option<Incarnation> {
        Some(self.owner).filter(|owner| *owner != NOBODY)
    }

    /// Before the first intent of the lane's new stream.
    pub fn in_epoch(&self, epoch: i64) -> Self {
        Self { version: self.version, intent: self.intent, ..Self::first(self.owner, epoch) }
    }

    /// The next intent. The one before is closed by it.
    pub fn open(&self, lo: u64, hi: u64, contents: Contents) -> Self {
        let Contents { removed, blocks, again, charges } = contents;
        let rows: u32 = blocks.iter().map(|block| block.rows).sum();
        Self {
            intent: self.intent + 1,
            lo,
            hi,
            state: State::Open,
            events: rows + removed.len(),
            removed,
            blocks,
            again,
            charges,
            ..self.clone()
        }
    }

    /// The same, known to be in the tables. What a replay would need is dropped.
    pub fn closed(&self) -> Self {
        let Contents { removed, blocks, again, charges } = Contents::default();
        Self { state: State::Closed, removed, blocks, again, charges, ..self.clone() }
    }

    /// The same position under a new number: rows that were missing go in under it. Only a closed record is repaired.
    pub fn repairing(&self) -> Self {
        Self { intent: self.intent + 1, ..self.clone() }
    }

    /// The sequence that comes next.
    pub fn next_seq(&self) -> u64 {
        self.hi + 1
    }

    /// Token of a block: the table remembers it, so the block goes in once.
    pub fn token(&self, lane: &str, part: &str) -> String {
        format!("{lane}:{}:{}-{}:{part}", self.epoch, self.lo, self.hi)
    }

    /// As stored.
    ///
    /// # Errors
    /// Never for a record that this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        serde_json::to_vec(self).map_err(|error| RecordError::Unreadable(error.to_string()))
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            version: u8,
        }
        let unreadable = |error: serde_json::Error| RecordError::Unreadable(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
        if !(OLDEST..=SEATED).contains(&head.version) {
            return Err(RecordError::UnknownVersion(head.version));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        Ok(Self { version: record.version.max(VERSION), ..record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_goes_from_intent_to_intent() {
        let first = Record::first(Incarnation(1), 7);
        assert_eq!(first.next_seq(), 1);
        let blocks = vec![PartitionRows { partition: 20261120, rows: 2 }];
        let removed = [4, 1].into_iter().collect();
        let open = first.open(1, 3, Contents { removed, blocks, charges: 2, ..Contents::default() });
        assert_eq!((open.intent, open.events, open.next_seq()), (1, 4, 4));
        assert_eq!(open.token("acme", "20261120"), "acme:7:1-3:20261120");
        let taken = open.claimed(Incarnation(2));
        assert_eq!((taken.owner, taken.state, &taken.removed), (Incarnation(2), State::Open, &open.removed));
        let closed = taken.closed();
        assert_eq!((closed.state, closed.hi, closed.events, closed.charges), (State::Closed, 3, 4, 0));
        let free = closed.given_away();
        assert_eq!((free.holder(), free.claimed(closed.owner)), (None, closed.clone()));
        let anew = closed.in_epoch(8);
        assert_eq!(
            (anew.next_seq(), anew.intent, anew.epoch),
            (1, 1, 8),
            "the intent number never goes back"
        );
    }

    #[test]
    fn others_read_the_position_up_to_which_everything_is_in_the_tables() {
        let position = |record: &Record| {
            event::Position::decode(&record.encode().unwrap()).map(|at| (at.epoch, at.sequence))
        };
        let first = Record::first(Incarnation(1), 7);
        assert_eq!(position(&first), Ok((7, 0)));
        let open = first.open(1, 3, Contents::default());
        assert_eq!((position(&open), position(&open.closed())), (Ok((7, 0)), Ok((7, 3))));
        let next = open.open(4, 9, Contents::default());
        assert_eq!(position(&next), Ok((7, 3)), "the next intent closes the one before");
    }

    #[test]
    fn records_survive_their_bucket() {
        let (removed, again) = ([0, 2].into_iter().collect(), [1].into_iter().collect());
        let contents = Contents { removed, again, charges: 3, ..Contents::default() };
        let record = Record::first(Incarnation(1), 7).open(1, 2, contents);
        assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record));
        assert_eq!(Record::decode(br#"{"version":4,"new":"field"}"#), Err(RecordError::UnknownVersion(4)));
        assert!(matches!(Record::decode(b"{}"), Err(RecordError::Unreadable(_))));
    }

    #[test]
    fn a_lane_that_tenants_moved_in_stays_closed_to_sinks_that_know_no_seats() {
        let version = |record: &Record| Record::decode(&record.encode().unwrap()).unwrap().version;
        let first = Record::first(Incarnation(1), 7);
        assert_eq!((version(&first), first.is_seated()), (VERSION, false));
        let seated = first.seated();
        let later = [
            seated.claimed(Incarnation(2)),
            seated.given_away(),
            seated.in_epoch(8),
            seated.open(1, 2, Contents::default()),
            seated.open(1, 2, Contents::default()).closed(),
            seated.repairing(),
        ];
        assert!(later.iter().all(|record| version(record) == SEATED && record.is_seated()));
        assert_eq!(
            Record { version: 1, ..first }.encode().map(|old| Record::decode(&old).unwrap().version),
            Ok(2)
        );
    }
}
