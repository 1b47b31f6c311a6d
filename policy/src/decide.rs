//! One event, one decision: an ordered list of checks, then the units that its limits need.

use event::UserKey;
use event::wire::{Invalid, UsageEvent};

use crate::apikey::Scope;
use crate::limit::Measure;
use crate::seen::Seen;
use crate::snapshot::{ApiKey, TenantState};
use crate::tenant::{Periods, QuotaKey, TenantPolicy, subject};
use crate::window::Period;

/// What is known about an event besides what it says.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The key it came with.
    pub key: &'a ApiKey,
    /// Pseudonym of its user.
    pub user: UserKey,
    /// Time of receipt, Unix milliseconds.
    pub received_ms: i64,
    /// The tenant's current periods at the time of receipt.
    pub periods: &'a Periods,
}

/// Units that one limit must grant before the event is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Place of the rule in [`TenantPolicy::rules`].
    pub rule: usize,
    /// The quota record.
    pub key: QuotaKey,
    /// The record's period.
    pub period: Period,
    /// Units.
    pub units: u64,
}

/// Why a request is refused before its events are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is past its end.
    #[error("the API key has expired")]
    KeyExpired,
    /// The key lacks the scope.
    #[error("the API key does not have the scope that this needs")]
    ScopeMissing,
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    TenantSuspended,
}

type RequestCheck = fn(&TenantPolicy, &ApiKey, Scope, i64) -> Option<Refusal>;

/// The checks of a request, in the order in which they answer.
pub const REQUEST_CHECKS: [(&str, RequestCheck); 3] = [
    ("key_in_time", |_, key, _, now_ms| {
        key.not_after_ms.is_some_and(|end| now_ms > end).then_some(Refusal::KeyExpired)
    }),
    ("scope_granted", |_, key, scope, _| (!key.scopes.contains(&scope)).then_some(Refusal::ScopeMissing)),
    ("tenant_active", |policy, _, _, _| {
        (policy.snapshot().state == TenantState::Suspended).then_some(Refusal::TenantSuspended)
    }),
];

/// Whether a key may be used for `scope` now.
///
/// # Errors
/// The first check that refuses.
pub fn authorize(policy: &TenantPolicy, key: &ApiKey, scope: Scope, now_ms: i64) -> Result<(), Refusal> {
    REQUEST_CHECKS.iter().find_map(|(_, check)| check(policy, key, scope, now_ms)).map_or(Ok(()), Err)
}

type EventCheck = fn(&TenantPolicy, &UsageEvent<'_>, &Facts<'_>) -> Result<(), Invalid>;

/// The checks of an event, in the order in which they answer.
pub const EVENT_CHECKS: [(&str, EventCheck); 1] = [("time_in_window", time_in_window)];

/// What an event needs to be admitted: an entry for each enforced limit that matches it and that it counts for.
///
/// # Errors
/// [`Invalid`] when the event itself is wrong for this tenant.
pub fn decide(
    policy: &TenantPolicy,
    event: &UsageEvent<'_>,
    facts: &Facts<'_>,
) -> Result<Vec<Need>, Invalid> {
    for (_, check) in EVENT_CHECKS {
        check(policy, event, facts)?;
    }
    let (mut needs, seen) = (Vec::new(), Seen::new(event));
    for (at, rule) in policy.rules().iter().enumerate() {
        if !rule.matcher.matches_seen(event, &seen) {
            continue;
        }
        let units = units(&rule.limit.measure, event)?;
        let Some(period) = facts.periods.of(rule.limit.window).filter(|_| units > 0) else { continue };
        let subject = subject(rule.limit.per, facts.user, facts.key);
        let key = QuotaKey { rule: rule.id, subject, period_start_ms: period.start_ms };
        needs.push(Need { rule: at, key, period, units });
    }
    Ok(needs)
}

fn time_in_window(policy: &TenantPolicy, event: &UsageEvent<'_>, facts: &Facts<'_>) -> Result<(), Invalid> {
    let Some(time_ms) = event.time_ms else { return Ok(()) };
    let window = policy.snapshot().event_window;
    let behind = facts.received_ms.saturating_sub(time_ms);
    if behind > i64::try_from(window.past_ms).unwrap_or(i64::MAX) {
        let detail = format_args!(
            "lies {} s back, more than the {} s accepted",
            behind / 1_000,
            window.past_ms / 1_000
        );
        return Err(Invalid::new("time_too_old", "time", detail));
    }
    if behind.saturating_neg() > i64::try_from(window.ahead_ms).unwrap_or(i64::MAX) {
        let ahead = behind.saturating_neg() / 1_000;
        let detail =
            format_args!("lies {ahead} s ahead, more than the {} s accepted", window.ahead_ms / 1_000);
        return Err(Invalid::new("time_ahead", "time", detail));
    }
    Ok(())
}

fn units(measure: &Measure, event: &UsageEvent<'_>) -> Result<u64, Invalid> {
    let Measure::Sum { field } = measure else { return Ok(1) };
    let Some(json) = event.attribute(field) else { return Ok(0) };
    let wrong = |detail: &str| Invalid::new("bad_measure", format!("data.{field}"), detail);
    let value = event::decimal::Decimal::parse(json).map_err(|error| wrong(&error.to_string()))?;
    value.as_units().ok_or_else(|| {
        let negative = value.millionths() < 0;
        wrong(if negative { "is negative: a summed measure counts up" } else { "is not a whole number" })
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
