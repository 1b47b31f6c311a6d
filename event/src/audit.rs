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

/// Events of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// In packs.
    pub packed: u64,
    /// In the table.
    pub stored: u64,
    /// Removed, because they were stored before.
    pub duplicates: u64,
    /// Removed, because they cannot be stored.
    pub dead: u64,
}

impl Counts {
    /// Whether every event is accounted for.
    pub fn add_up(&self) -> bool {
        self.packed == self.stored + self.duplicates + self.dead
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
    /// First message.
    pub lo: u64,
    /// Last message.
    pub hi: u64,
    /// When it was seen first, Unix milliseconds.
    pub since_ms: i64,
    /// It has lasted longer than a table may be behind.
    pub stands: bool,
    /// What was counted last.
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
    /// What adds up, by tenant.
    pub tenants: BTreeMap<TenantNumber, Counts>,
    /// What does not.
    pub open: Vec<Difference>,
}

impl Audit {
    /// Before anything was counted.
    pub fn first(epoch: i64) -> Self {
        Self { version: VERSION, epoch, upto: 0, gone: 0, tenants: BTreeMap::new(), open: Vec::new() }
    }

    /// With the messages after [`Audit::upto`] up to `hi`, `gone` of which are not in the stream any more.
    pub fn close(
        mut self,
        hi: u64,
        gone: u64,
        counted: &BTreeMap<TenantNumber, Counts>,
        now_ms: i64,
    ) -> Self {
        let lo = self.upto + 1 + gone;
        for (&tenant, &counts) in counted {
            if counts.add_up() {
                self.tenants.entry(tenant).or_default().add(&counts);
            } else {
                self.open.push(Difference { tenant, lo, hi, since_ms: now_ms, stands: false, counts });
            }
        }
        (self.upto, self.gone) = (hi, self.gone + gone);
        self
    }

    /// With what a difference's range holds now; one that adds up is none any more.
    pub fn recount(mut self, of: &Difference, counts: Counts, now_ms: i64, grace_ms: i64) -> Self {
        let is_it = |known: &Difference| known.tenant == of.tenant && (known.lo, known.hi) == (of.lo, of.hi);
        if counts.add_up() {
            self.open.retain(|known| !is_it(known));
            self.tenants.entry(of.tenant).or_default().add(&counts);
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
        Counts { packed, stored, duplicates, dead: 0 }
    }

    #[test]
    fn what_adds_up_is_summed_and_what_does_not_stays_open_until_it_does() {
        let other = TenantNumber(8);
        let audit = Audit::first(1);
        let audit = audit.close(10, 2, &[(T, counts(5, 4, 1)), (other, counts(3, 3, 0))].into(), 1_000);
        assert_eq!((audit.upto, audit.gone, audit.tenants[&T]), (10, 2, counts(5, 4, 1)));
        let audit = audit.close(20, 0, &[(T, counts(5, 3, 1)), (other, counts(1, 1, 0))].into(), 2_000);
        assert_eq!((audit.open.len(), audit.open[0].lo, audit.difference(T)), (1, 11, None), "not at once");
        let open = audit.open[0].clone();
        let audit = audit.recount(&open, counts(5, 3, 1), 62_000, 60_000);
        assert_eq!(audit.difference(T).map(|difference| difference.counts), Some(counts(5, 3, 1)));
        assert_eq!(audit.difference(other), None);
        assert_eq!(Audit::decode(&audit.encode().unwrap()), Some(audit.clone()));
        let audit = audit.recount(&open, counts(5, 4, 1), 63_000, 60_000);
        assert_eq!(
            (audit.open.len(), audit.tenants[&T], audit.tenants[&other].packed),
            (0, counts(10, 8, 2), 4)
        );
    }

    #[test]
    fn events_that_are_stored_twice_do_not_add_up() {
        assert!(!counts(5, 6, 0).add_up());
    }
}
