//! The breaker against storms: an object that is looked at again and again is slowed: pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ObjectKey;

/// So often an object is looked at without a pause.
const BURST: f64 = 120.0;
/// And so often a second after that.
const PER_SECOND: f64 = 2.0;
/// How often objects that are quiet again are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How often each object was looked at lately.
#[derive(Default)]
pub struct Pace {
    objects: HashMap<ObjectKey, Bucket>,
    swept: Option<Instant>,
}

struct Bucket {
    left: f64,
    at: Instant,
    stormy: bool,
}

/// Whether an object may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Now,
    /// Not before this much time has gone by.
    After {
        /// How much.
        wait: Duration,
        /// It begins to be slowed: somebody should be told.
        begins: bool,
    },
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gone * PER_SECOND).min(BURST);
        self.at = now;
    }
}

impl Pace {
    /// Asks for one look.
    pub fn ask(&mut self, key: &ObjectKey, now: Instant) -> Permit {
        self.sweep(now);
        let full = || Bucket { left: BURST, at: now, stormy: false };
        let bucket = self.objects.entry(key.clone()).or_insert_with(full);
        bucket.refill(now);
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            // Told again only after it was quiet for a while.
            bucket.stormy &= bucket.left < BURST / 2.0;
            return Permit::Now;
        }
        let begins = !std::mem::replace(&mut bucket.stormy, true);
        Permit::After { wait: Duration::from_secs_f64((1.0 - bucket.left) / PER_SECOND), begins }
    }

    /// Objects that are slowed.
    pub fn slowed(&self) -> usize {
        self.objects.values().filter(|bucket| bucket.stormy).count()
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.objects.retain(|_, bucket| {
            bucket.refill(now);
            bucket.left < BURST
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_slowed_and_told_once_and_others_are_not() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let (stormy, calm) = (ObjectKey::cluster("stormy"), ObjectKey::cluster("calm"));
        let (mut looks, mut told, mut now) = (0, 0, begun);
        // An object that asks to be looked at a hundred times a second, for a minute.
        while now < begun + Duration::from_secs(60) {
            match pace.ask(&stormy, now) {
                Permit::Now => looks += 1,
                Permit::After { begins, .. } => told += u32::from(begins),
            }
            now += Duration::from_millis(10);
        }
        assert!((238..=241).contains(&looks), "{looks}");
        assert_eq!((told, pace.slowed()), (1, 1));
        assert_eq!(pace.ask(&calm, now), Permit::Now);
        now += Duration::from_secs(120);
        assert_eq!(pace.ask(&stormy, now), Permit::Now);
        assert_eq!((pace.slowed(), pace.objects.len()), (0, 1), "the calm one is forgotten");
    }

    #[test]
    fn the_pause_is_as_long_as_the_next_look_needs() {
        let (mut pace, now, key) = (Pace::default(), Instant::now(), ObjectKey::cluster("a"));
        while pace.ask(&key, now) == Permit::Now {}
        let Permit::After { wait, begins } = pace.ask(&key, now) else { panic!("it is slowed") };
        assert!(!begins && wait == Duration::from_millis(500));
        assert_eq!(pace.ask(&key, now + wait), Permit::Now);
    }
}
