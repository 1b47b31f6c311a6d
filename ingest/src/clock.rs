//! The only place where this process reads the time of day.
//!
//! Pods must agree on which period a moment belongs to, so the local clock is corrected by its offset to the NATS
//! server's, which is measured every second.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Beyond this offset a pod is not ready: its clock is broken, not merely drifting.
pub const MAX_OFFSET_MS: i64 = 1_000;

/// Unix time in milliseconds, corrected to the server's.
#[derive(Debug, Default)]
pub struct Clock {
    offset_ms: AtomicI64,
}

impl Clock {
    /// Now.
    pub fn now_ms(&self) -> i64 {
        local_ms() + self.offset_ms.load(Ordering::Relaxed)
    }

    /// How far the server's clock is ahead of ours.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Takes over a measurement: the server said `server_ms` while ours went from `sent_ms` to `received_ms`.
    ///
    /// The offset moves only when the measurement shows that it is wrong: a slow answer proves little, and must not turn
    /// the order of what is received round.
    pub fn observe(&self, server_ms: u64, sent_ms: i64, received_ms: i64) {
        let server_ms = i64::try_from(server_ms).unwrap_or(i64::MAX);
        // Each reading leaves out a part of a millisecond.
        let possible = server_ms - received_ms - 1..=server_ms - sent_ms + 1;
        if !possible.contains(&self.offset_ms()) {
            self.offset_ms.store(server_ms - (sent_ms + received_ms) / 2, Ordering::Relaxed);
        }
    }
}

/// The uncorrected local clock, for measuring the offset.
#[allow(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn local_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_taken_from_the_middle_of_the_request() {
        let clock = Clock::default();
        clock.observe(10_500, 10_000, 10_200);
        assert_eq!(clock.offset_ms(), 400);
    }

    #[test]
    fn a_slow_answer_moves_nothing_that_it_does_not_disprove() {
        let clock = Clock::default();
        clock.observe(10_401, 10_000, 10_002);
        assert_eq!(clock.offset_ms(), 400);
        // The server read its clock at once, and its answer took a second: the middle would be 499 ms back.
        clock.observe(20_400, 20_000, 21_000);
        assert_eq!(clock.offset_ms(), 400);
        // Someone set the clock: 400 is no longer possible.
        clock.observe(30_000, 30_000, 30_002);
        assert_eq!(clock.offset_ms(), -1);
    }
}
