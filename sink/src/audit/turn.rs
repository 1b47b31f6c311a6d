//! When a lane is counted.

use std::time::{Duration, Instant};

/// A lane that is busy is counted this often: each count asks the index of every part of its table. One that rests is counted
/// at once, and so is what did not add up.
const BUSY: Duration = Duration::from_secs(15);

/// What is known of a lane from its last look.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// How far its sink was.
    sequence: Option<u64>,
    counted: Option<Instant>,
    /// Something did not add up.
    open: bool,
}

impl Turn {
    /// Whether it is counted now that its sink is this far.
    pub fn is_due(&mut self, sequence: u64, now: Instant) -> bool {
        let rests = self.sequence.replace(sequence) == Some(sequence);
        let long_ago = self.counted.is_none_or(|at| now.saturating_duration_since(at) >= BUSY);
        rests || self.open || long_ago
    }

    /// It was counted, and `open` tells whether something did not add up.
    pub fn counted(&mut self, open: bool, now: Instant) {
        (self.counted, self.open) = (Some(now), open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_lane_is_counted_now_and_then_and_one_that_rests_at_once() {
        let (mut turn, start) = (Turn::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(turn.is_due(10, start), "nobody has counted it");
        turn.counted(false, start);
        assert!(!turn.is_due(20, after(3)) && !turn.is_due(30, after(14)), "it is busy");
        assert!(turn.is_due(30, after(14)), "it rests");
        assert!(turn.is_due(40, after(15)), "it is busy, and was not counted for long");
        turn.counted(true, after(15));
        assert!(turn.is_due(50, after(18)), "something did not add up");
    }
}
