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
    /// Units handed out and not yet reported, by pod or reservation.
    #[serde(default)]
    pub holders: BTreeMap<Incarnation, Holder>,
    /// Units of reservations, by the pod whose packs carry them: packs tell what each pod charged, and this is not in its
    /// holder's `spent`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub committed: BTreeMap<Incarnation, u64>,
    /// Units in `used` that no pod was granted: they were used before anybody counted ([`Record::seed`]).
    #[serde(default, skip_serializing_if = "is_default")]
    pub seeded: u64,
    /// Units of repeated events that have come back ([`Record::return_repeats`]).
    #[serde(default, skip_serializing_if = "is_default")]
    pub repeats: u64,
}

/// One pod's part of a record, or a reservation's: its id is a number of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Units it may still spend, or has spent without saying so.
    pub held: u64,
    /// Number of its last operation on this record.
    pub last_op: u64,
    /// Units that it has reported as spent since its entry was made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: u64,
    /// When a reservation ends, Unix milliseconds; `None` for pods.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expires_ms: Option<i64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How long after its end a reservation still holds its units: a commit that began before the end is over by then, whatever
/// the clocks of two pods say.
pub const RESERVATION_GRACE_MS: i64 = 30_000;

/// Most reservations of one record at a time: every operation writes all of them.
pub const MAX_RESERVATIONS: usize = 500;

/// Number of the last operation of a pod that was reaped: it has had all that it will ever have.
pub(crate) const REAPED: u64 = u64::MAX;

/// One operation of one pod on one record. At most one is under way per pod and record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// The pod.
    pub by: Incarnation,
    /// Rises from operation to operation of a pod; applying a number again changes nothing.
    pub number: u64,
    /// Number of the pod's operation on this record before it, as far as its slice knows; 0 for the first.
    pub after: u64,
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
        /// The time: reservations that have ended by then give back what they hold.
        now_ms: i64,
        /// When the units come back by themselves: the holder is a reservation.
        expires_ms: Option<i64>,
    },
    /// A reservation is used: what it holds is reported as spent by [`Op::spent`], the rest goes back, and its entry goes.
    Commit {
        /// The pod whose pack will carry the units.
        pod: Incarnation,
    },
    /// Units back.
    Return {
        /// How many.
        units: u64,
        /// Whether the pod forgets the record: its entry goes when it holds nothing more.
        last: bool,
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
    /// The record knows an operation of this pod that its slice does not: an earlier slice was forgotten without a return.
    #[error("this pod has forgotten that it holds {held}")]
    Forgotten {
        /// Number of that operation.
        last_op: u64,
        /// Units that the record says this pod holds.
        held: u64,
    },
    /// The pod reports more than it holds: it must not spend anything of this record any more.
    #[error("the operation does not fit what the record says is held")]
    Inconsistent,
    /// The reservation has ended, or was committed or released before.
    #[error("the reservation is gone")]
    Gone,
    /// [`MAX_RESERVATIONS`] are open.
    #[error("too many reservations are open")]
    Crowded,
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
            committed: BTreeMap::new(),
            seeded: 0,
            repeats: 0,
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

    /// How many reservations hold units.
    fn reservations(&self) -> usize {
        self.holders.values().filter(|holder| holder.expires_ms.is_some()).count()
    }

    /// Takes over the cap of newer policy.
    fn raise(&mut self, terms: &Terms<'_>) {
        if terms.cap_generation > self.cap_generation {
            (self.cap, self.cap_generation) = (terms.cap, terms.cap_generation);
        }
    }

    /// Reservations that have ended hold nothing any more.
    fn end_reservations(&mut self, now_ms: i64) {
        let has_ended = |holder: &Holder| {
            holder.expires_ms.is_some_and(|at| at.saturating_add(RESERVATION_GRACE_MS) <= now_ms)
        };
        self.holders.retain(|_, holder| !has_ended(holder));
    }

    /// Takes a reservation's entry away; what it spent stands by the pod whose pack will carry it.
    fn commit(&mut self, op: &Op, pod: Incarnation) -> Result<(), Denied> {
        if self.holders.get(&pod).is_some_and(|holder| holder.last_op == REAPED) {
            return Err(Denied::Inconsistent);
        }
        let committed = self.committed.entry(pod).or_default();
        *committed = committed.saturating_add(op.spent);
        self.holders.remove(&op.by);
        Ok(())
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
            (None, OpKind::Commit { .. }) => return Err(Denied::Gone),
        };
        let known = next.holders.get(&op.by).copied();
        if known.is_some_and(|holder| op.number <= holder.last_op) {
            return Ok(Applied::Already);
        }
        if known.is_none() && matches!(op.kind, OpKind::Return { last: true, .. }) {
            // Only its own last return takes a pod's entry away: this is that return again.
            return Ok(Applied::Already);
        }
        if known.is_none() && matches!(op.kind, OpKind::Commit { .. }) {
            return Err(Denied::Gone);
        }
        if next.ledger_id != terms.ledger_id {
            return Err(Denied::LedgerLost);
        }
        if let Some(Holder { held, last_op, .. }) = known.filter(|holder| holder.last_op != op.after) {
            return Err(Denied::Forgotten { last_op, held });
        }
        let mut holder = known.unwrap_or_default();
        holder.held = holder.held.checked_sub(op.spent).ok_or(Denied::Inconsistent)?;
        holder.last_op = op.number;
        holder.spent = holder.spent.saturating_add(op.spent);
        next.used = next.used.saturating_add(op.spent);
        match op.kind {
            OpKind::Commit { pod } => {
                next.commit(op, pod)?;
                return Ok(Applied::Changed(next));
            }
            OpKind::Return { units, last } => {
                holder.held = holder.held.checked_sub(units).ok_or(Denied::Inconsistent)?;
                next.raise(terms);
                if last && holder.held == 0 {
                    next.holders.remove(&op.by);
                    next.committed.remove(&op.by);
                    return Ok(Applied::Changed(next));
                }
            }
            OpKind::Grant { at_least, want, now_ms, expires_ms } => {
                if terms.cap_generation < next.cap_generation {
                    return Err(Denied::OldPolicy);
                }
                next.raise(terms);
                next.end_reservations(now_ms);
                if expires_ms.is_some() && known.is_none() && next.reservations() >= MAX_RESERVATIONS {
                    return Err(Denied::Crowded);
                }
                holder.expires_ms = expires_ms;
                let held_by_others = next.held() - known.map_or(0, |known| known.held);
                let free = next
                    .cap
                    .saturating_sub(next.used.saturating_add(holder.held).saturating_add(held_by_others));
                let granted = want.max(at_least).min(free);
                if granted < at_least {
                    let (cap, used, held) = (next.cap, next.used, holder.held);
                    return Err(Denied::Exhausted { cap, used, held, held_by_others });
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
