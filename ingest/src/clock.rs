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
    /// The offset moves no further than the measurement shows that it is wrong: a slow answer proves little, and must not turn the
    /// order of what is received round.
    pub fn observe(&self, server_ms: u64, sent_ms: i64, received_ms: i64) {
        let server_ms = i64::try_from(server_ms).unwrap_or(i64::MAX);
        // Each reading leaves out a part of a millisecond.
        let (least, most) = (server_ms - received_ms - 1, server_ms - sent_ms + 1);
        // Otherwise somebody set our clock back meanwhile: the next measurement tells.
        if least <= most {
            self.offset_ms.store(self.offset_ms().clamp(least, most), Ordering::Relaxed);
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
    fn the_offset_is_the_nearest_that_is_possible() {
        let clock = Clock::default();
        clock.observe(10_401, 10_000, 10_002);
        assert_eq!(clock.offset_ms(), 398);
        // The answer took a second, and says only that the offset is not more than this.
        clock.observe(20_390, 20_000, 21_000);
        assert_eq!(clock.offset_ms(), 391);
        // Somebody set the clock.
        clock.observe(30_000, 30_000, 30_002);
        assert_eq!(clock.offset_ms(), 1);
    }

    #[test]
    fn a_measurement_that_shows_nothing_moves_nothing() {
        let clock = Clock::default();
        clock.observe(10_401, 10_000, 10_002);
        clock.observe(20_400, 20_000, 21_000);
        clock.observe(30_000, 30_100, 30_000);
        assert_eq!(clock.offset_ms(), 398);
    }
}
