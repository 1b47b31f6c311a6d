//! Taking units for an event: all that it needs, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use event::violation::Effect;
use policy::decide::Need;
use policy::ledger::Terms;
use policy::ledger_ids::LedgerIds;
use policy::limit::{FailureMode, Limit, Per};
use policy::tenant::TenantPolicy;
use policy::window::{Period, Window};

use super::entries::Entries;
use super::entry::{Entry, Take};
use super::ledger::Ledger;
use super::lowered::Floors;
use super::rates::{self, Rates};
use super::sweep::LARGE_CAP_UNITS;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pods::Pod;

/// All slices of this pod.
pub struct Quotas {
    pub(super) entries: Entries,
    pub(super) ledger: Ledger,
    pub(super) client: jetstream::Client,
    pub(super) pod: Arc<Pod>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<Clock>,
    pub(super) floors: Floors,
    pub(super) rates: Rates,
    operations: AtomicU64,
}

/// Units that an event has taken; every path must end in [`Taken::settle`] or [`Taken::credit`].
#[derive(Debug, Default)]
#[must_use]
pub struct Taken(Vec<Unit>, Vec<(Limited, Effect)>);

/// What was taken of one limit.
#[derive(Debug)]
enum Unit {
    Quota(Arc<Entry>, u64),
    /// Units that a reservation held in the record of this key: used already, whatever becomes of the pack.
    Reserved(Box<str>, u64),
    Rate(rates::Part),
}

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
    /// When to try again; `None` when the quota is used up for good.
    pub retry_after_ms: Option<u64>,
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

/// What is asked of one quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub limit: &'a Limit,
    pub terms: Terms<'a>,
    pub period: Period,
    pub units: u64,
}

impl Taken {
    /// Limits that are used up and do not enforce, with what they do instead.
    pub fn exceeded(&self) -> &[(Limited, Effect)] {
        &self.1
    }

    /// Adds units that a reservation held.
    pub fn add_reserved(&mut self, record_key: Box<str>, units: u64) {
        self.0.push(Unit::Reserved(record_key, units));
    }

    /// Adds what was taken later.
    pub fn join(&mut self, later: Self) {
        self.0.extend(later.0);
        self.1.extend(later.1);
    }

    /// Keys and units, as the pack records them.
    pub fn charges<'a>(&'a self) -> Vec<event::pack::Charge<'a>> {
        let mut charges: Vec<event::pack::Charge<'a>> = Vec::with_capacity(self.0.len());
        for unit in &self.0 {
            let (key, units) = match unit {
                Unit::Quota(entry, units) => (&*entry.record_key, *units),
                Unit::Reserved(key, units) => (&**key, *units),
                // Nothing is ever given back to a rate's window that is over.
                Unit::Rate(_) => continue,
            };
            // A reservation that did not hold enough has one part of its units, a slice the other.
            match charges.iter_mut().find(|charge| charge.key == key) {
                Some(charge) => charge.units = charge.units.saturating_add(units),
                None => charges.push(event::pack::Charge { key, units }),
            }
        }
        charges
    }

    /// The pack is acknowledged, or nobody knows: the units are spent.
    pub fn settle(self) {
        for unit in self.0 {
            if let Unit::Quota(entry, units) = unit {
                entry.state.lock().slice.settle(units);
            }
        }
    }

    /// The event was definitely not stored: the units are free again.
    pub fn credit(self) {
        for unit in self.0 {
            match unit {
                Unit::Quota(entry, units) => entry.state.lock().slice.credit(units),
                Unit::Rate(part) => part.credit(),
                Unit::Reserved(..) => {}
            }
        }
    }
}

impl Quotas {
    /// Slices that are kept.
    pub fn slices(&self) -> usize {
        self.entries.len()
    }

    /// No slices yet; at most about `max_keys` are kept.
    pub fn new(
        client: jetstream::Client,
        pod: Arc<Pod>,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        max_keys: usize,
    ) -> Self {
        let ledger = Ledger::new(client.clone());
        let rates = Rates::new(client.clone(), pod.clone(), clock.clone(), metrics.clone());
        let entries = Entries::new(max_keys);
        Self {
            entries,
            ledger,
            client,
            pod,
            metrics,
            clock,
            floors: Floors::default(),
            rates,
            operations: AtomicU64::new(0),
        }
    }

    /// Takes all units that an event needs.
    ///
    /// # Errors
    /// [`TakeError`]; nothing stays taken.
    pub async fn take(
        self: &Arc<Self>,
        policy: &Arc<TenantPolicy>,
        ledgers: &LedgerIds,
        needs: &[Need],
    ) -> Result<Taken, TakeError> {
        let mut taken = Taken(Vec::with_capacity(needs.len()), Vec::new());
        let now = Instant::now();
        for need in needs {
            let limit = &policy.rules()[need.rule].limit;
            let unit = if limit.window.is_rate() {
                let lineage = &policy.snapshot().lineage;
                self.rates.take(need, limit, lineage, ledgers).await.map(Unit::Rate)
            } else {
                let entry = self.take_one(policy, ledgers, need, now).await;
                entry.map(|entry| Unit::Quota(entry, need.units))
            };
            match unit {
                Ok(unit) => taken.0.push(unit),
                // A limit that does not enforce keeps no event out, used up or unavailable.
                Err(TakeError::Limited(limited)) if need.effect != Effect::Refused => {
                    taken.1.push((*limited, need.effect));
                }
                Err(_) if need.effect != Effect::Refused => {}
                Err(error) => {
                    taken.credit();
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    async fn take_one(
        self: &Arc<Self>,
        policy: &Arc<TenantPolicy>,
        ledgers: &LedgerIds,
        need: &Need,
        now: Instant,
    ) -> Result<Arc<Entry>, TakeError> {
        let limit = &policy.rules()[need.rule].limit;
        let entry = self.entry(policy, ledgers, need)?;
        let (cap, cap_generation) = (limit.cap(), limit.cap_generation);
        let terms = Terms { cap, cap_generation, ledger_id: &entry.ledger_id };
        let answers = self.ledger.answers(&entry).await;
        if !answers && need.effect == Effect::Refused && limit.failure_mode == FailureMode::Closed {
            return Err(silent());
        }
        let took = {
            let mut state = entry.state.lock();
            let took = state.take(need.units, &terms, now);
            if took == Take::Short
                && let Some(limited) = state.refusal(need.units, limit.cap_generation, now)
            {
                return Err(TakeError::Limited(Box::new(limited.clone())));
            }
            took
        };
        match took {
            Take::Taken => {}
            Take::Low => self.refill(entry.clone(), policy.clone(), need.rule),
            Take::Short if !answers => return Err(silent()),
            Take::Short => {
                let ask = Ask { limit, terms, period: need.period, units: need.units };
                self.acquire(&entry, &ask).await?;
            }
        }
        Ok(entry)
    }

    /// What this pod has of a need's record.
    pub(super) fn entry(
        &self,
        policy: &TenantPolicy,
        ledgers: &LedgerIds,
        need: &Need,
    ) -> Result<Arc<Entry>, TakeError> {
        let limit = &policy.rules()[need.rule].limit;
        let bucket = (limit.window, need.key.shard());
        let Some(ledger_id) = ledgers.get(bucket.0, bucket.1) else {
            let (window, shard) = (limit.window.label(), bucket.1);
            return Err(TakeError::Unavailable(format!("ledger {window}-{shard} is lost and being rebuilt")));
        };
        let entry = self.entries.get(&need.key, ledger_id, || {
            let record_key = need.key.record_key(&policy.snapshot().lineage, limit);
            Entry::new(need.key, record_key, bucket, ledger_id.clone(), need.period)
        });
        Ok(entry)
    }

    /// Asks for more behind the requests' backs.
    fn refill(self: &Arc<Self>, entry: Arc<Entry>, policy: Arc<TenantPolicy>, rule: usize) {
        let quotas = self.clone();
        tokio::spawn(async move {
            let limit = &policy.rules()[rule].limit;
            let (ledger_id, period) = (entry.ledger_id.clone(), entry.period);
            let terms =
                Terms { cap: limit.cap(), cap_generation: limit.cap_generation, ledger_id: &ledger_id };
            let success = quotas.top_up(&entry, &Ask { limit, terms, period, units: 1 }).await;
            entry.state.lock().refilled(success);
        });
    }

    /// Number of this pod's next operation.
    pub(super) fn next_operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub(super) fn silent() -> TakeError {
    TakeError::Unavailable("it does not answer".to_owned())
}

/// Units that are shared out at once: a user's cap is mostly small, and most users are busy on one pod only. Of a large one not so
/// much that a few pods that die take all of it with them.
pub(super) fn first_rate(per: Per, max: u64, rate: u64) -> u64 {
    if per == Per::User { rate.max(max.min(LARGE_CAP_UNITS)) } else { rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_dies_takes_no_more_of_a_large_cap_than_of_a_small_one() {
        assert_eq!(first_rate(Per::User, 100, 7), 100, "a small cap is shared out at once");
        assert_eq!(first_rate(Per::User, 100_000_000, 7), LARGE_CAP_UNITS);
        assert_eq!(first_rate(Per::User, 100_000_000, 50_000), 50_000, "a busy user asks for what it uses");
        assert_eq!(first_rate(Per::Tenant, 100_000_000, 7), 7);
    }
}
