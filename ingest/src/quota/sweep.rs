//! Giving slices back for good: those of periods that have ended, those that nobody uses, the oldest when there are too many,
//! and all when the pod stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use policy::ledger::Terms;
use policy::window::Window;

use super::entry::Entry;
use super::take::Quotas;

const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A slice of a large quota that nobody has used for this long goes back.
const IDLE: Duration = Duration::from_secs(30);
/// Caps below this are handed out in slices so small that returning them costs more than they are worth to others, who recall
/// them when they need them.
pub(super) const LARGE_CAP_UNITS: u64 = 10_000;
/// How long a pod that stops gives units back: well within the 30 s that a pod has by default.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
/// Entries used later than this are never evicted.
const RECENT: Duration = Duration::from_secs(2);
/// Returns under way at once when the pod stops.
const RETURNS: usize = 64;
/// Returns under way at once while it serves: a request that asks the ledger waits behind them.
const RETURNS_BESIDE: usize = 2;

/// Sweeps until the process ends.
pub async fn sweep(quotas: Arc<Quotas>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (now_ms, now) = (quotas.clock.now_ms(), Instant::now());
        // What was left when a period ended dies with it.
        for entry in quotas.entries.select(|entry| !entry.period.contains(now_ms)) {
            quotas.entries.forget(&entry, |entry| entry.state.lock().slice.pending() > 0);
        }
        for entry in quotas.entries.select(|entry| !quotas.ledger.is_named(entry)) {
            quotas.entries.forget(&entry, |_| false);
        }
        quotas.retire(quotas.entries.select(|entry| is_idle(entry, now)), RETURNS_BESIDE).await;
        quotas.retire(oldest(&quotas, quotas.entries.excess(), now), RETURNS_BESIDE).await;
        quotas.metrics.slices.set(i64::try_from(quotas.entries.len()).unwrap_or(i64::MAX));
    }
}

/// Returns what can be returned in time, the most first: the last thing a pod does. The rest dies with its period, as after
/// a crash.
pub async fn return_all(quotas: &Quotas) {
    let mut entries = quotas.entries.select(|entry| entry.state.lock().slice.outstanding() > 0);
    entries.sort_by_cached_key(|entry| std::cmp::Reverse(entry.state.lock().slice.free()));
    let (slices, begun) = (entries.len(), Instant::now());
    if tokio::time::timeout(DRAIN_WITHIN, quotas.retire(entries, RETURNS)).await.is_err() {
        let left = quotas.entries.select(|entry| entry.state.lock().slice.free() > 0).len();
        tracing::warn!(slices, left, "not every quota slice was returned in time");
    } else {
        tracing::info!(slices, elapsed_ms = begun.elapsed().as_millis(), "quota slices returned");
    }
}

fn is_idle(entry: &Entry, now: Instant) -> bool {
    let state = entry.state.lock();
    state.slice.cap() >= LARGE_CAP_UNITS && now.saturating_duration_since(state.last_used) >= IDLE
}

fn oldest(quotas: &Quotas, excess: usize, now: Instant) -> Vec<Arc<Entry>> {
    if excess == 0 {
        return Vec::new();
    }
    let unused =
        quotas.entries.select(|entry| now.saturating_duration_since(entry.state.lock().last_used) >= RECENT);
    let mut by_age = unused;
    by_age.sort_by_cached_key(|entry| entry.state.lock().last_used);
    by_age.truncate(excess);
    by_age
}

impl Quotas {
    /// Returns what these entries hold, so many at once, and forgets those that hold nothing more.
    async fn retire(&self, entries: Vec<Arc<Entry>>, at_once: usize) {
        stream::iter(&entries).for_each_concurrent(at_once, |entry| self.last_return(entry)).await;
        for entry in entries {
            self.entries.forget(&entry, |entry| !entry.state.lock().slice.is_settled());
        }
    }

    async fn last_return(&self, entry: &Entry) {
        let terms = Terms { cap: 0, cap_generation: 0, ledger_id: &entry.ledger_id };
        let mut op = entry.op.lock().await;
        if self.prepare(entry, &mut op, &terms).await.is_err() {
            return;
        }
        let begun = {
            let mut state = entry.state.lock();
            let number = self.next_operation();
            if state.slice.is_unknown() {
                None
            } else if entry.bucket.0 == Window::Total {
                // The entry stays in the record: what this pod has charged is settled when it is gone.
                state.slice.begin_return(self.pod.incarnation, number)
            } else {
                state.slice.begin_last_return(self.pod.incarnation, number)
            }
        };
        let Some(return_op) = begun else { return };
        if let Err(error) = self.give(entry, &mut op, &terms, return_op).await {
            tracing::debug!(?error, key = %entry.record_key, "units were not returned");
        }
    }
}
