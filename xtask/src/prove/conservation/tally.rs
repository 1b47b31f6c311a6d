//! The verdict: ids that clients sent, ids that were acknowledged, ids that are stored. It knows nothing else.
//!
//! ```text
//! lost = acknowledged - stored      doubled = stored more than once      invented = stored - attempted
//! ```
//! What was attempted and never acknowledged may be stored or not: nobody promised anything about it.

use std::ops::Range;

use serde_json::{Value, json};

/// Ids told by name; of the others there is a count.
const NAMED: usize = 10;

/// A set of numbers, one bit each: a million ids are 125 kB.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Whether it was not there before.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn contains(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// What became of one tenant's events. Their ids say whose they are, so that a row in another tenant's view is an invented one.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    tenant: usize,
    attempted: Bits,
    acknowledged: Bits,
    next: u64,
}

/// Ids of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub named: Vec<String>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Distinct ids that clients sent.
    pub attempted: u64,
    /// Distinct ids that were answered 202.
    pub acknowledged: u64,
    /// Rows.
    pub stored: u64,
    /// Acknowledged and not stored.
    pub lost: Found,
    /// Rows beyond the first of an id.
    pub doubled: Found,
    /// Rows whose id no client sent to this tenant.
    pub invented: Found,
}

impl Found {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(id.to_owned());
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.named.extend(other.named);
        self.named.truncate(NAMED);
    }
}

impl Tally {
    /// Of tenant number `tenant`.
    pub fn new(tenant: usize) -> Self {
        Self { tenant, ..Self::default() }
    }

    /// The id of an event.
    pub fn id(tenant: usize, number: u64) -> String {
        format!("{tenant}-{number}")
    }

    /// Takes the next `count` numbers: they are about to be sent.
    pub fn begin(&mut self, count: u64) -> Range<u64> {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        for number in numbers.clone() {
            self.attempted.insert(number);
        }
        numbers
    }

    /// The request with these events was answered 202, and did not name this event as rejected.
    pub fn acknowledge(&mut self, number: u64) {
        self.acknowledged.insert(number);
    }

    /// Compares with the ids of the rows in the tenant's view.
    pub fn judge<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Verdict {
        let mut verdict = Verdict {
            attempted: self.attempted.len(),
            acknowledged: self.acknowledged.len(),
            ..Verdict::default()
        };
        let mut stored = Bits::default();
        for id in ids {
            verdict.stored += 1;
            match self.number(id) {
                Some(number) if stored.insert(number) => {}
                Some(_) => verdict.doubled.add(id),
                None => verdict.invented.add(id),
            }
        }
        for number in (0..self.next).filter(|n| self.acknowledged.contains(*n) && !stored.contains(*n)) {
            verdict.lost.add(&Self::id(self.tenant, number));
        }
        verdict
    }

    /// How many of the events with these numbers are acknowledged and not stored, and how many rows they have beyond their first.
    pub fn within<'a>(&self, numbers: Range<u64>, ids: impl Iterator<Item = &'a str>) -> (u64, u64) {
        let (mut stored, mut doubled) = (Bits::default(), 0);
        for number in ids.filter_map(|id| self.number(id)).filter(|number| numbers.contains(number)) {
            doubled += u64::from(!stored.insert(number));
        }
        let sent = numbers.start..numbers.end.min(self.next);
        let lost = sent.filter(|n| self.acknowledged.contains(*n) && !stored.contains(*n)).count();
        (lost as u64, doubled)
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of an id that was sent.
    fn number(&self, id: &str) -> Option<u64> {
        let (tenant, number) = id.split_once('-')?;
        let number: u64 = number.parse().ok()?;
        // Only the one spelling that was sent.
        let ours = tenant.parse() == Ok(self.tenant) && Self::id(self.tenant, number) == id;
        (ours && self.attempted.contains(number)).then_some(number)
    }
}

impl Verdict {
    /// Both, as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.attempted += other.attempted;
        self.acknowledged += other.acknowledged;
        self.stored += other.stored;
        self.lost.merge(other.lost);
        self.doubled.merge(other.doubled);
        self.invented.merge(other.invented);
        self
    }

    /// For the result file.
    pub fn json(&self) -> Value {
        let found = |found: &Found| json!({"count": found.count, "first": found.named});
        json!({
            "attempted": self.attempted, "acknowledged": self.acknowledged, "stored": self.stored,
            "lost": found(&self.lost), "storedTwice": found(&self.doubled), "invented": found(&self.invented),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three requests of tenant 3: two acknowledged, one never answered.
    fn tally() -> Tally {
        let mut tally = Tally::new(3);
        for (count, answered) in [(70, true), (30, true), (20, false)] {
            for number in tally.begin(count).filter(|_| answered) {
                tally.acknowledge(number);
            }
        }
        tally
    }

    fn rows(numbers: impl Iterator<Item = u64>) -> Vec<String> {
        numbers.map(|number| Tally::id(3, number)).collect()
    }

    fn judged(rows: &[String]) -> Verdict {
        tally().judge(rows.iter().map(String::as_str))
    }

    fn only(id: &str) -> Found {
        Found { count: 1, named: vec![id.to_owned()] }
    }

    #[test]
    fn everything_once_is_right_whatever_became_of_unanswered_requests() {
        let none = Found::default();
        for stored in [100, 107, 120] {
            let verdict = judged(&rows(0..stored));
            assert_eq!(
                (verdict.attempted, verdict.acknowledged, verdict.stored),
                (120, 100, stored),
                "{stored}"
            );
            assert_eq!((&verdict.lost, &verdict.doubled, &verdict.invented), (&none, &none, &none));
        }
    }

    #[test]
    fn a_lost_id_is_named() {
        let verdict = judged(&rows((0..100).filter(|number| *number != 64)));
        assert_eq!(verdict.lost, only("3-64"));
        assert_eq!((verdict.doubled.count, verdict.invented.count), (0, 0));
    }

    #[test]
    fn an_id_stored_twice_is_named_and_hides_no_lost_one() {
        let twice = [rows((0..100).filter(|number| *number != 5)), rows(99..100)].concat();
        let verdict = judged(&twice);
        assert_eq!((verdict.stored, &verdict.doubled, &verdict.lost), (100, &only("3-99"), &only("3-5")));
        // One that was never acknowledged is stored once at most as well.
        assert_eq!(judged(&[rows(0..101), rows(100..101)].concat()).doubled, only("3-100"));
    }

    #[test]
    fn an_id_that_nobody_sent_to_this_tenant_is_invented() {
        for id in ["3-120", "2-5", "3-05", "03-5", "3", "", "3-5x"] {
            let verdict = judged(&[rows(0..100), vec![id.to_owned()]].concat());
            assert_eq!((&verdict.invented, verdict.lost.count), (&only(id), 0), "{id}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_when_it_was_sent() {
        let ids = [rows((0..100).filter(|number| *number != 5)), rows(60..61)].concat();
        let within = |numbers| tally().within(numbers, ids.iter().map(String::as_str));
        assert_eq!((within(0..50), within(50..u64::MAX)), ((1, 0), (0, 1)));
    }

    #[test]
    fn verdicts_of_tenants_add_up_and_name_no_more_than_a_few() {
        let one = judged(&rows(20..100));
        let both = one.clone().and(judged(&rows(0..100)));
        assert_eq!((both.lost.count, both.lost.named.len(), both.stored), (20, NAMED, 180));
    }
}
