//! Rates: leases of windows that are labelled by their number, spent without asking.
//!
//! ```text
//! take -> this label's units suffice? -> yes: taken
//!      -> known that too few are left? -> limited, until the next window that has some
//!      -> else one operation a key and time: report what passed labels left, lease this label and the next
//! ```
//! Whatever happens to an operation, a pod spends only what the record says after one of its later operations, so there is
//! nothing to finish and nothing to return: what is lost counts as spent, in its window alone.

mod ledger;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use policy::decide::Need;
use policy::ledger_ids::LedgerIds;
use policy::limit::Limit;
use policy::rate::{self, label_of, length_ms};
use policy::rate_share::{Share, Take};
use policy::tenant::QuotaKey;
use policy::window::{Window, remaining_ms};

use self::ledger::{Cached, Ledger, NotLeased};
use super::take::{Limited, TakeError};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pods::Pod;

/// Operations for one event before it is refused for now: policies may change meanwhile.
const ROUNDS: usize = 3;
/// How often rates that nobody uses are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

type Entries = Mutex<HashMap<(u64, u128), Arc<Entry>>>;

/// All rates that this pod holds leases of.
pub struct Rates {
    entries: Arc<Entries>,
    ledger: Ledger,
    pod: Arc<Pod>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    operations: AtomicU64,
}

/// One rate of one subject.
#[derive(Debug)]
pub struct Entry {
    key: QuotaKey,
    name: String,
    window: Window,
    share: Mutex<Share>,
    /// One operation at a time; held while the ledger is asked.
    op: tokio::sync::Mutex<Cached>,
}

/// Units of one window that an event has taken.
#[derive(Debug)]
pub struct Part {
    entry: Arc<Entry>,
    label: i64,
    units: u64,
}

impl Part {
    /// The event was definitely not stored: the units are free again, in their window.
    pub fn credit(self) {
        self.entry.share.lock().credit(self.label, self.units);
    }
}

impl Rates {
    /// No leases yet.
    pub fn new(client: jetstream::Client, pod: Arc<Pod>, clock: Arc<Clock>, metrics: Arc<Metrics>) -> Self {
        let entries = Arc::new(Entries::default());
        tokio::spawn(sweep(Arc::downgrade(&entries), clock.clone()));
        let ledger = Ledger::new(client, clock.clone(), metrics.clone());
        Self { entries, ledger, pod, clock, metrics, operations: AtomicU64::new(0) }
    }

    /// Takes the units that an event needs of one rate.
    ///
    /// # Errors
    /// [`TakeError`]; nothing is taken.
    pub async fn take(
        &self,
        need: &Need,
        limit: &Limit,
        lineage: &str,
        ledgers: &LedgerIds,
    ) -> Result<Part, TakeError> {
        let label = label_of(limit.window, need.period.start_ms);
        let entry = self.entry(need, limit, lineage);
        entry.share.lock().want(label, need.units);
        let part = || Part { entry: entry.clone(), label, units: need.units };
        for _ in 0..ROUNDS {
            if self.try_take(&entry, need, limit, label)? {
                return Ok(part());
            }
            let mut cached = entry.op.lock().await;
            if self.try_take(&entry, need, limit, label)? {
                return Ok(part());
            }
            // Only the present window is asked for, and for a short time: a label that passed long ago could be one that the
            // ledger has forgotten. The time runs from before the clock is read, whatever pauses this pod in between.
            let begun = Instant::now();
            if label_of(limit.window, self.clock.now_ms()) != label {
                return Err(TakeError::PeriodEnded);
            }
            let take = self.lease(&entry, &mut cached, need, limit, (label, begun), ledgers).await?;
            if self.judge(take, &entry, need, limit, label)? {
                return Ok(part());
            }
        }
        Err(self.limited(&entry, need, limit, label, 1))
    }

    /// Units of the window that this pod could admit, as far as it knows.
    pub fn remaining(&self, need: &Need, limit: &Limit) -> Option<u64> {
        let entry = self.entries.lock().get(&(need.key.rule, need.key.subject)).cloned()?;
        entry.share.lock().remaining(label_of(limit.window, need.period.start_ms))
    }

    /// Units of the window that this pod could admit, by the record as it is now: nothing is written.
    ///
    /// # Errors
    /// Why the ledger did not answer.
    pub async fn peek(
        &self,
        need: &Need,
        limit: &Limit,
        lineage: &str,
        ledgers: &LedgerIds,
    ) -> Result<u64, String> {
        let label = label_of(limit.window, need.period.start_ms);
        let bucket = (limit.window, need.key.rate().shard());
        let Some(ledger_id) = ledgers.get(bucket.0, bucket.1) else {
            return Err("the policy does not name its ledger".to_owned());
        };
        let key = format!("{ledger_id}.{}", name(need, limit, lineage));
        let available = self.ledger.peek(bucket, &key, limit, self.pod.incarnation, label).await?;
        let entry = self.entries.lock().get(&(need.key.rule, need.key.subject)).cloned();
        Ok(available.saturating_add(entry.map_or(0, |entry| entry.share.lock().free(label))))
    }

    fn entry(&self, need: &Need, limit: &Limit, lineage: &str) -> Arc<Entry> {
        let make = || {
            Arc::new(Entry {
                key: need.key.rate(),
                name: name(need, limit, lineage),
                window: limit.window,
                share: Mutex::new(Share::new(limit.window)),
                op: tokio::sync::Mutex::default(),
            })
        };
        self.entries.lock().entry((need.key.rule, need.key.subject)).or_insert_with(make).clone()
    }

    /// Whether the units are taken; `false` when the ledger must be asked.
    fn try_take(&self, entry: &Entry, need: &Need, limit: &Limit, label: i64) -> Result<bool, TakeError> {
        let take = entry.share.lock().take(label, need.units, limit.cap_generation, self.clock.now_ms());
        self.judge(take, entry, need, limit, label)
    }

    fn judge(
        &self,
        take: Take,
        entry: &Entry,
        need: &Need,
        limit: &Limit,
        label: i64,
    ) -> Result<bool, TakeError> {
        match take {
            Take::Taken => Ok(true),
            Take::Ask => Ok(false),
            Take::Passed if label_of(limit.window, self.clock.now_ms()) > label => {
                Err(TakeError::PeriodEnded)
            }
            // The clock was set back: the label that was reached stays reached.
            Take::Passed => Err(self.limited(entry, need, limit, label, 1)),
            Take::Refused { windows } => Err(self.limited(entry, need, limit, label, windows)),
        }
    }

    /// One operation, and what the event gets of it before others see it.
    async fn lease(
        &self,
        entry: &Entry,
        cached: &mut Cached,
        need: &Need,
        limit: &Limit,
        (label, begun): (i64, Instant),
        ledgers: &LedgerIds,
    ) -> Result<Take, TakeError> {
        let bucket = (entry.window, entry.key.shard());
        let Some(ledger_id) = ledgers.get(bucket.0, bucket.1) else {
            let (window, shard) = (entry.window.label(), bucket.1);
            return Err(TakeError::Unavailable(format!("the policy does not name ledger {window}-{shard}")));
        };
        let number = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = self.clock.now_ms();
        let op = entry.share.lock().begin(self.pod.incarnation, number, label, need.units, now_ms);
        // Records of a bucket that was made anew have other keys: pods with older policy cannot mistake them for theirs.
        let key = format!("{ledger_id}.{}", entry.name);
        match self.ledger.run((bucket, ledger_id, &key), cached, limit, &op, begun).await {
            Ok(record) => {
                self.metrics.count_ledger("lease", "ok");
                let mut share = entry.share.lock();
                share.finish(&op, &record, now_ms);
                Ok(share.take(label, need.units, limit.cap_generation, self.clock.now_ms()))
            }
            Err(NotLeased::Denied(denied)) => {
                self.metrics.count_ledger("lease", "denied");
                Err(TakeError::Unavailable(denied.to_string()))
            }
            Err(NotLeased::Unavailable(why)) => {
                self.metrics.count_ledger("lease", "unknown");
                Err(TakeError::Unavailable(why))
            }
        }
    }

    fn limited(&self, entry: &Entry, need: &Need, limit: &Limit, label: i64, windows: u64) -> TakeError {
        let used = limit.max.saturating_sub(entry.share.lock().remaining(label).unwrap_or(0));
        let whole_ms = length_ms(limit.window).unsigned_abs().saturating_mul(windows - windows.min(1));
        TakeError::Limited(Box::new(Limited {
            limit: limit.name.clone(),
            identity: limit.identity.clone(),
            max: limit.max,
            used,
            units: need.units,
            window: limit.window,
            retry_after_ms: Some(remaining_ms(&need.period, self.clock.now_ms()).saturating_add(whole_ms)),
        }))
    }
}

/// A rate's part of the key of its record.
fn name(need: &Need, limit: &Limit, lineage: &str) -> String {
    let subject = event::ids::base32(need.key.subject);
    format!("{lineage}.{}.{subject}.{}", limit.epoch, limit.identity)
}

/// Forgets rates that nobody has used for some windows, as long as they are in use.
async fn sweep(entries: Weak<Entries>, clock: Arc<Clock>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let Some(entries) = entries.upgrade() else { return };
        let now_ms = clock.now_ms();
        entries.lock().retain(|_, entry| {
            // Whoever else holds it is about to use it.
            Arc::strong_count(entry) > 1 || !entry.share.lock().is_over(rate::label_of(entry.window, now_ms))
        });
    }
}
