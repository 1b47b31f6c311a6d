//! What a limit would have charged: stored events put through the decision of the pods, summed by quota record.
//!
//! Unlike a simulation it knows no cap: what was used was used.

use std::collections::HashMap;

use crate::decide::{Facts, decide};
use crate::limit::Limit;
use crate::simulate::{MAX_SUBJECTS, Stored, TooManySubjects, alone};
use crate::snapshot::{ApiKey, Snapshot};
use crate::tenant::{Periods, QuotaKey, TenantPolicy, Unusable};

/// The units of one limit.
#[derive(Debug)]
pub struct Tally {
    policy: TenantPolicy,
    key: ApiKey,
    periods: Option<Periods>,
    units: HashMap<QuotaKey, u64>,
}

/// What is used of one quota record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Key of the record in its bucket.
    pub record_key: String,
    /// The ledger shard of the record.
    pub shard: u8,
    /// Units.
    pub units: u64,
}

impl Tally {
    /// Of `limit` of the tenant of `snapshot`.
    ///
    /// # Errors
    /// [`Unusable`] when the limit does not compile.
    pub fn new(snapshot: &Snapshot, limit: Limit) -> Result<Self, Unusable> {
        let (policy, key) = alone(snapshot, limit)?;
        Ok(Self { policy, key, periods: None, units: HashMap::new() })
    }

    /// The beginning of the period that `now_ms` lies in.
    pub fn period_start_ms(&self, now_ms: i64) -> i64 {
        let window = self.policy.rules().first().map(|rule| rule.limit.window);
        let period = window.and_then(|window| self.policy.periods(now_ms).of(window));
        period.map_or(now_ms, |period| period.start_ms)
    }

    /// The next event, in any order.
    ///
    /// # Errors
    /// [`TooManySubjects`].
    pub fn take(&mut self, stored: Stored<'_>) -> Result<(), TooManySubjects> {
        let window = self.policy.rules().first().map(|rule| rule.limit.window);
        let holds = |periods: &Periods| {
            window.and_then(|w| periods.of(w)).is_some_and(|period| period.contains(stored.received_ms))
        };
        let periods = match self.periods.take().filter(holds) {
            Some(periods) => periods,
            None => self.policy.periods(stored.received_ms),
        };
        let facts =
            Facts { key: &self.key, user: stored.user, received_ms: stored.received_ms, periods: &periods };
        // What the limit could not measure, it would not have admitted.
        let needs = decide(&self.policy, stored.event, &facts).map(|permit| permit.needs).unwrap_or_default();
        for need in needs {
            if self.units.len() >= MAX_SUBJECTS && !self.units.contains_key(&need.key) {
                return Err(TooManySubjects);
            }
            let units = self.units.entry(need.key).or_default();
            *units = units.saturating_add(need.units);
        }
        self.periods = Some(periods);
        Ok(())
    }

    /// Units that the limit was charged: `record_key` as it stands among the charges of stored events. `None` when it is not
    /// a key of this limit.
    pub fn charged(&self, record_key: &str, units: u64) -> Option<Used> {
        let (lineage, rule) = (&self.policy.snapshot().lineage, self.policy.rules().first()?);
        let rest =
            record_key.strip_prefix(lineage)?.strip_prefix('.')?.strip_prefix(rule.limit.epoch.as_str())?;
        let mut parts = rest.strip_prefix('.')?.splitn(3, '.');
        let start_s: i64 = parts.next()?.parse().ok()?;
        // Any 128 bits in base32.
        let subject: event::Incarnation = parts.next()?.parse().ok()?;
        let key =
            QuotaKey { rule: rule.id, subject: subject.0, period_start_ms: start_s.checked_mul(1_000)? };
        let is_of_limit = parts.next()? == rule.limit.identity;
        is_of_limit.then(|| Used { record_key: record_key.to_owned(), shard: key.shard(), units })
    }

    /// The sums.
    pub fn finish(self) -> Vec<Used> {
        let (policy, units) = (self.policy, self.units);
        let lineage = &policy.snapshot().lineage;
        let limit = policy.rules().first().map(|rule| &rule.limit);
        let used = |(key, units): (QuotaKey, u64)| {
            limit.map(|limit| Used { record_key: key.record_key(lineage, limit), shard: key.shard(), units })
        };
        units.into_iter().filter_map(used).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::limit;
    use crate::limit::{Measure, Mode, Per};
    use crate::snapshot::tests::snapshot;
    use event::UserKey;
    use event::wire::{Form, parse};

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn what_was_used_is_summed_by_record_whatever_the_cap_and_the_mode() {
        let sum = Measure::Sum { field: "tokens".into() };
        let chat = Limit { max: 1, mode: Mode::Warn, ..limit("chat", Per::User, sum, &["chat"]) };
        let snapshot = snapshot(vec![]);
        let mut tally = Tally::new(&snapshot, chat.clone()).unwrap();
        let mut take = |user: u128, feature: &str, data: &str, received_ms| {
            let json = format!(r#"{{"id":"e","type":"{feature}","subject":"u","data":{data}}}"#);
            let event = parse(&json, Form::Plain).unwrap();
            tally.take(Stored { event: &event, user: UserKey(user), received_ms }).unwrap();
        };
        take(1, "chat", r#"{"tokens":5}"#, 1_000);
        take(1, "chat", r#"{"tokens":6}"#, 2_000);
        take(1, "login", r#"{"tokens":9}"#, 2_000);
        take(1, "chat", r#"{"tokens":-9}"#, 2_000);
        take(2, "chat", r#"{"tokens":7}"#, 2_000);
        take(1, "chat", r#"{"tokens":8}"#, 40 * DAY_MS);
        let start_ms = tally.period_start_ms(2_000);
        let mut used = tally.finish();
        used.sort_by_key(|used| used.units);
        assert_eq!(used.iter().map(|used| used.units).collect::<Vec<_>>(), [7, 8, 11]);
        let key = QuotaKey {
            rule: TenantPolicy::new(Snapshot { limits: vec![chat.clone()], ..snapshot.clone() })
                .unwrap()
                .rules()[0]
                .id,
            subject: 1,
            period_start_ms: start_ms,
        };
        let pods = (key.record_key(&snapshot.lineage, &chat), key.shard());
        assert_eq!((used[2].record_key.clone(), used[2].shard), pods, "the record that pods charge");
        let tally = Tally::new(&snapshot, chat.clone()).unwrap();
        for used in &used {
            assert_eq!(
                tally.charged(&used.record_key, used.units).as_ref(),
                Some(used),
                "as it stands in a row"
            );
        }
        assert_eq!(tally.charged(&format!("{}.x", used[0].record_key), 1), None, "another limit's");
    }
}
