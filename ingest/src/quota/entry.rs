//! One quota key as this pod holds it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policy::ledger::{Op, Record};
use policy::slice::Slice;
use policy::tenant::QuotaKey;
use policy::window::{Period, Window};

use super::Limited;

/// How long a final refusal is answered without asking the ledger again.
const REFUSAL_TTL: Duration = Duration::from_secs(1);

/// A quota key with its slice.
#[derive(Debug)]
pub struct Entry {
    /// The quota, the same in every pod.
    pub key: QuotaKey,
    /// Key of the record.
    pub record_key: String,
    /// Window kind and shard: which bucket holds the record.
    pub bucket: (Window, u8),
    /// The period that the slice is bound to.
    pub period: Period,
    pub(super) state: Mutex<State>,
    /// One operation at a time; held while the ledger is asked.
    pub(super) op: tokio::sync::Mutex<OpState>,
}

#[derive(Debug)]
pub(super) struct State {
    pub slice: Slice,
    /// Snapshot generation of the cap that the slice was granted under.
    pub cap_generation: u64,
    pub last_used: Instant,
    rate: Rate,
    refused: Option<(Instant, Limited)>,
}

/// What is known of the record, and what was asked without an answer.
#[derive(Debug, Default)]
pub(super) struct OpState {
    pub known: Option<(Record, u64)>,
    pub unanswered: Option<Op>,
}

/// Units taken in the last second and in the one before.
#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    now: u64,
    before: u64,
}

impl Entry {
    pub(super) fn new(key: QuotaKey, record_key: String, bucket: (Window, u8), period: Period) -> Self {
        let now = Instant::now();
        let rate = Rate { since: now, now: 0, before: 0 };
        let slice = Slice::default();
        let state = State { slice, cap_generation: 0, last_used: now, rate, refused: None };
        Self { key, record_key, bucket, period, state: Mutex::new(state), op: tokio::sync::Mutex::default() }
    }
}

impl State {
    /// Takes units granted under the cap of `cap_generation` or a newer one.
    pub fn take(&mut self, units: u64, cap_generation: u64) -> bool {
        self.last_used = Instant::now();
        let taken = self.cap_generation >= cap_generation && self.slice.take(units);
        if taken {
            self.rate.count(units);
        }
        taken
    }

    /// Units a second, lately.
    pub fn units_per_second(&mut self) -> u64 {
        self.rate.count(0);
        self.rate.now.max(self.rate.before)
    }

    /// A final refusal that still stands for an event of `units`.
    pub fn refusal(&self, units: u64) -> Option<Limited> {
        let (until, limited) = self.refused.as_ref()?;
        (Instant::now() < *until && units >= limited.units).then(|| limited.clone())
    }

    pub fn refuse(&mut self, limited: Limited) {
        self.refused = Some((Instant::now() + REFUSAL_TTL, limited));
    }
}

impl Rate {
    fn count(&mut self, units: u64) {
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_secs(2) {
            *self = Self { since: Instant::now(), now: 0, before: 0 };
        } else if elapsed >= Duration::from_secs(1) {
            *self = Self { since: Instant::now(), now: 0, before: self.now };
        }
        self.now = self.now.saturating_add(units);
    }
}
