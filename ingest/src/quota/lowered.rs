//! Caps that policy lowers: what this pod holds under the higher one goes back before it says that it enforces the new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use policy::ledger::Terms;
use policy::ledger_ids::LedgerIds;
use policy::tenant::{Rule, TenantPolicy};

use super::entry::Entry;
use super::take::{Quotas, TakeError};

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Returns under way at once.
const RETURNS: usize = 64;

/// The newest cap generation of every limit that was lowered while this pod ran, by [`Rule::id`]: a request that was decided
/// under the older policy is not granted units any more.
#[derive(Debug, Default)]
pub(super) struct Floors(Mutex<HashMap<u64, u64>>);

impl Floors {
    fn raise(&self, rule: &Rule) {
        let mut floors = self.0.lock();
        let floor = floors.entry(rule.id).or_default();
        *floor = (*floor).max(rule.limit.cap_generation);
    }

    /// # Errors
    /// When a newer policy has lowered the cap since.
    pub(super) fn check(&self, rule: u64, cap_generation: u64) -> Result<(), TakeError> {
        match self.0.lock().get(&rule) {
            Some(floor) if cap_generation < *floor => {
                Err(TakeError::Unavailable("the limit was lowered meanwhile".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// The rules of `new` whose cap is lower than in `old`.
pub fn lowered(old: &TenantPolicy, new: &TenantPolicy) -> Vec<usize> {
    let was = |rule: &Rule| old.rules().iter().find(|old| old.id == rule.id).map(|old| old.limit.cap());
    let lower = |rule: &Rule| was(rule).is_some_and(|cap| rule.limit.cap() < cap);
    new.rules().iter().enumerate().filter(|(_, rule)| lower(rule)).map(|(at, _)| at).collect()
}

impl Quotas {
    /// Asks these ledgers from now on.
    pub fn name_ledgers(&self, ledgers: Arc<LedgerIds>) {
        self.ledger.name(ledgers);
    }

    /// Returns once nothing is held of these rules under an older, higher cap.
    pub async fn return_lowered(&self, policy: &Arc<TenantPolicy>, rules: &[usize]) {
        for rule in rules.iter().filter_map(|at| policy.rules().get(*at)) {
            self.floors.raise(rule);
            let entries = self.entries.select(|entry| entry.key.rule == rule.id);
            for chunk in entries.chunks(RETURNS) {
                join_all(chunk.iter().map(|entry| self.return_outdated(entry, rule))).await;
            }
        }
    }

    async fn return_outdated(&self, entry: &Entry, rule: &Rule) {
        let (cap, cap_generation) = (rule.limit.cap(), rule.limit.cap_generation);
        let terms = Terms { cap, cap_generation, ledger_id: &entry.ledger_id };
        // What is held of a period that has ended, or of a ledger that is lost, cannot be spent any more.
        while entry.period.contains(self.clock.now_ms()) && self.ledger.is_named(entry) {
            let returned = {
                let mut op = entry.op.lock().await;
                self.prepare(entry, &mut op, &terms).await
            };
            match returned {
                Ok(()) if !entry.state.lock().slice.is_outdated(&terms) => return,
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(?error, key = %entry.record_key, "units of a lowered limit are not returned yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
