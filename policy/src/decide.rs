//! One event, one decision: an ordered list of named checks that ends in a permit or a typed denial.
//!
//! A permit names the units that limits must grant; whoever holds the quotas grants them or refuses.

use std::fmt;

use event::UserKey;
use event::violation::Effect;
use event::wire::{Invalid, UsageEvent};

use crate::access::{self, AccessDenial};
use crate::apikey::Scope;
use crate::limit::Measure;
use crate::matching::{Fit, Subject};
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

/// The checks by name, in the order in which they answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The key is not past its end.
    KeyInTime,
    /// The key has the scope.
    ScopeGranted,
    /// The tenant is not suspended.
    TenantActive,
    /// The event's time lies in the tenant's window.
    TimeInWindow,
    /// No access policy forbids it, and one allows it if there are any that allow.
    AccessGranted,
    /// What a limit sums can be read, and the units that every limit must grant are known.
    LimitsMeasured,
}

impl Check {
    /// Its name, for answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyInTime => "key_in_time",
            Self::ScopeGranted => "scope_granted",
            Self::TenantActive => "tenant_active",
            Self::TimeInWindow => "time_in_window",
            Self::AccessGranted => "access_granted",
            Self::LimitsMeasured => "limits_measured",
        }
    }
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
    /// What becomes of the event when the limit is used up. Only `Refused` can keep it out.
    pub effect: Effect,
}

/// An event passes, if its limits grant what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permit {
    /// An entry for each limit that matches the event and that it counts for.
    pub needs: Vec<Need>,
    /// Access policies on trial that would have refused it.
    pub remarks: Vec<(AccessDenial, Effect)>,
}

/// An event does not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", check.name())]
pub struct Denial {
    /// The check that refused it.
    pub check: Check,
    /// Identity of the rule, if one is concerned.
    pub rule: Option<String>,
    /// Why.
    pub cause: Cause,
}

/// Why an event does not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The event itself is wrong for this tenant.
    #[error(transparent)]
    Invalid(Invalid),
    /// An access policy does not admit it.
    #[error("access policy {} does not admit it", .0.policy)]
    Access(AccessDenial),
}

impl Denial {
    /// Path of the event's member that is wrong; empty when it is the event as a whole.
    pub fn field(&self) -> &str {
        match &self.cause {
            Cause::Invalid(invalid) => &invalid.field,
            Cause::Access(_) => "",
        }
    }
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

impl Refusal {
    /// The check that refuses so.
    pub const fn check(self) -> Check {
        match self {
            Self::KeyExpired => Check::KeyInTime,
            Self::ScopeMissing => Check::ScopeGranted,
            Self::TenantSuspended => Check::TenantActive,
        }
    }
}

type RequestCheck = fn(&TenantPolicy, &ApiKey, Scope, i64) -> Option<Refusal>;

/// The checks of a request, in the order in which they answer.
pub const REQUEST_CHECKS: [(Check, RequestCheck); 3] = [
    (Check::KeyInTime, |_, key, _, now_ms| {
        key.not_after_ms.is_some_and(|end| now_ms > end).then_some(Refusal::KeyExpired)
    }),
    (Check::ScopeGranted, |_, key, scope, _| (!key.scopes.contains(&scope)).then_some(Refusal::ScopeMissing)),
    (Check::TenantActive, |policy, _, _, _| {
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

/// What the checks of an event look at.
struct Case<'a> {
    policy: &'a TenantPolicy,
    event: &'a UsageEvent<'a>,
    facts: &'a Facts<'a>,
    subject: Subject<'a>,
}

/// Adds what it demands to the permit, or refuses: the rule concerned and why.
type EventCheck = fn(&Case<'_>, &mut Permit) -> Result<(), (Option<String>, Cause)>;

/// The checks of an event, in the order in which they answer.
const EVENT_CHECKS: [(Check, EventCheck); 3] = [
    (Check::TimeInWindow, time_in_window),
    (Check::AccessGranted, access_granted),
    (Check::LimitsMeasured, limits_measured),
];

/// What an event needs to be admitted.
///
/// # Errors
/// The first check that refuses it.
pub fn decide(policy: &TenantPolicy, event: &UsageEvent<'_>, facts: &Facts<'_>) -> Result<Permit, Denial> {
    let subject = Subject::at(event, policy.zone(), facts.received_ms);
    let case = Case { policy, event, facts, subject };
    let mut permit = Permit::default();
    for (check, passes) in EVENT_CHECKS {
        passes(&case, &mut permit).map_err(|(rule, cause)| Denial { check, rule, cause })?;
    }
    Ok(permit)
}

fn access_granted(case: &Case<'_>, permit: &mut Permit) -> Result<(), (Option<String>, Cause)> {
    let remarks = access::judge(case.policy.access(), &case.subject)
        .map_err(|denial| (Some(denial.identity.clone()), Cause::Access(denial)))?;
    permit.remarks.extend(remarks);
    Ok(())
}

fn limits_measured(case: &Case<'_>, permit: &mut Permit) -> Result<(), (Option<String>, Cause)> {
    let facts = case.facts;
    for (at, rule) in case.policy.rules().iter().enumerate() {
        if rule.matcher.fit(&case.subject) == Fit::No {
            continue;
        }
        let effect = rule.effect_for(facts.user);
        let units = match units(&rule.limit.measure, case.event) {
            Ok(units) => units,
            // What a limit that does not enforce cannot read, it does not count.
            Err(_) if effect != Effect::Refused => continue,
            Err(invalid) => return Err((Some(rule.limit.identity.clone()), Cause::Invalid(invalid))),
        };
        let Some(period) = facts.periods.of(rule.limit.window).filter(|_| units > 0) else { continue };
        let subject = subject(rule.limit.per, facts.user, facts.key);
        let key = QuotaKey { rule: rule.id, subject, period_start_ms: period.start_ms };
        permit.needs.push(Need { rule: at, key, period, units, effect });
    }
    Ok(())
}

fn time_in_window(case: &Case<'_>, _: &mut Permit) -> Result<(), (Option<String>, Cause)> {
    let Some(time_ms) = case.event.time_ms else { return Ok(()) };
    let window = case.policy.snapshot().event_window;
    let wrong =
        |code, detail: fmt::Arguments<'_>| Err((None, Cause::Invalid(Invalid::new(code, "time", detail))));
    let behind = case.facts.received_ms.saturating_sub(time_ms);
    if behind > i64::try_from(window.past_ms).unwrap_or(i64::MAX) {
        let detail = format_args!(
            "lies {} s back, more than the {} s accepted",
            behind / 1_000,
            window.past_ms / 1_000
        );
        return wrong("time_too_old", detail);
    }
    if behind.saturating_neg() > i64::try_from(window.ahead_ms).unwrap_or(i64::MAX) {
        let ahead = behind.saturating_neg() / 1_000;
        let detail =
            format_args!("lies {ahead} s ahead, more than the {} s accepted", window.ahead_ms / 1_000);
        return wrong("time_ahead", detail);
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
pub(crate) mod tests;
