//! One operation on one record, from its first read to a definite answer: what to ask the store next.
//!
//! Pods and the model drive the same machine. The store can read a record with its revision and write one at the revision it
//! was read at; an answer may be lost after the write happened, and a read may come from a replica that is behind.
//!
//! ```text
//! step -> Read   -> read(record)   -> step …
//!      -> Write  -> wrote(result)  -> step …
//!      -> Done(outcome)
//! ```

use crate::ledger::{Applied, Denied, Op, OpKind, Record, Terms};

/// An operation on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    op: Op,
    /// A write was sent whose answer never came: it may be in the record, or still arrive.
    sent: bool,
    /// Revision at which this pod last saw its own operation: what is older comes from a replica that is behind, and says
    /// nothing.
    seen: u64,
    known: Option<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    record: Option<Record>,
    revision: u64,
    /// Remembered from an earlier operation: good for a write, which the revision guards, but not for a definite no.
    remembered: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read the record.
    Read,
    /// Write this at this revision (0: it must not exist).
    Write(Record, u64),
    /// There is an answer.
    Done(Outcome),
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the record, which was last seen like this, at this revision; `None` when there is no record and none is
    /// needed.
    Applied(Option<Record>, u64),
    /// It had no effect and never will.
    Denied(Denied, Option<Record>),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It is stored, at this revision.
    Stored(u64),
    /// The record has another revision by now.
    Conflict,
    /// Nobody knows.
    Unknown,
}

impl Attempt {
    /// Begins an operation; `seen` is the revision that the last one of its slice left behind (0: none), `remembered` the
    /// record at that revision or a later one.
    pub fn new(op: Op, seen: u64, remembered: Option<(Record, u64)>) -> Self {
        let known =
            remembered.map(|(record, revision)| Known { record: Some(record), revision, remembered: true });
        Self { op, sent: false, seen, known }
    }

    /// Takes up an operation again whose write may have happened.
    pub fn again(op: Op, seen: u64) -> Self {
        Self { op, sent: true, seen, known: None }
    }

    /// Whether a write was sent whose answer never came.
    pub fn is_unanswered(&self) -> bool {
        self.sent
    }

    fn is_reservation(&self) -> bool {
        matches!(self.op.kind, OpKind::Grant { expires_ms: Some(_), .. })
    }

    /// What to do next.
    pub fn step(&mut self, terms: &Terms<'_>) -> Step {
        loop {
            let Some(known) = &self.known else { return Step::Read };
            match Record::apply(known.record.as_ref(), terms, &self.op) {
                Ok(Applied::Changed(next)) => return Step::Write(next, known.revision),
                Ok(Applied::Already | Applied::Dropped) => {
                    return Step::Done(Outcome::Applied(known.record.clone(), known.revision));
                }
                Err(_) if known.remembered => self.known = None,
                // An earlier send may still arrive. Its number is used up by an operation that only reports, so that either
                // that one or this one is in the record, and what is held is known.
                // A reservation that still arrives is nobody's, and ends by itself.
                Err(Denied::Exhausted { .. } | Denied::OldPolicy | Denied::Crowded)
                    if self.sent && !self.is_reservation() =>
                {
                    self.op.kind = OpKind::Return { units: 0, last: false };
                }
                Err(denied) => return Step::Done(Outcome::Denied(denied, known.record.clone())),
            }
        }
    }

    /// The answer to [`Step::Read`]; the next step is to read again when it is behind what this pod has seen.
    pub fn read(&mut self, terms: &Terms<'_>, read: Option<(Record, u64)>) {
        let (record, revision) = read.map_or((None, 0), |(record, revision)| (Some(record), revision));
        let replaced = record.as_ref().is_some_and(|record| record.ledger_id != terms.ledger_id);
        if revision < self.seen && !replaced {
            return;
        }
        self.known = Some(Known { record, revision, remembered: false });
    }

    /// The answer to [`Step::Write`] of `record`.
    pub fn wrote(&mut self, record: Record, wrote: Wrote) -> Option<Outcome> {
        self.known = None;
        match wrote {
            Wrote::Stored(revision) => return Some(Outcome::Applied(Some(record), revision)),
            Wrote::Conflict => {}
            // A read that does not show the operation proves nothing; the next write at the revision read decides.
            Wrote::Unknown => self.sent = true,
        }
        None
    }
}
