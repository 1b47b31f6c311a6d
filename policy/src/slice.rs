//! A pod's slice of one quota record: what it may spend without asking.
//!
//! `held (in the record) = free + pending + spent + stranded`: free may be taken, pending is taken by packs under way,
//! spent is acknowledged or unknown and not yet reported, stranded was held by an earlier slice of this pod for the same
//! record, which was forgotten: nobody knows how much of it was spent, so it dies with the period.

use event::Incarnation;

use crate::ledger::{Op, OpKind, Record, Terms};

/// The slice of one quota key in one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    free: u64,
    pending: u64,
    spent: u64,
    stranded: u64,
    last_op: u64,
    busy: bool,
    /// The cap that the free units were granted under, and the snapshot generation that set it.
    cap: u64,
    cap_generation: u64,
}

impl Slice {
    /// Takes units for an event under `terms`; nothing is taken when too few are free, or when they were granted under a
    /// higher cap that newer policy has lowered.
    pub fn take(&mut self, units: u64, terms: &Terms<'_>) -> bool {
        if self.is_outdated(terms) {
            return false;
        }
        match self.free.checked_sub(units) {
            Some(rest) => {
                self.free = rest;
                self.pending += units;
                true
            }
            None => false,
        }
    }

    /// The pack that carried `units` is acknowledged, or nobody knows.
    pub fn settle(&mut self, units: u64) {
        let units = units.min(self.pending);
        self.pending -= units;
        self.spent += units;
    }

    /// The pack that carried `units` was definitely not stored, or the event was refused by another limit.
    pub fn credit(&mut self, units: u64) {
        let units = units.min(self.pending);
        self.pending -= units;
        self.free += units;
    }

    /// Whether free units were granted under a higher cap than the one that `terms` bring: they go back before any is spent
    /// under the new one.
    pub fn is_outdated(&self, terms: &Terms<'_>) -> bool {
        self.free > 0 && self.cap_generation < terms.cap_generation && self.cap > terms.cap
    }

    /// Units that may be taken.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// The cap that the last grant was made under; 0 before the first.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// Units taken by packs under way.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Units that the record must account for.
    pub fn outstanding(&self) -> u64 {
        self.free + self.pending + self.spent
    }

    /// Whether nothing would be lost by forgetting the slice.
    pub fn is_settled(&self) -> bool {
        !self.busy && self.outstanding() == 0
    }

    /// Whether the record has never heard of this slice.
    pub fn is_unknown(&self) -> bool {
        self.last_op == 0
    }

    /// Begins to give back what is free for good: nothing is remembered of this pod once it holds nothing.
    pub fn begin_last_return(&mut self, by: Incarnation, number: u64) -> Option<Op> {
        let op = self.begin(by, number, OpKind::Return { units: self.free, last: self.pending == 0 })?;
        self.free = 0;
        Some(op)
    }

    /// The record knows an operation of this pod that this slice did not send ([`crate::ledger::Denied::Forgotten`]): it goes
    /// on behind that one, and never spends what the record says was held before.
    pub fn resume(&mut self, op: &Op, last_op: u64, held: u64) {
        self.abandon(op);
        self.last_op = last_op;
        self.stranded = held.saturating_sub(self.outstanding());
    }

    /// Begins to ask for more, as this pod's operation `number`, higher than all before; `None` while another operation is under way.
    pub fn begin_grant(
        &mut self,
        by: Incarnation,
        number: u64,
        at_least: u64,
        want: u64,
        now_ms: i64,
    ) -> Option<Op> {
        self.begin(by, number, OpKind::Grant { at_least, want, now_ms, expires_ms: None })
    }

    /// Begins to give back what is free; the units leave the slice before anybody is told. `None` while another
    /// operation is under way, or when there is nothing to give back or report.
    pub fn begin_return(&mut self, by: Incarnation, number: u64) -> Option<Op> {
        if self.free == 0 && self.spent == 0 {
            return None;
        }
        let op = self.begin(by, number, OpKind::Return { units: self.free, last: false })?;
        self.free = 0;
        Some(op)
    }

    fn begin(&mut self, by: Incarnation, number: u64, kind: OpKind) -> Option<Op> {
        if self.busy {
            return None;
        }
        self.busy = true;
        Some(Op { by, number, after: self.last_op, spent: self.spent, kind })
    }

    /// The operation is in `record`, or it needed none.
    pub fn finish(&mut self, op: &Op, record: Option<&Record>) {
        self.busy = false;
        self.last_op = op.number;
        self.spent = self.spent.saturating_sub(op.spent);
        let held = record.map_or(0, |record| record.held_by(op.by));
        if let (OpKind::Grant { .. }, Some(record)) = (op.kind, record) {
            (self.cap, self.cap_generation) = (record.cap, record.cap_generation);
        }
        self.free = held.saturating_sub(self.pending + self.spent + self.stranded);
    }

    /// The operation definitely had no effect.
    pub fn abandon(&mut self, op: &Op) {
        self.busy = false;
        if let OpKind::Return { units, .. } = op.kind {
            self.free += units;
        }
    }
}

/// How many units to ask for: enough for two seconds at the present rate, but never more than half of an even share
/// of what remains, so that slices shrink near the limit.
///
/// `live_pods` counts this pod too.
pub fn grant_size(at_least: u64, remaining: u64, live_pods: u64, units_per_second: u64) -> u64 {
    let share = remaining / (2 * live_pods.max(1));
    at_least.max(share.min(units_per_second.saturating_mul(2).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Applied;

    fn terms(cap: u64, cap_generation: u64) -> Terms<'static> {
        Terms { cap, cap_generation, ledger_id: "l" }
    }

    #[test]
    fn slices_shrink_near_the_limit() {
        assert_eq!(grant_size(1, 1_000_000, 2, 5_000), 10_000, "two seconds at the present rate");
        assert_eq!(grant_size(1, 1_000, 2, 5_000), 250, "half of an even share");
        assert_eq!(grant_size(1, 3, 2, 5_000), 1);
        assert_eq!(grant_size(40, 100, 2, 1), 40, "an event larger than the slice asks for its own amount");
        assert_eq!(grant_size(1, 1_000_000, 8, 0), 1, "an idle key asks for one");
    }

    #[test]
    fn a_slice_returns_only_what_nobody_took() {
        let (by, terms) = (Incarnation(1), terms(20, 1));
        let mut slice = Slice::default();
        let op = slice.begin_grant(by, 1, 1, 10, 0).unwrap();
        assert!(slice.begin_return(by, 2).is_none(), "one operation at a time");
        let Ok(Applied::Changed(record)) = Record::apply(None, &terms, &op) else { panic!() };
        slice.finish(&op, Some(&record));
        assert!(slice.take(4, &terms) && !slice.take(7, &terms));
        slice.settle(3);
        let op = slice.begin_return(by, 2).unwrap();
        assert_eq!((op.spent, op.kind), (3, OpKind::Return { units: 6, last: false }));
        assert!(!slice.take(1, &terms), "the units left before the return was sent");
        let Ok(Applied::Changed(record)) = Record::apply(Some(&record), &terms, &op) else { panic!() };
        slice.finish(&op, Some(&record));
        assert_eq!((slice.free(), slice.pending()), (0, 1));
    }

    #[test]
    fn units_of_a_lowered_cap_are_not_spent_and_those_of_a_raised_one_are() {
        let mut slice = Slice::default();
        let op = slice.begin_grant(Incarnation(1), 1, 1, 10, 0).unwrap();
        let Ok(Applied::Changed(record)) = Record::apply(None, &terms(20, 1), &op) else { panic!() };
        slice.finish(&op, Some(&record));
        assert!(slice.take(1, &terms(30, 2)), "a raised cap leaves what is held in place");
        assert!(!slice.take(1, &terms(10, 2)) && slice.is_outdated(&terms(10, 2)));
    }

    #[test]
    fn a_forgotten_slice_never_spends_what_it_held_before() {
        let mut slice = Slice::default();
        let op = slice.begin_grant(Incarnation(1), 8, 1, 5, 0).unwrap();
        slice.resume(&op, 7, 12);
        let op = slice.begin_grant(Incarnation(1), 9, 1, 5, 0).unwrap();
        assert_eq!(op.after, 7);
        let holder = crate::ledger::Holder { held: 17, last_op: 9, ..Default::default() };
        let record = Record { holders: [(Incarnation(1), holder)].into(), ..Record::new(&terms(20, 1)) };
        slice.finish(&op, Some(&record));
        assert_eq!(slice.free(), 5, "12 of the 17 may have been spent");
    }
}
