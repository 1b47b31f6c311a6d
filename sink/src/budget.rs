//! How often lanes flush: the inserts a second that ClickHouse is asked for, shared by the lanes that have something.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// A lane counts as active for at least this long after a pack.
const ACTIVE: Duration = Duration::from_secs(10);
/// Freshness while the budget allows it.
const FRESH: Duration = Duration::from_millis(250);
/// Least time a block: the tables' deduplication window is sized for 40 blocks a second and lane.
const BLOCK: Duration = Duration::from_millis(25);

/// The budget of one sink.
pub struct Budget {
    inserts_per_second: u32,
    /// Inserts at once.
    pub permits: Semaphore,
    active: Mutex<Active>,
}

/// Lanes that flushed in the current slot of [`ACTIVE`], and in the one before.
struct Active {
    slot: u64,
    started: Instant,
    current: u32,
    previous: u32,
}

/// A lane's place in the budget.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    counted_in: Option<u64>,
    last: Option<Instant>,
    blocks: u32,
}

impl Pace {
    /// The flush that began last made so many blocks.
    pub fn blocks(&mut self, blocks: u32) {
        self.blocks = blocks;
    }
}

impl Budget {
    /// Of so many inserts a second, and so many at once.
    pub fn new(inserts_per_second: u32, at_once: u16, now: Instant) -> Self {
        Self {
            inserts_per_second,
            permits: Semaphore::new(usize::from(at_once)),
            active: Mutex::new(Active { slot: 0, started: now, current: 0, previous: 0 }),
        }
    }

    /// Time in which every active lane may flush once.
    pub fn cycle(&self, now: Instant) -> Duration {
        Duration::from_secs(1) * self.active_lanes(now).max(1) / self.inserts_per_second
    }

    /// Lanes with a pack in the last seconds.
    pub fn active_lanes(&self, now: Instant) -> u32 {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.roll(now);
        active.current.max(active.previous)
    }

    /// A lane begins a flush.
    pub fn begin(&self, pace: &mut Pace, now: Instant) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.roll(now);
        if pace.counted_in != Some(active.slot) {
            active.current += 1;
            pace.counted_in = Some(active.slot);
        }
        pace.last = Some(now);
        pace.blocks = 1;
    }

    /// When the lane may flush again: a full batch, and one that is not.
    pub fn due(&self, pace: &Pace, now: Instant) -> (Instant, Instant) {
        let cycle = self.cycle(now).max(BLOCK * pace.blocks);
        pace.last.map_or((now, now), |last| (last + cycle, last + cycle.max(FRESH)))
    }
}

impl Active {
    fn roll(&mut self, now: Instant) {
        while now.saturating_duration_since(self.started) >= ACTIVE {
            self.slot += 1;
            self.started += ACTIVE;
            self.previous = std::mem::take(&mut self.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_inserts_of_a_second() {
        let start = Instant::now();
        let budget = Budget::new(200, 8, start);
        let mut paces = vec![Pace::default(); 1000];
        assert_eq!(budget.due(&paces[0], start), (start, start), "the first pack does not wait");
        for pace in &mut paces {
            budget.begin(pace, start);
            budget.begin(pace, start);
        }
        assert_eq!(budget.cycle(start), Duration::from_secs(5), "1,000 lanes at 200 inserts a second");
        assert_eq!(budget.due(&paces[0], start).1, start + Duration::from_secs(5));
        let later = start + 2 * ACTIVE;
        assert_eq!(budget.active_lanes(later), 0);
        budget.begin(&mut paces[0], later);
        paces[0].blocks(3);
        let due = budget.due(&paces[0], later);
        assert_eq!(due, (later + BLOCK * 3, later + FRESH), "alone, it is as fresh as it may be");
    }
}
