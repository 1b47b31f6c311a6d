//! Taking units for an event: all that it needs, or none.

use std::collections::HashMap;
use std::sync::Arc;

use event::names::ledger_bucket;
use parking_lot::Mutex;
use policy::decide::Need;
use policy::ledger::{Denied, Record, Terms};
use policy::limit::{Limit, Per};
use policy::slice::grant_size;
use policy::tenant::{QuotaKey, TenantPolicy};
use policy::window::{Window, remaining_ms};

use super::entry::{Entry, OpState};
use super::ledger::{Ledger, RunError};
use super::rates::{self, Rates};
use super::recall;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pods::Pod;

/// Rounds of grant and recall for one event before it is refused for now.
const ROUNDS: usize = 3;
/// `Retry-After` of a refusal that is not final: units held elsewhere may come back.
const NOT_FINAL_RETRY_MS: u64 = 1_000;

/// All quota keys that this pod holds slices of.
pub struct Quotas {
    pub(super) entries: Mutex<HashMap<QuotaKey, Arc<Entry>>>,
    pub(super) ledger: Ledger,
    pub(super) client: jetstream::Client,
    pub(super) pod: Arc<Pod>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<Clock>,
    pub(super) rates: Rates,
}

/// Units that an event has taken; every path must end in [`Taken::settle`] or [`Taken::credit`].
#[derive(Debug, Default)]
#[must_use]
pub struct Taken(Vec<(Arc<Entry>, u64)>, Vec<rates::Part>);

/// An event is over a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Name of the limit.
    pub limit: String,
    /// Its identity.
    pub identity: String,
    /// Units of the window.
    pub max: u64,
    /// Units used or handed out.
    pub used: u64,
    /// Units that the event needed.
    pub units: u64,
    /// The window.
    pub window: Window,
    /// When to try again.
    pub retry_after_ms: u64,
}

/// Why an event has no units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeError {
    /// It is over a limit.
    Limited(Box<Limited>),
    /// The period ended meanwhile: decide again.
    PeriodEnded,
    /// The ledger does not answer.
    Unavailable(String),
}

impl Taken {
    /// Keys and units, as the pack records them.
    pub fn charges(&self) -> Vec<event::pack::Charge<'_>> {
        self.0
            .iter()
            .map(|(entry, units)| event::pack::Charge { key: &entry.record_key, units: *units })
            .collect()
    }

    /// The pack is acknowledged, or nobody knows: the units are spent.
    pub fn settle(self) {
        for (entry, units) in self.0 {
            entry.state.lock().slice.settle(units);
        }
    }

    /// The event was definitely not stored: the units are free again.
    pub fn credit(self) {
        for (entry, units) in self.0 {
            entry.state.lock().slice.credit(units);
        }
        self.1.into_iter().for_each(rates::Part::credit);
    }
}

impl Quotas {
    /// No slices yet.
    pub fn new(client: jetstream::Client, pod: Arc<Pod>, clock: Arc<Clock>, metrics: Arc<Metrics>) -> Self {
        let ledger = Ledger::new(client.clone());
        let rates = Rates::new(client.clone(), pod.clone(), clock.clone(), metrics.clone());
        Self { entries: Mutex::default(), ledger, client, pod, metrics, clock, rates }
    }

    /// Takes all units that an event needs.
    ///
    /// # Errors
    /// [`TakeError`]; nothing stays taken.
    pub async fn take(
        &self,
        policy: &TenantPolicy,
        ledgers: &std::collections::BTreeMap<String, String>,
        needs: &[Need],
    ) -> Result<Taken, TakeError> {
        let mut taken = Taken::default();
        for need in needs {
            let limit = &policy.rules()[need.rule].limit;
            if limit.window.is_rate() {
                match self.rates.take(need, limit, &policy.snapshot().lineage, ledgers).await {
                    Ok(part) => taken.1.push(part),
                    Err(error) => {
                        taken.credit();
                        return Err(error);
                    }
                }
                continue;
            }
            let entry = self.entry(need, limit, &policy.snapshot().lineage);
            match self.take_one(&entry, need, limit, ledgers).await {
                Ok(()) => taken.0.push((entry, need.units)),
                Err(error) => {
                    taken.credit();
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    fn entry(&self, need: &Need, limit: &Limit, lineage: &str) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        let make = || {
            let record_key = need.key.record_key(lineage, limit);
            Arc::new(Entry::new(need.key, record_key, (limit.window, need.key.shard()), need.period))
        };
        entries.entry(need.key).or_insert_with(make).clone()
    }

    async fn take_one(
        &self,
        entry: &Arc<Entry>,
        need: &Need,
        limit: &Limit,
        ledgers: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), TakeError> {
        let bucket = ledger_bucket(entry.bucket.0.label(), entry.bucket.1);
        let Some(ledger_id) = ledgers.get(&bucket) else {
            return Err(TakeError::Unavailable(format!("the policy does not name ledger {bucket}")));
        };
        let terms = Terms { cap: limit.max, cap_generation: limit.cap_generation, ledger_id };
        let mut last = None;
        for _ in 0..ROUNDS {
            {
                let mut state = entry.state.lock();
                if state.take(need.units, limit.cap_generation) {
                    return Ok(());
                }
                if let Some(limited) = state.refusal(need.units) {
                    return Err(TakeError::Limited(Box::new(limited)));
                }
            }
            let refill = self.refill(entry, need, limit, &terms).await;
            if !need.period.contains(self.clock.now_ms()) {
                return Err(TakeError::PeriodEnded);
            }
            match refill? {
                Refill::Granted => {}
                Refill::Exhausted { limited, holders } => {
                    recall::recall(self, entry, &holders).await;
                    last = Some(limited);
                }
            }
        }
        // Units are held elsewhere, or others took ours before we could: not final.
        let limited = last.unwrap_or_else(|| self.limited(need, limit, limit.max, NOT_FINAL_RETRY_MS));
        Err(TakeError::Limited(Box::new(limited)))
    }

    /// One grant, unless somebody else has refilled the slice while we waited for our turn.
    async fn refill(
        &self,
        entry: &Entry,
        need: &Need,
        limit: &Limit,
        terms: &Terms<'_>,
    ) -> Result<Refill, TakeError> {
        let mut op_state = entry.op.lock().await;
        {
            let state = entry.state.lock();
            if state.cap_generation >= limit.cap_generation && state.slice.free() >= need.units {
                return Ok(Refill::Granted);
            }
            if let Some(limited) = state.refusal(need.units) {
                return Err(TakeError::Limited(Box::new(limited)));
            }
        }
        self.finish_unanswered(entry, &mut op_state, terms).await?;
        self.return_outdated(entry, &mut op_state, terms).await?;
        let begun = {
            let mut state = entry.state.lock();
            let remaining = op_state.known.as_ref().map_or(limit.max, |(record, _)| record.free());
            let mut rate = state.units_per_second();
            if limit.per == Per::User && op_state.known.is_none() {
                // A user's small cap is shared out at once: most users are busy on one pod only.
                rate = rate.max(limit.max);
            }
            let want = grant_size(need.units, remaining, self.pod.live_pods(), rate);
            state.slice.begin_grant(self.pod.incarnation, need.units, want)
        };
        let Some(op) = begun else {
            return Err(TakeError::Unavailable("an operation is under way".to_owned()));
        };
        match self.ledger.run(entry, &mut op_state, terms, &op).await {
            Ok(record) => {
                self.metrics.count_ledger("grant", "ok");
                let mut state = entry.state.lock();
                state.slice.finish(&op, record.held_by(op.by));
                state.cap_generation = limit.cap_generation.max(record.cap_generation);
                Ok(Refill::Granted)
            }
            Err(RunError::Denied(denied, record)) => {
                self.metrics.count_ledger("grant", "denied");
                entry.state.lock().slice.abandon(&op);
                self.denied(entry, need, limit, denied, record)
            }
            Err(error) => Err(self.unavailable(entry, &mut op_state, op, error)),
        }
    }

    /// An operation whose answer was lost must be settled before anything else is asked.
    pub(super) async fn finish_unanswered(
        &self,
        entry: &Entry,
        op_state: &mut OpState,
        terms: &Terms<'_>,
    ) -> Result<(), TakeError> {
        let Some(op) = op_state.unanswered else { return Ok(()) };
        op_state.known = None;
        match self.ledger.run(entry, op_state, terms, &op).await {
            Ok(record) => {
                op_state.unanswered = None;
                entry.state.lock().slice.finish(&op, record.held_by(op.by));
                Ok(())
            }
            Err(RunError::Denied(..)) => {
                op_state.unanswered = None;
                entry.state.lock().slice.abandon(&op);
                Ok(())
            }
            Err(error) => Err(self.unavailable(entry, op_state, op, error)),
        }
    }

    /// Units granted under an older cap go back before any are spent under the new one.
    async fn return_outdated(
        &self,
        entry: &Entry,
        op_state: &mut OpState,
        terms: &Terms<'_>,
    ) -> Result<(), TakeError> {
        let begun = {
            let mut state = entry.state.lock();
            let outdated = state.cap_generation < terms.cap_generation && state.slice.free() > 0;
            if outdated { state.slice.begin_return(self.pod.incarnation) } else { None }
        };
        let Some(op) = begun else { return Ok(()) };
        match self.ledger.run(entry, op_state, terms, &op).await {
            Ok(record) => {
                self.metrics.count_ledger("return", "ok");
                entry.state.lock().slice.finish(&op, record.held_by(op.by));
                Ok(())
            }
            Err(RunError::Denied(denied, _)) => {
                entry.state.lock().slice.abandon(&op);
                Err(TakeError::Unavailable(denied.to_string()))
            }
            Err(error) => Err(self.unavailable(entry, op_state, op, error)),
        }
    }

    fn denied(
        &self,
        entry: &Entry,
        need: &Need,
        limit: &Limit,
        denied: Denied,
        record: Option<Record>,
    ) -> Result<Refill, TakeError> {
        let Denied::Exhausted { cap, used, held, held_by_others } = denied else {
            return Err(TakeError::Unavailable(denied.to_string()));
        };
        let now_ms = self.clock.now_ms();
        let known = used.saturating_add(held).saturating_add(held_by_others).min(cap);
        if held_by_others == 0 {
            let limited = self.limited(need, limit, known, remaining_ms(&need.period, now_ms));
            entry.state.lock().refuse(limited.clone());
            return Err(TakeError::Limited(Box::new(limited)));
        }
        let limited = self.limited(need, limit, known, NOT_FINAL_RETRY_MS);
        let holders = record.map(|record| record.holders).unwrap_or_default();
        let elsewhere =
            holders.into_iter().filter(|(pod, holder)| *pod != self.pod.incarnation && holder.held > 0);
        Ok(Refill::Exhausted { limited, holders: elsewhere.map(|(pod, _)| pod).collect() })
    }

    fn limited(&self, need: &Need, limit: &Limit, used: u64, retry_after_ms: u64) -> Limited {
        Limited {
            limit: limit.name.clone(),
            identity: limit.identity.clone(),
            max: limit.max,
            used,
            units: need.units,
            window: limit.window,
            retry_after_ms,
        }
    }

    pub(super) fn unavailable(
        &self,
        entry: &Entry,
        op_state: &mut OpState,
        op: policy::ledger::Op,
        error: RunError,
    ) -> TakeError {
        self.metrics.count_ledger("any", "unknown");
        match error {
            RunError::Unanswered(why) => {
                op_state.unanswered = Some(op);
                TakeError::Unavailable(why)
            }
            RunError::NotApplied(why) => {
                op_state.unanswered = None;
                entry.state.lock().slice.abandon(&op);
                TakeError::Unavailable(why)
            }
            RunError::Denied(denied, _) => TakeError::Unavailable(denied.to_string()),
        }
    }
}

enum Refill {
    Granted,
    Exhausted { limited: Limited, holders: Vec<event::Incarnation> },
}
