//! Which intents of a lane are settled: in the tables, for so long that nothing can take them out again.
//!
//! What ClickHouse acknowledged may go with a power cut, and comes back under other intents (docs/adr/0015-replay-instead-of-fsync.md).
//! A sum that counted it would count it twice. And what an earlier holder sent may still arrive shortly after a lane was taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use event::Incarnation;

/// How long a lane is held before anything of it is summed up: what its last holder sent has landed by then, or never will.
const HELD: Duration = Duration::from_secs(40);
/// Least time between two notes.
const NOTE: Duration = Duration::from_millis(200);

/// A lane's intents, as its holder closes them.
#[derive(Debug)]
pub struct Settled {
    /// Who holds the lane.
    pub holder: Incarnation,
    since: Instant,
    closed: VecDeque<(Instant, u64)>,
}

impl Settled {
    /// Of a lane that is held from `now` on and whose intents up to `intent` are in the tables.
    pub fn new(holder: Incarnation, now: Instant, intent: u64) -> Self {
        Self { holder, since: now, closed: [(now, intent)].into() }
    }

    /// All intents up to `intent` are in the tables now.
    pub fn note(&mut self, now: Instant, intent: u64) {
        let is_news =
            self.closed.back().is_none_or(|(at, last)| *last != intent && now.duration_since(*at) >= NOTE);
        if is_news {
            self.closed.push_back((now, intent));
        }
    }

    /// The last intent that has been in the tables for `age`.
    pub fn upto(&mut self, now: Instant, age: Duration) -> Option<u64> {
        if now.duration_since(self.since) < HELD {
            return None;
        }
        let is_old = |(at, _): &(Instant, u64)| now.duration_since(*at) >= age;
        while self.closed.get(1).is_some_and(is_old) {
            self.closed.pop_front();
        }
        self.closed.front().filter(|note| is_old(note)).map(|(_, intent)| *intent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_settled_when_it_has_been_in_the_tables_for_long_enough() {
        let (start, age) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut settled = Settled::new(Incarnation(1), start, 7);
        for (second, intent) in [(10, 8), (10, 9), (20, 9), (30, 10)] {
            settled.note(at(second), intent);
        }
        let cases = [
            (39, None),
            (59, None),
            (60, Some(7)),
            (69, Some(7)),
            (70, Some(8)),
            (80, Some(9)),
            (90, Some(10)),
        ];
        for (second, expected) in cases {
            assert_eq!(settled.upto(at(second), age), expected, "after {second} s");
        }
        let mut taken = Settled::new(Incarnation(1), start, 7);
        assert_eq!(taken.upto(at(39), Duration::ZERO), None, "its last holder's inserts may still land");
        assert_eq!(taken.upto(at(40), Duration::ZERO), Some(7));
    }
}
