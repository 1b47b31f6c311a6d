//! What a limit would have done: stored events, in the order of their receipt, put through the decision of the pods.
//!
//! The counting is the ledger's, seen from outside: an event takes its units if they fit under the cap in its period, and is
//! blocked otherwise; what is blocked takes nothing. How the pods shared the units out does not matter: they admit exactly
//! the cap, in the end.

use std::collections::HashMap;

use event::UserKey;
use event::violation::Effect;
use event::wire::UsageEvent;

use crate::decide::{Facts, decide};
use crate::limit::{Limit, Mode};
use crate::snapshot::{ApiKey, EventWindow, Snapshot};
use crate::tenant::{Periods, TenantPolicy, Unusable};

/// Most subjects (users, with a limit per user) that are counted: each takes some hundred bytes at most.
pub const MAX_SUBJECTS: usize = 1_000_000;

/// More subjects than [`MAX_SUBJECTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_SUBJECTS} users are concerned")]
pub struct TooManySubjects;

/// A stored event.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The event.
    pub event: &'a UsageEvent<'a>,
    /// Pseudonym of its user.
    pub user: UserKey,
    /// When it was received, Unix milliseconds.
    pub received_ms: i64,
}

/// A limit on trial.
#[derive(Debug)]
pub struct Simulation {
    policy: TenantPolicy,
    key: ApiKey,
    /// Blocked attempts before it are not told: its periods are only counted.
    from_ms: i64,
    periods: Option<Periods>,
    counts: HashMap<u128, Count>,
    blocked: HashMap<UserKey, BlockedUser>,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    period_start_ms: i64,
    used: u64,
}

/// What was looked at, from the simulation's beginning on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Events.
    pub events: u64,
    /// Events that the limit counts.
    pub counted: u64,
    /// Events that it would have blocked.
    pub blocked: u64,
    /// Units of the blocked events.
    pub blocked_units: u64,
    /// Events without a number where the limit sums one: they would have been refused as wrong.
    pub unreadable: u64,
    /// Receipt of the first blocked event, Unix milliseconds.
    pub first_blocked_ms: Option<i64>,
}

/// A user who would have been blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedUser {
    /// The user's name; `None` for events without a user.
    pub user: Option<String>,
    /// Pseudonym.
    pub user_key: UserKey,
    /// Blocked events.
    pub events: u64,
    /// Receipt of the first, Unix milliseconds.
    pub first_ms: i64,
    /// Receipt of the last, Unix milliseconds.
    pub last_ms: i64,
}

/// What the limit would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Totals.
    pub seen: Seen,
    /// Users who would have been blocked.
    pub blocked_users: u64,
    /// The worst of them: most blocked events first, then by pseudonym.
    pub worst: Vec<BlockedUser>,
}

impl Simulation {
    /// Puts `limit` on trial, enforced and alone, for the tenant of `snapshot`. Events from `from_ms` (Unix milliseconds)
    /// on are told about; earlier ones are counted only.
    ///
    /// # Errors
    /// [`Unusable`] when the limit does not compile.
    pub fn new(snapshot: &Snapshot, limit: Limit, from_ms: i64) -> Result<Self, Unusable> {
        let (policy, key) = alone(snapshot, limit)?;
        Ok(Self {
            policy,
            key,
            from_ms,
            periods: None,
            counts: HashMap::new(),
            blocked: HashMap::new(),
            seen: Seen::default(),
        })
    }

    /// The first moment whose events matter: the beginning of the period that `from_ms` lies in.
    pub fn counts_from_ms(&self) -> i64 {
        let window = self.policy.rules().first().map(|rule| rule.limit.window);
        let period = window.and_then(|window| self.policy.periods(self.from_ms).of(window));
        period.map_or(self.from_ms, |period| period.start_ms)
    }

    /// The next event, in the order of receipt.
    ///
    /// # Errors
    /// [`TooManySubjects`].
    pub fn take(&mut self, stored: Stored<'_>) -> Result<(), TooManySubjects> {
        let told = stored.received_ms >= self.from_ms;
        self.seen.events += u64::from(told);
        let policy = &self.policy;
        let window = policy.rules().first().map(|rule| rule.limit.window);
        let holds = |periods: &Periods| {
            window.and_then(|w| periods.of(w)).is_some_and(|period| period.contains(stored.received_ms))
        };
        if !self.periods.as_ref().is_some_and(holds) {
            self.periods = Some(policy.periods(stored.received_ms));
        }
        let Some(periods) = &self.periods else { return Ok(()) };
        let facts = Facts { key: &self.key, user: stored.user, received_ms: stored.received_ms, periods };
        let Ok(permit) = decide(policy, stored.event, &facts) else {
            self.seen.unreadable += u64::from(told);
            return Ok(());
        };
        // The limit is alone, so there is one need or none.
        for need in permit.needs {
            let max = policy.rules()[need.rule].limit.max;
            if self.counts.len() >= MAX_SUBJECTS && !self.counts.contains_key(&need.key.subject) {
                return Err(TooManySubjects);
            }
            let count = self.counts.entry(need.key.subject).or_default();
            if count.period_start_ms != need.key.period_start_ms {
                *count = Count { period_start_ms: need.key.period_start_ms, used: 0 };
            }
            self.seen.counted += u64::from(told);
            let fits = count.used.checked_add(need.units).is_some_and(|used| used <= max);
            if fits {
                count.used += need.units;
            } else if told && need.effect == Effect::Refused {
                self.seen.blocked += 1;
                self.seen.blocked_units = self.seen.blocked_units.saturating_add(need.units);
                self.seen.first_blocked_ms.get_or_insert(stored.received_ms);
                note(&mut self.blocked, &stored);
            }
        }
        Ok(())
    }

    /// What the limit would have done, with at most `worst` users.
    pub fn finish(self, worst: usize) -> Outcome {
        let mut users: Vec<BlockedUser> = self.blocked.into_values().collect();
        let blocked_users = users.len() as u64;
        users.sort_unstable_by(|a, b| b.events.cmp(&a.events).then(a.user_key.cmp(&b.user_key)));
        users.truncate(worst);
        Outcome { seen: self.seen, blocked_users, worst: users }
    }
}

/// The policy of the tenant of `snapshot` with `limit` alone, enforced, for events that are stored; and a key that stands for
/// whichever they came with.
pub(crate) fn alone(snapshot: &Snapshot, limit: Limit) -> Result<(TenantPolicy, ApiKey), Unusable> {
    let limits = vec![Limit { mode: Mode::Enforce, ..limit }];
    // What is stored has passed the window of times and the access policies already.
    let event_window = EventWindow { past_ms: u64::MAX, ahead_ms: u64::MAX };
    let alone = Snapshot { limits, event_window, access: Vec::new(), keys: Vec::new(), ..snapshot.clone() };
    let digest = crate::apikey::KeyDigest([0; 32]);
    let key = ApiKey { id: String::new(), digest, scopes: Vec::new(), not_after_ms: None };
    Ok((TenantPolicy::new(alone)?, key))
}

fn note(blocked: &mut HashMap<UserKey, BlockedUser>, stored: &Stored<'_>) {
    let user = blocked.entry(stored.user).or_insert_with(|| BlockedUser {
        user: stored.event.user.as_deref().map(str::to_owned),
        user_key: stored.user,
        events: 0,
        first_ms: stored.received_ms,
        last_ms: stored.received_ms,
    });
    user.events += 1;
    user.last_ms = stored.received_ms;
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
