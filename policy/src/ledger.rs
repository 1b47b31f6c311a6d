//! The quota ledger: one record a key, changed by compare-and-set, and pods that hold slices of it.
//!
//! `free = cap - used - held by all`. A pod may admit only units it holds, so whatever is lost, delayed, repeated or
//! paused, `admitted <= used + held <= cap`. Every change is the pure function [`Record::apply`]; whoever stores the
//! result with the revision that was read makes it true.

use std::collections::BTreeMap;

use event::Incarnation;
use serde::{Deserialize, Serialize};

/// The record of one quota key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Units of the period.
    pub cap: u64,
    /// Snapshot generation that set `cap`.
    pub cap_generation: u64,
    /// Id of the ledger bucket the record was made in.
    pub ledger_id: String,
    /// Units whose packs are acknowledged or unknown.
    pub used: u64,
    /// Units handed out and not yet reported, by pod.
    #[serde(default)]
    pub holders: BTreeMap<Incarnation, Holder>,
}

/// One pod's part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Units it may still spend, or has spent without saying so.
    pub held: u64,
    /// Number of its last operation on this record.
    pub last_op: u64,
}

/// One operation of one pod on one record. At most one is under way per pod and record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// The pod.
    pub by: Incarnation,
    /// Counts up from 1 per pod and record; applying a number again changes nothing.
    pub number: u64,
    /// Units spent since the last operation: they move from held to used.
    pub spent: u64,
    /// What is asked.
    pub kind: OpKind,
}

/// What an operation asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// More units.
    Grant {
        /// Fewer than this are useless.
        at_least: u64,
        /// No more than this.
        want: u64,
    },
    /// Units back.
    Return {
        /// How many.
        units: u64,
    },
}

/// What the asking pod's policy says of the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Units of the period.
    pub cap: u64,
    /// Snapshot generation that last changed `cap`.
    pub cap_generation: u64,
    /// Id of the ledger bucket.
    pub ledger_id: &'a str,
}

/// An operation that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Store this.
    Changed(Record),
    /// It is in the record already; nothing to store.
    Already,
    /// There is no record and none is needed (a return to a period that is gone).
    Dropped,
}

/// Why an operation has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Too few units are free.
    #[error("{used} of {cap} units are used, {held_by_others} are held elsewhere")]
    Exhausted {
        /// The cap in force.
        cap: u64,
        /// Units used.
        used: u64,
        /// Units that the asking pod itself holds.
        held: u64,
        /// Units that other pods hold: they might come back.
        held_by_others: u64,
    },
    /// Somebody with newer policy has changed the cap since.
    #[error("the cap was changed by a newer policy")]
    OldPolicy,
    /// The bucket is not the one that the policy names.
    #[error("the ledger was replaced")]
    LedgerLost,
    /// The pod reports more than it holds: it must not spend anything of this record any more.
    #[error("the operation does not fit what the record says is held")]
    Inconsistent,
}

impl Record {
    /// The record of a quota that nobody has used yet.
    pub fn new(terms: &Terms<'_>) -> Self {
        Self {
            cap: terms.cap,
            cap_generation: terms.cap_generation,
            ledger_id: terms.ledger_id.to_owned(),
            used: 0,
            holders: BTreeMap::new(),
        }
    }

    /// Units held by all pods.
    pub fn held(&self) -> u64 {
        self.holders.values().map(|holder| holder.held).sum()
    }

    /// Units held by one pod.
    pub fn held_by(&self, pod: Incarnation) -> u64 {
        self.holders.get(&pod).map_or(0, |holder| holder.held)
    }

    /// Units nobody uses or holds.
    pub fn free(&self) -> u64 {
        self.cap.saturating_sub(self.used.saturating_add(self.held()))
    }

    /// What `op` makes of `record`.
    ///
    /// # Errors
    /// [`Denied`]: nothing changes.
    pub fn apply(record: Option<&Self>, terms: &Terms<'_>, op: &Op) -> Result<Applied, Denied> {
        let mut next = match (record, op.kind) {
            (Some(record), _) => record.clone(),
            (None, OpKind::Grant { .. }) => Self::new(terms),
            (None, OpKind::Return { .. }) => return Ok(Applied::Dropped),
        };
        if next.holders.get(&op.by).is_some_and(|holder| op.number <= holder.last_op) {
            return Ok(Applied::Already);
        }
        if next.ledger_id != terms.ledger_id {
            return Err(Denied::LedgerLost);
        }
        let mut holder = next.holders.get(&op.by).copied().unwrap_or_default();
        holder.held = holder.held.checked_sub(op.spent).ok_or(Denied::Inconsistent)?;
        holder.last_op = op.number;
        next.used = next.used.saturating_add(op.spent);
        next.holders.insert(op.by, holder);
        match op.kind {
            OpKind::Return { units } => {
                holder.held = holder.held.checked_sub(units).ok_or(Denied::Inconsistent)?;
            }
            OpKind::Grant { at_least, want } => {
                match terms.cap_generation.cmp(&next.cap_generation) {
                    std::cmp::Ordering::Less => return Err(Denied::OldPolicy),
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Greater => {
                        (next.cap, next.cap_generation) = (terms.cap, terms.cap_generation);
                    }
                }
                let granted = want.max(at_least).min(next.free());
                if granted < at_least {
                    return Err(Denied::Exhausted {
                        cap: next.cap,
                        used: next.used,
                        held: holder.held,
                        held_by_others: next.held() - holder.held,
                    });
                }
                holder.held += granted;
            }
        }
        next.holders.insert(op.by, holder);
        Ok(Applied::Changed(next))
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
