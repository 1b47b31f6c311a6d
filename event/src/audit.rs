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

    /// Whether events are missing.
    fn is_short(&self) -> bool {
        self.packed > self.stored + self.duplicates + self.dead
    }

    fn add(&mut self, other: &Self) {
        self.packed += other.packed;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.dead += other.dead;
    }

    fn take(&mut self, other: &Self) {
        self.packed = self.packed.saturating_sub(other.packed);
        self.stored = self.stored.saturating_sub(other.stored);
        self.duplicates = self.duplicates.saturating_sub(other.duplicates);
        self.dead = self.dead.saturating_sub(other.dead);
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

/// How far an audit was at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// See [`Audit::upto`].
    pub upto: u64,
    /// See [`Audit::gone`].
    pub gone: u64,
    /// See [`Audit::total`].
    pub total: Counts,
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
    /// Ranges that add up because events are dead; they are counted again, since a later build may be able to read those.
    #[serde(default)]
    pub letters: Vec<Difference>,
    /// How far it was in the last minutes, oldest first.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// When the server that holds the tables was started, Unix milliseconds; 0 = not known.
    #[serde(default)]
    pub server_started_ms: i64,
}

/// Time between two marks.
const MARK_EVERY_MS: i64 = 60_000;
/// Rows that are older than this survive a crash of the tables' machine: the kernel has written them to disk within half a minute, and
/// of parts that were merged the sources stay for eight (`old_parts_lifetime`).
const WRITTEN_MS: i64 = 600_000;
/// Differences of two readings of one start.
const SAME_START_MS: i64 = 5_000;

impl Audit {
    /// Before anything was counted.
    pub fn first(epoch: i64) -> Self {
        let (total, open, letters, marks) = (Counts::default(), Vec::new(), Vec::new(), Vec::new());
        Self { version: VERSION, epoch, upto: 0, gone: 0, total, open, letters, marks, server_started_ms: 0 }
    }

    /// The same lane with a stream that was made anew: what did not add up still does not.
    pub fn in_epoch(self, epoch: i64) -> Self {
        if self.epoch == epoch { self } else { Self { epoch, upto: 0, marks: Vec::new(), ..self } }
    }

    /// With the server that was started at `started_ms`. When it is a later start than the last one, what was counted in the minutes
    /// before is counted again: a machine that lost its power has forgotten rows that were there.
    pub fn on_server(mut self, started_ms: i64) -> Self {
        let known = self.server_started_ms != 0;
        // Of several servers behind one address the youngest is remembered.
        if known && started_ms <= self.server_started_ms + SAME_START_MS {
            return self;
        }
        self.server_started_ms = started_ms;
        let Some(last) = self.marks.last().filter(|_| known) else { return self };
        let written = self.marks.iter().rposition(|mark| mark.at_ms <= last.at_ms - WRITTEN_MS).unwrap_or(0);
        self.marks.truncate(written + 1);
        if let Some(mark) = self.marks.last() {
            (self.upto, self.gone, self.total) = (mark.upto, mark.gone, mark.total);
            for ranges in [&mut self.open, &mut self.letters] {
                ranges.retain(|range| range.epoch != self.epoch || range.hi <= mark.upto);
            }
        }
        self
    }

    /// Without differences of a tenant whose rows were removed for good.
    pub fn forget(mut self, tenant: TenantNumber) -> Self {
        self.open.retain(|open| open.tenant != tenant);
        self.letters.retain(|letters| letters.tenant != tenant);
        self
    }

    /// Events of a tenant that are dead.
    pub fn dead(&self, tenant: TenantNumber) -> u64 {
        self.letters
            .iter()
            .filter(|letters| letters.tenant == tenant)
            .map(|letters| letters.counts.dead)
            .sum()
    }

    /// First and last messages of ranges in which events are missing, and have been for longer than a table may be behind.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let missing = |open: &&Difference| open.stands && open.epoch == self.epoch && open.counts.is_short();
        let mut gaps: Vec<_> = self.open.iter().filter(missing).map(|open| (open.lo, open.hi)).collect();
        gaps.sort_unstable();
        gaps.dedup();
        gaps
    }

    fn mark(&mut self, now_ms: i64) {
        if self.marks.last().is_none_or(|mark| now_ms - mark.at_ms >= MARK_EVERY_MS) {
            self.marks.push(Mark { at_ms: now_ms, upto: self.upto, gone: self.gone, total: self.total });
        }
        // One that is old enough to begin from again is kept.
        let old = self.marks.iter().filter(|mark| mark.at_ms <= now_ms - WRITTEN_MS - MARK_EVERY_MS).count();
        self.marks.drain(..old.saturating_sub(1));
    }

    /// With the messages after [`Audit::upto`] up to `hi`, `gone` of which are not in the stream any more.
    pub fn close(
        mut self,
        hi: u64,
        gone: u64,
        counted: &BTreeMap<TenantNumber, Counts>,
        now_ms: i64,
    ) -> Self {
        // Before what is counted now: everything up to here is in the tables since this moment, or longer.
        self.mark(now_ms);
        let (epoch, lo) = (self.epoch, self.upto + 1 + gone);
        for (&tenant, &counts) in counted {
            let range = Difference { tenant, epoch, lo, hi, since_ms: now_ms, stands: false, counts };
            if counts.add_up() {
                self.added_up(range);
            } else {
                self.open.push(range);
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
            self.added_up(Difference { counts, ..of.clone() });
        } else if let Some(known) = self.open.iter_mut().find(|known| is_it(known)) {
            known.counts = counts;
            known.stands = now_ms - known.since_ms >= grace_ms;
        }
        self
    }

    /// With what the tables hold now of a range that has dead letters.
    pub fn reread(mut self, of: &Difference, rows: Counts, now_ms: i64) -> Self {
        let counts = Counts { packed: of.counts.packed, ..rows };
        if counts == of.counts {
            return self;
        }
        self.letters.retain(|known| known != of);
        self.total.take(&of.counts);
        let range = Difference { counts, since_ms: now_ms, ..of.clone() };
        if counts.add_up() {
            self.added_up(range);
        } else {
            self.open.push(range);
        }
        self
    }

    fn added_up(&mut self, range: Difference) {
        self.total.add(&range.counts);
        if range.counts.dead > 0 && self.letters.len() < MAX_OPEN {
            self.letters.push(range);
        }
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
    fn dead_letters_are_counted_again_until_somebody_has_read_them() {
        let with = |stored, dead| Counts { dead, ..counts(5, stored, 0) };
        let audit = Audit::first(1).close(10, 0, &[(T, with(3, 2))].into(), 1_000);
        assert_eq!((audit.dead(T), audit.total, audit.open.len()), (2, with(3, 2), 0));
        let letters = audit.letters[0].clone();
        assert_eq!(audit.clone().reread(&letters, with(3, 2), 2_000), audit);
        let read = audit.clone().reread(&letters, with(5, 0), 2_000);
        assert_eq!((read.dead(T), read.total, read.letters.len()), (0, with(5, 0), 0));
        let short = audit.reread(&letters, with(4, 0), 2_000);
        assert_eq!((short.total, short.open.len(), short.open[0].since_ms), (counts(0, 0, 0), 1, 2_000));
        assert_eq!(short.forget(T).open.len(), 0);
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
    fn what_a_server_may_have_forgotten_is_counted_again() {
        let minute = |n: i64| n * 60_000;
        let mut audit = Audit::first(1).on_server(5);
        for n in 1..=30 {
            audit = audit.close(n * 10, 0, &[(T, counts(10, 10, 0))].into(), minute(n as i64));
        }
        assert!(audit.marks.len() <= 13, "{}", audit.marks.len());
        assert_eq!(audit.clone().on_server(4_000), audit, "the same start, read a little later");
        assert_eq!(audit.clone().on_server(1), audit, "a server that was started before");
        let again = audit.clone().on_server(minute(31));
        assert_eq!(
            (again.upto, again.total),
            (190, counts(190, 190, 0)),
            "ten minutes before the last count"
        );
        let again = again.close(200, 0, &[(T, counts(10, 9, 0))].into(), minute(32));
        let open = again.open[0].clone();
        let again = again.recount(&open, counts(0, 9, 0), minute(34), 60_000);
        assert_eq!(again.gaps(), [(191, 200)]);
        assert_eq!(again.clone().on_server(minute(35)).gaps(), [], "it is counted anew as well");
        assert_eq!(again.clone().forget(T).gaps(), []);
        assert_eq!(again.in_epoch(2).gaps(), [], "its messages are gone");
        let fresh = Audit::first(1).on_server(7);
        assert_eq!(fresh.on_server(minute(9)).upto, 0);
    }

    #[test]
    fn a_lost_event_and_a_doubled_one_do_not_cancel() {
        assert!(counts(5, 5, 0).add_up());
        assert!(!counts(5, 6, 0).add_up());
        assert!(!Counts { doubled: 1, ..counts(5, 5, 0) }.add_up());
    }
}
