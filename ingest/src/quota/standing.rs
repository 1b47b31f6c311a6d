//! How a limit stands, as far as this pod knows: advice for clients, never what decides.

use event::violation::Effect;
use policy::decide::Need;
use policy::ledger_ids::LedgerIds;
use policy::limit::Limit;
use policy::tenant::TenantPolicy;
use policy::window::{Period, Window, remaining_ms};

use super::take::Quotas;

/// Most limits of one request that are remembered: per-user limits have one for each user in a batch.
const MAX_MET: usize = 32;

/// Limits that a request's events met, each subject by itself.
#[derive(Debug, Default, Clone)]
pub struct Met(Vec<Need>);

/// How one limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Name of the limit.
    pub limit: String,
    /// Its identity.
    pub identity: String,
    /// Units of the window.
    pub max: u64,
    /// Most saved units on top; zero for quotas.
    pub burst: u64,
    /// The window.
    pub window: Window,
    /// Length of the present window in seconds; `None` for one that never ends.
    pub length_s: Option<u64>,
    /// Milliseconds until the window ends; `None` for one that never does.
    pub reset_ms: Option<u64>,
    /// Units that this pod could still admit.
    pub remaining: u64,
    /// Units that other pods hold: spent or not, they are asked before anybody is refused.
    pub elsewhere: u64,
    /// The highest of the limit's warning percentages that its use has reached.
    pub warned_at: Option<u8>,
}

impl Met {
    /// Adds what an event needs, but for limits that are only observed.
    pub fn note(&mut self, needs: &[Need]) {
        for need in needs.iter().filter(|need| need.effect != Effect::Observed) {
            match self.0.iter().position(|known| same(known, need)) {
                Some(at) => self.0[at] = *need,
                None if self.0.len() < MAX_MET => self.0.push(*need),
                None => {}
            }
        }
    }
}

/// Whether two needs are of one limit and subject, whatever the period.
fn same(a: &Need, b: &Need) -> bool {
    (a.rule, a.key.rule, a.key.subject) == (b.rule, b.key.rule, b.key.subject)
}

impl Standing {
    fn new(limit: &Limit, period: &Period, remaining: u64, now_ms: i64) -> Self {
        let ends = limit.window != Window::Total;
        let length_ms = u64::try_from(period.end_ms.saturating_sub(period.start_ms)).unwrap_or(0);
        let used = limit.max.saturating_sub(remaining);
        let reached = |percent: &&u8| u128::from(used) * 100 >= u128::from(limit.max) * u128::from(**percent);
        Self {
            limit: limit.name.clone(),
            identity: limit.identity.clone(),
            max: limit.max,
            burst: limit.burst,
            window: limit.window,
            length_s: ends.then(|| (length_ms / 1_000).max(1)),
            reset_ms: ends.then(|| remaining_ms(period, now_ms)),
            remaining,
            elsewhere: 0,
            warned_at: limit.warn_at.iter().filter(reached).max().copied(),
        }
    }
}

impl Quotas {
    /// How the limits that a request met stand, as the last operation of this pod on each left it.
    pub fn standings(&self, policy: &TenantPolicy, met: &Met) -> Vec<Standing> {
        let now_ms = self.clock.now_ms();
        let standing = |need: &Need| {
            let limit = &policy.rules().get(need.rule)?.limit;
            let remaining = self.known_remaining(need, limit)?;
            Some(Standing::new(limit, &need.period, remaining, now_ms))
        };
        met.0.iter().filter_map(standing).collect()
    }

    /// How one limit stands, by this pod's memory or else by its record: nothing is written.
    ///
    /// # Errors
    /// Why the ledger did not answer.
    pub async fn peek(
        &self,
        policy: &TenantPolicy,
        ledgers: &LedgerIds,
        need: &Need,
    ) -> Result<Standing, String> {
        let limit = &policy.rules()[need.rule].limit;
        let lineage = &policy.snapshot().lineage;
        let (remaining, elsewhere) = if limit.window.is_rate() {
            (self.rates.peek(need, limit, lineage, ledgers).await?, 0)
        } else {
            let record_key = need.key.record_key(lineage, limit);
            let record = self.ledger.peek((limit.window, need.key.shard()), &record_key).await?;
            let (used, held) = record.as_ref().map_or((0, 0), |record| (record.used, record.held()));
            let own = record.map_or(0, |record| record.held_by(self.pod.incarnation));
            let left = limit.max.saturating_sub(used.saturating_add(held));
            (left.saturating_add(self.own_free(need)), held.saturating_sub(own))
        };
        let standing = Standing::new(limit, &need.period, remaining, self.clock.now_ms());
        Ok(Standing { elsewhere, ..standing })
    }

    fn known_remaining(&self, need: &Need, limit: &Limit) -> Option<u64> {
        if limit.window.is_rate() {
            return self.rates.remaining(need, limit);
        }
        let entry = self.entries.find(&need.key)?;
        let state = entry.state.lock();
        Some(state.left.saturating_add(state.slice.free()).min(limit.max))
    }

    /// Units of this pod's own slice.
    fn own_free(&self, need: &Need) -> u64 {
        self.entries.find(&need.key).map_or(0, |entry| entry.state.lock().slice.free())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::tenant::QuotaKey;

    fn need(rule: usize, subject: u128, period_start_ms: i64) -> Need {
        let period = Period { start_ms: period_start_ms, end_ms: period_start_ms + 60_000 };
        let key = QuotaKey { rule: rule as u64, subject, period_start_ms };
        Need { rule, key, period, units: 1, effect: Effect::Refused }
    }

    #[test]
    fn each_limit_and_subject_is_met_once_and_not_too_many() {
        let mut met = Met::default();
        met.note(&[need(0, 0, 0), need(1, 7, 0)]);
        met.note(&[need(0, 0, 60_000), need(1, 8, 0)]);
        assert_eq!(met.0.len(), 3);
        assert_eq!(met.0[0].period.start_ms, 60_000, "the latest period");
        (0..100).for_each(|subject| met.note(&[need(1, subject, 0)]));
        assert_eq!(met.0.len(), MAX_MET);
    }
}
