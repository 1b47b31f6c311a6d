//! What the audit of a lane says: for every event that was packed, whether it is stored, was a repeat, or is dead.
//!
//! ```text
//! packed = stored + duplicates + dead
//! ```
//! `packed` is counted from the headers of the lane's messages, the rest from the tables; nobody's claim is taken for it.
//! One record a lane in bucket [`crate::names::AUDITS_BUCKET`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::TenantNumber;

/// The version that is written.
pub const VERSION: u8 = 1;

/// Differences beyond which a lane is not counted any further: something is wrong with all of it.
pub const MAX_OPEN: usize = 100;

/// Events of one tenant, or of all in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// In packs.
    pub packed: u64,
    /// In the table, each counted once.
    pub stored: u64,
    /// Removed, because they were stored before.
    pub duplicates: u64,
    /// Removed, because they cannot be stored.
    pub dead: u64,
    /// Rows beyond the first of an event: never right.
    #[serde(default)]
    pub doubled: u64,
}

impl Counts {
    /// Whether every event is accounted for, once.
    pub fn add_up(&self) -> bool {
        self.packed == self.stored + self.duplicates + self.dead && self.doubled == 0
    }

    fn add(&mut self, other: &Self) {
        self.packed += other.packed;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.dead += other.dead;
    }
}

/// A range in which a tenant's counts do not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose.
    pub tenant: TenantNumber,
    /// When the stream that it is about was created, Unix milliseconds.
    pub epoch: i64,
    /// First message.
    pub lo: u64,
    /// Last message.
    pub hi: u64,
    /// When it was seen first, Unix milliseconds.
    pub since_ms: i64,
    /// It has lasted longer than a table may be behind.
    pub stands: bool,
    /// What was counted last; what was packed is counted once, while the messages are there.
    pub counts: Counts,
}

/// The audit of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// See [`VERSION`].
    pub version: u8,
    /// When the lane's stream was created, Unix milliseconds.
    pub epoch: i64,
    /// Last message that was counted.
    pub upto: u64,
    /// Messages that were gone from the stream before they were counted.
    pub gone: u64,
    /// What adds up, over all tenants and epochs.
    pub total: Counts,
    /// What does not.
    pub open: Vec<Difference>,
}

impl Audit {
    /// Before anything was counted.
    pub fn first(epoch: i64) -> Self {
        Self { version: VERSION, epoch, upto: 0, gone: 0, total: Counts::default(), open: Vec::new() }
    }

    /// The same lane with a stream that was made anew: what did not add up still does not.
    pub fn in_epoch(self, epoch: i64) -> Self {
        if self.epoch == epoch { self } else { Self { epoch, upto: 0, ..self } }
    }

    /// With the messages after [`Audit::upto`] up to `hi`, `gone` of which are not in the stream any more.
    pub fn close(
        mut self,
        hi: u64,
        gone: u64,
        counted: &BTreeMap<TenantNumber, Counts>,
        now_ms: i64,
    ) -> Self {
        let (epoch, lo) = (self.epoch, self.upto + 1 + gone);
        for (&tenant, &counts) in counted {
            if counts.add_up() {
                self.total.add(&counts);
            } else {
                let since_ms = now_ms;
                self.open.push(Difference { tenant, epoch, lo, hi, since_ms, stands: false, counts });
            }
        }
        (self.upto, self.gone) = (hi, self.gone + gone);
        self
    }

    /// With what the tables hold now of a difference's range; one that adds up is none any more.
    pub fn recount(mut self, of: &Difference, rows: Counts, now_ms: i64, grace_ms: i64) -> Self {
        let counts = Counts { packed: of.counts.packed, ..rows };
        let is_it = |known: &Difference| {
            (known.tenant, known.epoch, known.lo, known.hi) == (of.tenant, of.epoch, of.lo, of.hi)
        };
        if counts.add_up() {
            self.open.retain(|known| !is_it(known));
            self.total.add(&counts);
        } else if let Some(known) = self.open.iter_mut().find(|known| is_it(known)) {
            known.counts = counts;
            known.stands = now_ms - known.since_ms >= grace_ms;
        }
        self
    }

    /// The first difference of a tenant that stands.
    pub fn difference(&self, tenant: TenantNumber) -> Option<&Difference> {
        self.open.iter().find(|difference| difference.tenant == tenant && difference.stands)
    }

    /// Whether it does not go on, because too much of the lane differs.
    pub fn is_stuck(&self) -> bool {
        self.open.len() >= MAX_OPEN
    }

    /// As stored.
    ///
    /// # Errors
    /// Never for what this type can hold.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what is stored; `None` when this build cannot: the audit begins anew then.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|audit| audit.version == VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TenantNumber = TenantNumber(7);

    fn counts(packed: u64, stored: u64, duplicates: u64) -> Counts {
        Counts { packed, stored, duplicates, ..Counts::default() }
    }

    #[test]
    fn what_adds_up_is_summed_and_what_does_not_stays_open_until_it_does() {
        let other = TenantNumber(8);
        let audit = Audit::first(1);
        let audit = audit.close(10, 2, &[(T, counts(5, 4, 1)), (other, counts(3, 3, 0))].into(), 1_000);
        assert_eq!((audit.upto, audit.gone, audit.total), (10, 2, counts(8, 7, 1)));
        let audit = audit.close(20, 0, &[(T, counts(5, 3, 1)), (other, counts(1, 1, 0))].into(), 2_000);
        assert_eq!((audit.open.len(), audit.open[0].lo, audit.difference(T)), (1, 11, None), "not at once");
        let open = audit.open[0].clone();
        let audit = audit.recount(&open, counts(0, 3, 1), 62_000, 60_000);
        assert_eq!(audit.difference(T).map(|difference| difference.counts), Some(counts(5, 3, 1)));
        assert_eq!(audit.difference(other), None);
        assert_eq!(Audit::decode(&audit.encode().unwrap()), Some(audit.clone()));
        let audit = audit.recount(&open, counts(0, 4, 1), 63_000, 60_000);
        assert_eq!((audit.open.len(), audit.total), (0, counts(14, 12, 2)));
    }

    #[test]
    fn what_is_lost_stays_told_when_its_messages_or_its_stream_are_gone() {
        let audit = Audit::first(1).close(10, 0, &[(T, counts(5, 3, 0))].into(), 0);
        let open = audit.open[0].clone();
        // The rows are what they are; the messages may be gone by now.
        let audit = audit.recount(&open, counts(0, 3, 0), 60_000, 60_000).in_epoch(2);
        assert_eq!((audit.upto, audit.epoch), (0, 2));
        assert_eq!(audit.difference(T).map(|known| (known.epoch, known.counts.packed)), Some((1, 5)));
    }

    #[test]
    fn a_lost_event_and_a_doubled_one_do_not_cancel() {
        assert!(counts(5, 5, 0).add_up());
        assert!(!counts(5, 6, 0).add_up());
        assert!(!Counts { doubled: 1, ..counts(5, 5, 0) }.add_up());
    }
}
