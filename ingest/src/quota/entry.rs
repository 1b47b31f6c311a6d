//! One quota key as this pod holds it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use policy::ledger::{Op, Record, Terms};
use policy::slice::Slice;
use policy::tenant::QuotaKey;
use policy::window::{Period, Window};

use super::Limited;

/// A grant this large is refilled in the background once a quarter of it is left.
const REFILL_FROM_UNITS: u64 = 16;

/// A quota key with its slice.
#[derive(Debug)]
pub struct Entry {
    /// The quota, the same in every pod.
    pub key: QuotaKey,
    /// Key of the record.
    pub record_key: Box<str>,
    /// Window kind and shard: which bucket holds the record.
    pub bucket: (Window, u8),
    /// The bucket's id: what was granted under another one is worth nothing.
    pub ledger_id: Arc<str>,
    /// The period that the slice is bound to.
    pub period: Period,
    pub(super) state: Mutex<State>,
    /// One operation at a time; held while the ledger is asked.
    pub(super) op: tokio::sync::Mutex<OpState>,
    /// One recall at a time: when the last one ended.
    pub(super) recalled: tokio::sync::Mutex<Option<Instant>>,
}

/// What changes from event to event.
#[derive(Debug)]
pub(super) struct State {
    pub slice: Slice,
    /// Units that nobody used or held when the ledger last answered: for advice only.
    pub left: u64,
    pub last_used: Instant,
    /// Units that requests wait for: the next grant asks for all of them.
    pub waiting: u64,
    /// A refill in the background begins when fewer are free; zero: none does.
    refill_below: u64,
    refilling: bool,
    rate: Rate,
    refused: Option<Box<Refused>>,
}

#[derive(Debug)]
struct Refused {
    until: Instant,
    cap_generation: u64,
    limited: Limited,
}

/// What is known of the record, and what was asked without an answer.
#[derive(Debug, Default)]
pub(super) struct OpState {
    pub remembered: Option<Box<(Record, u64)>>,
    /// Revision at which this pod last saw its own operation.
    pub seen: u64,
    pub unanswered: Option<Box<Op>>,
}

/// What taking units came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// They are taken.
    Taken,
    /// They are taken, and somebody should ask for more before the rest is gone.
    Low,
    /// Too few are free.
    Short,
}

/// Units taken in the last second and in the one before.
#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    now: u64,
    before: u64,
}

impl Entry {
    pub(super) fn new(
        key: QuotaKey,
        record_key: String,
        bucket: (Window, u8),
        ledger_id: Arc<str>,
        period: Period,
    ) -> Self {
        let now = Instant::now();
        let state = State {
            slice: Slice::default(),
            left: 0,
            last_used: now,
            waiting: 0,
            refill_below: 0,
            refilling: false,
            rate: Rate { since: now, now: 0, before: 0 },
            refused: None,
        };
        Self {
            key,
            record_key: record_key.into(),
            bucket,
            ledger_id,
            period,
            state: Mutex::new(state),
            op: tokio::sync::Mutex::default(),
            recalled: tokio::sync::Mutex::default(),
        }
    }
}

impl State {
    /// Takes units under `terms`.
    pub fn take(&mut self, units: u64, terms: &Terms<'_>, now: Instant) -> Take {
        self.last_used = now;
        if !self.slice.take(units, terms) {
            return Take::Short;
        }
        self.rate.count(units, now);
        if self.slice.free() >= self.refill_below || self.refilling {
            return Take::Taken;
        }
        self.refilling = true;
        Take::Low
    }

    /// A grant has come: from when on it is refilled.
    pub fn granted(&mut self) {
        let units = self.slice.free();
        self.refill_below = if units >= REFILL_FROM_UNITS { units / 4 } else { 0 };
        self.refused = None;
    }

    /// The refill in the background has ended; without success there is no further one until a grant comes.
    pub fn refilled(&mut self, success: bool) {
        self.refilling = false;
        if !success {
            self.refill_below = 0;
        }
    }

    /// Units a second, lately.
    pub fn units_per_second(&mut self, now: Instant) -> u64 {
        self.rate.count(0, now);
        self.rate.now.max(self.rate.before)
    }

    /// A refusal that still stands for an event of `units` under the cap of `cap_generation`.
    pub fn refusal(&self, units: u64, cap_generation: u64, now: Instant) -> Option<&Limited> {
        let refused = self.refused.as_ref()?;
        let stands =
            now < refused.until && units >= refused.limited.units && cap_generation <= refused.cap_generation;
        stands.then_some(&refused.limited)
    }

    /// Remembers a refusal until `until`.
    pub fn refuse(&mut self, limited: Limited, cap_generation: u64, until: Instant) {
        self.refused = Some(Box::new(Refused { until, cap_generation, limited }));
    }
}

impl Rate {
    fn count(&mut self, units: u64, now: Instant) {
        let elapsed_ms = now.saturating_duration_since(self.since).as_millis();
        if elapsed_ms >= 1_000 {
            let before = if elapsed_ms < 2_000 { self.now } else { 0 };
            *self = Self { since: now, now: 0, before };
        }
        self.now = self.now.saturating_add(units);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use policy::ledger::{Applied, Record};

    use super::*;

    const TERMS: Terms<'static> = Terms { cap: 1_000, cap_generation: 1, ledger_id: "l" };

    fn state(granted: u64) -> (State, Instant) {
        let key = QuotaKey { rule: 1, subject: 0, period_start_ms: 0 };
        let period = Period { start_ms: 0, end_ms: 1 };
        let entry = Entry::new(key, "k".into(), (Window::Day, 0), "l".into(), period);
        let mut state = entry.state.into_inner();
        let op = state.slice.begin_grant(event::Incarnation(1), 1, granted, granted, 0).unwrap();
        let Ok(Applied::Changed(record)) = Record::apply(None, &TERMS, &op) else { panic!() };
        state.slice.finish(&op, Some(&record));
        state.granted();
        (state, Instant::now())
    }

    #[test]
    fn a_large_slice_is_refilled_once_before_it_is_empty() {
        let (mut state, now) = state(100);
        assert_eq!(state.take(75, &TERMS, now), Take::Taken);
        assert_eq!(state.take(1, &TERMS, now), Take::Low);
        assert_eq!(state.take(1, &TERMS, now), Take::Taken, "one refill at a time");
        state.refilled(false);
        assert_eq!(state.take(1, &TERMS, now), Take::Taken, "the ledger had nothing more to give");
        assert_eq!(state.take(23, &TERMS, now), Take::Short);
    }

    #[test]
    fn small_slices_are_not_hoarded() {
        let (mut state, now) = state(15);
        assert_eq!(state.take(15, &TERMS, now), Take::Taken);
    }

    #[test]
    fn a_refusal_ends_with_its_time_or_with_a_new_cap() {
        let (mut state, now) = state(1);
        let limited = Limited {
            limit: "l".into(),
            identity: "plan.l".into(),
            max: 10,
            used: 10,
            units: 3,
            window: Window::Day,
            retry_after_ms: Some(1),
        };
        state.refuse(limited, 5, now + Duration::from_secs(1));
        assert!(state.refusal(3, 5, now).is_some());
        assert!(state.refusal(2, 5, now).is_none(), "a smaller event may still fit");
        assert!(state.refusal(3, 6, now).is_none());
        assert!(state.refusal(3, 5, now + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn the_rate_is_that_of_the_last_two_seconds() {
        let (mut state, now) = state(100);
        state.take(50, &TERMS, now);
        assert_eq!(state.units_per_second(now + Duration::from_millis(1_500)), 50);
        assert_eq!(state.units_per_second(now + Duration::from_secs(9)), 0);
    }
}
