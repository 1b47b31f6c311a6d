//! What is put right in a record when more is known than pods know: what a dead pod really used, what was used before a limit
//! counted, which events were repeats.
//!
//! None of this is an operation of a pod. Each may be applied again and changes nothing the second time; whoever stores the
//! result with the revision that was read makes it true.

use event::Incarnation;

use crate::ledger::{Holder, REAPED, Record};

impl Record {
    /// The record of a quota of which only is known what was `charged` to it, and what was used `before` anybody counted.
    pub fn seeded(ledger_id: &str, charged: u64, before: u64) -> Self {
        Self {
            cap: 0,
            // Whoever grants first brings the cap.
            cap_generation: 0,
            ledger_id: ledger_id.to_owned(),
            used: charged.saturating_add(before),
            holders: std::collections::BTreeMap::new(),
            committed: std::collections::BTreeMap::new(),
            seeded: before,
            repeats: 0,
        }
    }

    /// Makes the units that were used without being charged `total` since the beginning of the period; `None` when they
    /// are. What is used may exceed the cap then: nothing is granted until it does not.
    pub fn seed(&self, total: u64) -> Option<Self> {
        let more = total.checked_sub(self.seeded).filter(|more| *more > 0)?;
        Some(Self { used: self.used.saturating_add(more), seeded: total, ..self.clone() })
    }

    /// Takes what a dead pod holds. `charged` is all that it ever charged to this record in packs that are stored, and no
    /// other pack of it can be stored any more: so that, and nothing else, is what it used. Its entry stays until
    /// `forget_ms` and lets no operation of that pod pass which is still on its way. `None` when it is not in the record, or was
    /// reaped before.
    pub fn reap(&self, dead: Incarnation, charged: u64, forget_ms: i64) -> Option<Self> {
        let mut next = self.clone();
        let committed = next.committed.remove(&dead);
        let holder = match (self.holders.get(&dead), committed) {
            (Some(holder), _) => Some(*holder).filter(|holder| holder.last_op != REAPED)?,
            // It only ever carried reservations.
            (None, committed) => committed.map(|_| Holder::default())?,
        };
        let reported = holder.spent.saturating_add(committed.unwrap_or(0));
        // In this order: repeats may have taken from `used` what this pod reported.
        let known = next.used.saturating_add(charged);
        next.used = known.saturating_sub(reported);
        // What they took beyond that comes back when other pods report it.
        next.repeats = next.repeats.saturating_sub(reported.saturating_sub(known));
        let reaped = Holder { held: 0, last_op: REAPED, spent: charged, expires_ms: Some(forget_ms) };
        next.holders.insert(dead, reaped);
        Some(next)
    }

    /// Whether a pod was taken for dead: it must end, and another incarnation begin.
    pub fn is_reaped(&self, pod: Incarnation) -> bool {
        self.holders.get(&pod).is_some_and(|holder| holder.last_op == REAPED)
    }

    /// Pods that the record knows and that were not reaped.
    pub fn pods(&self) -> impl Iterator<Item = (Incarnation, Holder)> + '_ {
        let holders = self.holders.iter().filter(|(_, holder)| holder.expires_ms.is_none());
        let only_committed = self.committed.keys().filter(|pod| !self.holders.contains_key(pod));
        let holders = holders.map(|(pod, holder)| (*pod, *holder));
        holders.chain(only_committed.map(|pod| (*pod, Holder::default())))
    }

    /// Gives back units that were charged for events which were stored before: `total` of them since the record was made.
    /// `None` when they have come back. Those that their pod has not reported yet come back later.
    pub fn return_repeats(&self, total: u64) -> Option<Self> {
        let back = total.saturating_sub(self.repeats).min(self.used);
        (back > 0).then(|| Self { used: self.used - back, repeats: self.repeats + back, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Applied, Op, OpKind, Terms};

    const A: Incarnation = Incarnation(1);

    fn record(used: u64, holder: Holder) -> Record {
        let terms = Terms { cap: 100, cap_generation: 1, ledger_id: "l" };
        Record { used, holders: [(A, holder)].into(), ..Record::new(&terms) }
    }

    #[test]
    fn a_dead_pod_has_used_what_it_charged_and_nothing_else() {
        let holder = Holder { held: 20, last_op: 4, spent: 30, expires_ms: None };
        // 30 of the 50 used are its own; 37 of its units are in packs that are stored.
        let reaped = record(50, holder).reap(A, 37, 1_000).unwrap();
        assert_eq!((reaped.used, reaped.pods().count(), reaped.free()), (57, 0, 43));
        assert_eq!(reaped.reap(A, 37, 1_000), None, "a second time changes nothing");
        assert!(reaped.is_reaped(A) && !record(50, holder).is_reaped(A));
        let kind = OpKind::Grant { at_least: 1, want: 9, now_ms: 0, expires_ms: None };
        let late = Op { by: A, number: 5, after: 4, spent: 0, kind };
        let terms = Terms { cap: 100, cap_generation: 1, ledger_id: "l" };
        assert_eq!(Record::apply(Some(&reaped), &terms, &late), Ok(Applied::Already), "it gets nothing more");
        // A pack of unknown fate was never stored: its units come back as well.
        assert_eq!(record(50, holder).reap(A, 28, 0).unwrap().used, 48);
    }

    #[test]
    fn what_was_used_before_is_added_once() {
        let seeded = record(5, Holder::default()).seed(70).unwrap();
        assert_eq!((seeded.used, seeded.seed(70)), (75, None));
        let again = seeded.seed(80).unwrap();
        assert_eq!((again.used, again.seed(75)), (85, None), "a limit that was away for ten events");
        assert_eq!(Record::seeded("l", 7, 70).seed(70), None);
    }

    #[test]
    fn repeats_come_back_once_and_never_before_they_are_reported() {
        let record = record(3, Holder { held: 9, ..Holder::default() });
        let back = record.return_repeats(5).unwrap();
        assert_eq!((back.used, back.repeats), (0, 3));
        assert_eq!(back.return_repeats(5), None, "the rest is not reported yet");
        let reported = Record { used: 4, ..back };
        let back = reported.return_repeats(5).unwrap();
        assert_eq!((back.used, back.repeats, back.return_repeats(5)), (2, 5, None));
    }

    #[test]
    fn repeats_that_took_what_a_dead_pod_never_stored_come_back_later() {
        // Another pod's 3 were repeats and are not reported yet: they came out of what the dead pod reported.
        let back = record(3, Holder { spent: 3, ..Holder::default() }).return_repeats(3).unwrap();
        let reaped = back.reap(A, 0, 1_000).unwrap();
        assert_eq!((reaped.used, reaped.repeats), (0, 0));
        let reported = Record { used: 3, ..reaped };
        assert_eq!(reported.return_repeats(3).unwrap().used, 0);
    }

    #[test]
    fn a_seeded_record_takes_the_cap_of_whoever_grants_first() {
        let terms = Terms { cap: 10, cap_generation: 3, ledger_id: "l" };
        let kind = OpKind::Grant { at_least: 1, want: 9, now_ms: 0, expires_ms: None };
        let op = Op { by: A, number: 1, after: 0, spent: 0, kind };
        let Ok(Applied::Changed(next)) = Record::apply(Some(&Record::seeded("l", 4, 0)), &terms, &op) else {
            panic!()
        };
        assert_eq!((next.cap, next.held_by(A), next.free()), (10, 6, 0));
    }
}
