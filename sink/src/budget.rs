//! How often lanes flush: the inserts a second that ClickHouse is asked for, shared by the lanes that have something.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// A lane counts as active for at least this long after a pack.
const ACTIVE: Duration = Duration::from_secs(10);
/// Freshness while the budget allows it.
const FRESH: Duration = Duration::from_millis(250);
/// A lane waits this many times as long as its last flush took, up to [`BUSY`]: a server with enough to do is asked for fewer and
/// larger inserts, which cost it less each event, and less again when it merges their parts.
const RESTS: u32 = 8;
/// Freshness while the server is busy.
const BUSY: Duration = Duration::from_millis(600);
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
    took: Duration,
}

impl Pace {
    /// The flush that began last has ended, and made so many blocks.
    pub fn ended(&mut self, blocks: u32, now: Instant) {
        self.blocks = blocks;
        self.took = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
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
        let fresh = (pace.took * RESTS).clamp(FRESH, BUSY);
        pace.last.map_or((now, now), |last| (last + cycle, last + cycle.max(fresh)))
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
        paces[0].ended(3, later);
        let due = budget.due(&paces[0], later);
        assert_eq!(due, (later + BLOCK * 3, later + FRESH), "alone, it is as fresh as it may be");
    }

    #[test]
    fn a_busy_server_is_asked_less_often() {
        let start = Instant::now();
        let (budget, mut pace) = (Budget::new(200, 8, start), Pace::default());
        let due_after = |pace: &mut Pace, took: Duration| {
            budget.begin(pace, start);
            pace.ended(1, start + took);
            let (full, due) = budget.due(pace, start);
            assert_eq!(full, start + BLOCK, "what is full does not wait longer");
            due - start
        };
        assert_eq!(due_after(&mut pace, Duration::from_millis(20)), FRESH);
        assert_eq!(due_after(&mut pace, Duration::from_millis(50)), Duration::from_millis(400));
        assert_eq!(
            due_after(&mut pace, Duration::from_secs(5)),
            BUSY,
            "never for longer than people would notice"
        );
    }
}
