//! The rate ledger: one record a key, which hands out whole units of labelled windows to pods.
//!
//! A label is a window's number since the epoch. A pod admits only what it was handed for the label that its own clock
//! shows, so whatever is lost, repeated, paused or wrongly timed, `admitted(label) <= handed(label)`. The record keeps
//!
//! ```text
//! handed(label) <= max + saved(label)
//! saved(label + 1) = min(burst, saved(label) + max - handed(label) + what pods report as not spent)
//! ```
//! which is a token bucket: what nobody knows to be unspent counts as spent, so too little is saved, never too much.

use std::collections::BTreeMap;

use event::Incarnation;
use serde::{Deserialize, Serialize};

use crate::limit::Limit;
use crate::window::Window;

/// Pods whose clock is further from the server's are not ready.
pub const MAX_OFFSET_MS: i64 = 1_000;
/// Labels for which what was handed out is remembered after they passed; later reports are worth nothing.
const KEEP: i64 = 8;
/// A pod counts as busy while its last operation is at most this many labels old: a lease lasts two.
const BUSY: i64 = 2;

/// The record of one rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Units a window.
    pub max: u64,
    /// Most saved units.
    pub burst: u64,
    /// Snapshot generation that set both.
    pub cap_generation: u64,
    /// Oldest label that still hands out units.
    pub open: i64,
    /// Oldest label that reports are taken for.
    pub first: i64,
    /// Units saved when `first` began.
    pub saved: u64,
    /// Units handed out and not reported as unspent, from label `first` on; labels beyond it have none.
    #[serde(default)]
    pub handed: Vec<u64>,
    /// Pods, and what each was handed.
    #[serde(default)]
    pub holders: BTreeMap<Incarnation, Holder>,
}

/// One pod's part of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// Number of its last operation.
    pub last_op: u64,
    /// Label that its clock showed then.
    pub seen: i64,
    /// Units that it needs in every window; zero when its traffic is sparse.
    #[serde(default)]
    pub demand: u64,
    /// Units handed out to it, by label; gone once it has reported what it did not spend.
    #[serde(default)]
    pub shares: BTreeMap<i64, u64>,
}

/// One operation of one pod: a report about labels that passed, and a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The pod.
    pub by: Incarnation,
    /// Counts up from 1 per pod and record; applying a number again changes nothing.
    pub number: u64,
    /// The label that its clock shows.
    pub label: i64,
    /// Units of `label` that it must have been handed altogether: less is useless.
    pub needs: u64,
    /// Units of `label`, altogether, that would spare it the next operation.
    pub wants: u64,
    /// Units that it needs in every window.
    pub demand: u64,
    /// Units not spent of labels before `label`.
    pub unspent: Vec<(i64, u64)>,
}

/// What the asking pod's policy says of the rate, and what is known of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Units a window.
    pub max: u64,
    /// Most saved units.
    pub burst: u64,
    /// Snapshot generation that last changed either.
    pub cap_generation: u64,
    /// First label that may be handed out: those before may have been, by a bucket that is lost.
    pub from: i64,
    /// First label of which nothing can have been handed out if there is no record.
    pub quiet_from: i64,
    /// Labels after the present one that a lease covers.
    pub ahead: i64,
}

/// An operation that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Store this. The pod may have got less than it asked for: [`Record::share`] says what it has.
    Changed(Record),
    /// It is in the record already; nothing to store.
    Already,
}

/// Why an operation has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Somebody with newer policy has changed the rate since.
    #[error("the rate was changed by a newer policy")]
    OldPolicy,
    /// Leases of a bucket that is lost may still be spent.
    #[error("the ledger of rates was replaced just now")]
    Settling,
}

/// Labels after the present one that a lease covers: two seconds in all, or the minute itself.
pub const fn ahead(window: Window) -> i64 {
    if matches!(window, Window::Second) { 1 } else { 0 }
}

/// Milliseconds of a window of a rate.
pub const fn length_ms(window: Window) -> i64 {
    if matches!(window, Window::Second) { 1_000 } else { 60_000 }
}

/// The label that a moment has.
pub const fn label_of(window: Window, at_ms: i64) -> i64 {
    at_ms.div_euclid(length_ms(window))
}

/// How long after its last write a record is kept at least; less would make used windows look quiet.
pub const fn kept_ms(window: Window) -> i64 {
    10 * length_ms(window).saturating_mul(if matches!(window, Window::Second) { 6 } else { 1 })
}

/// First label that no operation written before `at_ms`, by the server's clock, can have handed out.
pub const fn untouched_after(window: Window, at_ms: i64) -> i64 {
    label_of(window, at_ms.saturating_add(MAX_OFFSET_MS)) + ahead(window) + 1
}

impl Terms {
    /// What a policy says of a rate, for an operation at `now_ms` in a bucket that was created at `created_ms`.
    pub fn new(limit: &Limit, created_ms: i64, now_ms: i64) -> Self {
        let from = untouched_after(limit.window, created_ms);
        // A generation is the moment it was made: before it there was no such rate whose units could be left over.
        let began_ms = i64::try_from(limit.cap_generation).unwrap_or(i64::MAX);
        // What was written last is at least so old if it is gone; the clock may be behind.
        let written_ms = now_ms.saturating_sub(kept_ms(limit.window)).saturating_add(MAX_OFFSET_MS);
        let quiet = untouched_after(limit.window, began_ms.max(written_ms));
        Self {
            max: limit.max,
            burst: limit.burst,
            cap_generation: limit.cap_generation,
            from,
            quiet_from: quiet.max(from),
            ahead: ahead(limit.window),
        }
    }
}

impl Record {
    /// The record of a rate of which nothing was handed out since `terms.quiet_from`.
    pub fn new(terms: &Terms, label: i64) -> Self {
        let quiet = u64::try_from(label.saturating_sub(terms.quiet_from)).unwrap_or(0);
        Self {
            max: terms.max,
            burst: terms.burst,
            cap_generation: terms.cap_generation,
            open: label,
            first: label,
            saved: terms.burst.min(quiet.saturating_mul(terms.max)),
            handed: Vec::new(),
            holders: BTreeMap::new(),
        }
    }

    /// What `op` makes of `record`.
    ///
    /// # Errors
    /// [`Denied`]: nothing changes.
    pub fn apply(record: Option<&Self>, terms: &Terms, op: &Op) -> Result<Applied, Denied> {
        let mut next = record.cloned().unwrap_or_else(|| Self::new(terms, op.label));
        if next.holders.get(&op.by).is_some_and(|holder| op.number <= holder.last_op) {
            return Ok(Applied::Already);
        }
        if op.label < terms.from {
            return Err(Denied::Settling);
        }
        if terms.cap_generation < next.cap_generation {
            return Err(Denied::OldPolicy);
        }
        next.advance(op.label);
        if terms.cap_generation > next.cap_generation {
            next.change(terms);
        }
        next.note(op);
        for label in op.label.max(next.open)..=op.label.saturating_add(terms.ahead) {
            let missing = next.target(op.by).saturating_sub(next.share(op.by, label));
            next.grant(op.by, label, missing.min(next.left(label)));
        }
        next.top_up(op);
        Ok(Applied::Changed(next))
    }

    /// Units that a pod was handed of a label.
    pub fn share(&self, pod: Incarnation, label: i64) -> u64 {
        self.holders.get(&pod).and_then(|holder| holder.shares.get(&label)).copied().unwrap_or(0)
    }

    /// Units of a label that were handed out and not reported as unspent.
    pub fn handed(&self, label: i64) -> u64 {
        self.place(label).and_then(|at| self.handed.get(at)).copied().unwrap_or(0)
    }

    /// Units saved when a label began, if nothing more is handed out before; at most the burst.
    pub fn saved(&self, label: i64) -> u64 {
        let passed = self.place(label).unwrap_or(0);
        let known = self.handed.iter().take(passed);
        let saved = known.clone().fold(self.saved, |saved, handed| self.step(saved, *handed));
        self.rest(saved, passed - known.len())
    }

    /// Units of a label that a pod could still be handed: those not handed out, without what is set aside for others.
    pub fn available(&self, pod: Incarnation, label: i64) -> u64 {
        if label < self.open {
            return 0;
        }
        let owed = |other: &Incarnation| self.target(*other).saturating_sub(self.share(*other, label));
        let others = self.holders.keys().filter(|other| **other != pod);
        let owed = others.map(owed).fold(0, u64::saturating_add);
        self.max.saturating_add(self.saved(label)).saturating_sub(self.handed(label)).saturating_sub(owed)
    }

    /// Windows to wait, from `label` on, until an event of `units` can be admitted: at least one. An event larger than
    /// the rate ever admits is told one as well.
    pub fn windows_until(&self, label: i64, units: u64) -> u64 {
        let saved = self.saved(label.max(self.open).saturating_add(1));
        let missing = units.saturating_sub(self.max).saturating_sub(saved);
        if missing == 0 || self.max == 0 || units > self.max.saturating_add(self.burst) {
            return 1;
        }
        missing.div_ceil(self.max).saturating_add(1)
    }

    /// What is saved after a window of which `handed` were handed out.
    fn step(&self, saved: u64, handed: u64) -> u64 {
        saved.saturating_add(self.max).saturating_sub(handed).min(self.burst)
    }

    /// What is saved after some windows of which nothing was handed out.
    fn rest(&self, saved: u64, windows: usize) -> u64 {
        saved.saturating_add((windows as u64).saturating_mul(self.max)).min(self.burst)
    }

    fn place(&self, label: i64) -> Option<usize> {
        usize::try_from(label.checked_sub(self.first)?).ok()
    }

    /// Closes the labels before `to`, and forgets those that passed long ago.
    fn advance(&mut self, to: i64) {
        self.open = self.open.max(to);
        self.forget(self.open.saturating_sub(KEEP));
    }

    fn forget(&mut self, before: i64) {
        if before <= self.first {
            return;
        }
        self.saved = self.saved(before);
        let gone = self.place(before).unwrap_or(0).min(self.handed.len());
        self.handed.drain(..gone);
        self.first = before;
        self.holders.retain(|_, holder| holder.seen >= before);
        for holder in self.holders.values_mut() {
            holder.shares.retain(|label, _| *label >= before);
        }
    }

    /// Takes a newer policy over. What passed until now was saved under the older one, and is not looked at again.
    fn change(&mut self, terms: &Terms) {
        let holders = self.holders.clone();
        self.forget(self.open);
        // Numbers of operations outlive the labels.
        for (pod, holder) in holders {
            self.holders.entry(pod).or_insert_with(|| Holder { shares: BTreeMap::new(), ..holder });
        }
        (self.max, self.burst, self.cap_generation) = (terms.max, terms.burst, terms.cap_generation);
        self.saved = self.saved.min(self.burst);
    }

    /// Takes the report over. A share is reported once: its entry goes with it.
    fn note(&mut self, op: &Op) {
        let holder = self.holders.entry(op.by).or_default();
        (holder.last_op, holder.seen, holder.demand) = (op.number, op.label, op.demand);
        for (label, unspent) in op.unspent.iter().filter(|(label, _)| *label < op.label) {
            let Some(share) = self.holders.get_mut(&op.by).and_then(|holder| holder.shares.remove(label))
            else {
                continue;
            };
            let handed = self.place(*label).and_then(|at| self.handed.get_mut(at));
            if let Some(handed) = handed {
                *handed = handed.saturating_sub(share.min(*unspent));
            }
        }
    }

    /// What the present label still lacks. Nothing when that is not enough: the event is refused as a whole.
    fn top_up(&mut self, op: &Op) {
        let (had, all) = (self.share(op.by, op.label), self.available(op.by, op.label));
        let need = op.needs.saturating_sub(had);
        if need == 0 || need > all {
            return;
        }
        let pods =
            self.holders.values().filter(|holder| holder.seen >= op.label - BUSY).count().max(1) as u64;
        // Half of an even part, so that few are stuck in a pod near the end; a little of the whole, so that the end does
        // not cost an operation a unit. Of a small rate units are handed out one by one.
        let more = op.wants.saturating_sub(had).min(all).min((all / (2 * pods)).max(self.max / (32 * pods)));
        self.grant(op.by, op.label, need.max(more));
    }

    fn grant(&mut self, to: Incarnation, label: i64, units: u64) {
        let Some(at) = self.place(label).filter(|_| units > 0) else { return };
        if self.handed.len() <= at {
            self.handed.resize(at + 1, 0);
        }
        self.handed[at] += units;
        *self.holders.entry(to).or_default().shares.entry(label).or_default() += units;
    }

    /// Units of a label that are not handed out. What later labels will have saved nobody knows yet.
    fn left(&self, label: i64) -> u64 {
        let saved = if label <= self.open { self.saved(label) } else { 0 };
        self.max.saturating_add(saved).saturating_sub(self.handed(label))
    }

    /// Units a window that are set aside for a pod: its demand and some more, or its part when all want too much.
    fn target(&self, pod: Incarnation) -> u64 {
        let latest = self.holders.values().map(|holder| holder.seen).max().unwrap_or(0);
        let busy = |holder: &&Holder| holder.demand > 0 && holder.seen >= latest - BUSY;
        let Some(own) = self.holders.get(&pod).filter(busy) else { return 0 };
        let demands = || self.holders.iter().filter(|(_, holder)| busy(holder));
        let sum = |part: &mut dyn Iterator<Item = u64>| part.map(u128::from).sum::<u128>();
        let all = sum(&mut demands().map(|(_, holder)| holder.demand));
        let max = u128::from(self.max);
        let target = if all >= max {
            // Parts by running totals: whole units that sum to `max` exactly.
            let before =
                sum(&mut demands().filter(|(other, _)| **other < pod).map(|(_, other)| other.demand));
            let upto = before + u128::from(own.demand);
            (max * upto / all - max * before / all).max(1)
        } else {
            let some_more = u128::from(own.demand / 4 + 2);
            u128::from(own.demand) + some_more.min((max - all) / (2 * demands().count() as u128))
        };
        u64::try_from(target).unwrap_or(u64::MAX).min(self.max)
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
