//! What a request's users lack, fetched at once: events are taken one after the other, and each user whom this pod has not seen
//! yet costs an operation, so a request of a hundred such events would wait for a hundred answers in a row.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use policy::decide::Need;
use policy::ledger::Terms;
use policy::ledger_ids::LedgerIds;
use policy::limit::Per;
use policy::tenant::{QuotaKey, TenantPolicy};

use super::entry::Entry;
use super::grant::Waiting;
use super::take::{Ask, Quotas};

/// Operations of one request at once.
const AT_ONCE: usize = 32;

/// A key of a user, an event's need of it, and the units that all of a request's events need.
pub struct Lack(Arc<Entry>, Need, u64);

impl Quotas {
    /// What users lack for `needs`, each key once.
    pub fn lacking<'a>(
        &self,
        policy: &TenantPolicy,
        ledgers: &LedgerIds,
        needs: impl Iterator<Item = &'a Need>,
    ) -> Vec<Lack> {
        let mut wanted: HashMap<QuotaKey, (Need, u64)> = HashMap::new();
        for need in needs {
            let limit = &policy.rules()[need.rule].limit;
            // The others have one key a request: there is nothing to fetch side by side.
            if limit.per == Per::User && !limit.window.is_rate() {
                wanted.entry(need.key).or_insert((*need, 0)).1 += need.units;
            }
        }
        let lack = |(need, units): (Need, u64)| {
            let entry = self.entry(policy, ledgers, &need).ok()?;
            let free = entry.state.lock().slice.free();
            (free < units).then_some(Lack(entry, need, units))
        };
        wanted.into_values().filter_map(lack).collect()
    }

    /// Asks for it. Nothing is taken: the events' own turns find the units, or find out for themselves why there are none.
    pub async fn stock(&self, policy: &TenantPolicy, lacking: Vec<Lack>) {
        // One alone is asked for just as well when its turn comes.
        if lacking.len() > 1 {
            stream::iter(lacking).for_each_concurrent(AT_ONCE, |lack| self.stock_one(policy, lack)).await;
        }
    }

    async fn stock_one(&self, policy: &TenantPolicy, Lack(entry, need, units): Lack) {
        let limit = &policy.rules()[need.rule].limit;
        let _waiting = Waiting::new(&entry, units);
        let mut op = entry.op.lock().await;
        let stocked = {
            let state = entry.state.lock();
            // Another request's grant may have been enough for all, or its refusal may stand.
            state.slice.free() >= state.waiting
                || state.refusal(1, limit.cap_generation, Instant::now()).is_some()
        };
        if stocked || self.floors.check(entry.key.rule, limit.cap_generation).is_err() {
            return;
        }
        let terms =
            Terms { cap: limit.cap(), cap_generation: limit.cap_generation, ledger_id: &entry.ledger_id };
        let ask = Ask { limit, terms, period: need.period, units: 1 };
        if self.prepare(&entry, &mut op, &ask.terms).await.is_ok() {
            // Whatever came of it, the turn of each event tells.
            drop(self.grant(&entry, &mut op, &ask).await);
        }
    }
}
