//! A pod's slice of one quota record: what it may spend without asking.
//!
//! `held (in the record) = free + pending + spent`: free may be taken, pending is taken by packs under way, spent is
//! acknowledged or unknown and not yet reported.

use event::Incarnation;

use crate::ledger::{Op, OpKind};

/// The slice of one quota key in one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    free: u64,
    pending: u64,
    spent: u64,
    last_op: u64,
    busy: bool,
}

impl Slice {
    /// Takes units for an event; nothing is taken when too few are free.
    pub fn take(&mut self, units: u64) -> bool {
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

    /// Units that may be taken.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Units taken by packs under way.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Units that the record must account for.
    pub fn outstanding(&self) -> u64 {
        self.free + self.pending + self.spent
    }

    /// Whether an operation is under way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether nothing would be lost by forgetting the slice.
    pub fn is_settled(&self) -> bool {
        !self.busy && self.outstanding() == 0
    }

    /// Begins to ask for more; `None` while another operation is under way.
    pub fn begin_grant(&mut self, by: Incarnation, at_least: u64, want: u64) -> Option<Op> {
        self.begin(by, OpKind::Grant { at_least, want })
    }

    /// Begins to give back what is free; the units leave the slice before anybody is told. `None` while another
    /// operation is under way, or when there is nothing to give back or report.
    pub fn begin_return(&mut self, by: Incarnation) -> Option<Op> {
        if self.free == 0 && self.spent == 0 {
            return None;
        }
        let op = self.begin(by, OpKind::Return { units: self.free })?;
        self.free = 0;
        Some(op)
    }

    fn begin(&mut self, by: Incarnation, kind: OpKind) -> Option<Op> {
        if self.busy {
            return None;
        }
        self.busy = true;
        Some(Op { by, number: self.last_op + 1, spent: self.spent, kind })
    }

    /// The operation took effect and the record now says that this pod holds `held`.
    pub fn finish(&mut self, op: &Op, held: u64) {
        self.busy = false;
        self.last_op = op.number;
        self.spent = self.spent.saturating_sub(op.spent);
        self.free = held.saturating_sub(self.pending + self.spent);
    }

    /// The operation definitely had no effect.
    pub fn abandon(&mut self, op: &Op) {
        self.busy = false;
        if let OpKind::Return { units } = op.kind {
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
        let by = Incarnation(1);
        let mut slice = Slice::default();
        let op = slice.begin_grant(by, 1, 10).unwrap();
        assert!(slice.begin_return(by).is_none(), "one operation at a time");
        slice.finish(&op, 10);
        assert!(slice.take(4) && !slice.take(7));
        slice.settle(3);
        let op = slice.begin_return(by).unwrap();
        assert_eq!((op.spent, op.kind), (3, OpKind::Return { units: 6 }));
        assert!(!slice.take(1), "the units left before the return was sent");
        slice.finish(&op, 1);
        assert_eq!((slice.free(), slice.pending()), (0, 1));
    }
}
