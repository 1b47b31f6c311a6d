//! A declared limit as the policy crate understands it, or why it is not accepted.

use crds::LimitRule;
use crds::limit as declared;
use policy::compile::{RuleInput, check_rule};
pub use policy::effective::{PLAN, covering};
use policy::limit::{CountFrom, FailureMode, Match, Measure, Mode, Origin, Per};
use policy::window::Window;

use crate::conditions::Why;

/// Where a rule stands and who says so.
#[derive(Debug, Clone)]
pub struct Place {
    /// `plan.<name>` or `ns.<namespace>.<name>`.
    pub identity: String,
    /// The name people know the limit by.
    pub name: String,
    /// The resource.
    pub origin: Origin,
    /// Path of the rule in the resource, with its dot: `spec.` or `spec.limits[0].`.
    pub path: String,
}

/// Reads a declared rule.
///
/// # Errors
/// Why it is not accepted, naming the field.
pub fn rule(place: &Place, declared: &LimitRule) -> Result<RuleInput, Why> {
    let (max, window, burst) = amount(place, declared)?;
    let input = RuleInput {
        identity: place.identity.clone(),
        name: place.name.clone(),
        per: match declared.per {
            declared::Per::Tenant => Per::Tenant,
            declared::Per::User => Per::User,
            declared::Per::ApiKey => Per::ApiKey,
        },
        max,
        window,
        burst,
        measure: measure(place, declared)?,
        matches: matches(declared.matches.as_ref()),
        mode: mode(declared.mode),
        rollout_percent: declared.rollout_percent.unwrap_or(100),
        failure_mode: match declared.failure_mode {
            declared::FailureMode::Closed => FailureMode::Closed,
            declared::FailureMode::LastLease => FailureMode::LastLease,
            declared::FailureMode::Open => FailureMode::Open,
        },
        warn_at: declared.warn_at.clone(),
        count_from: count_from(place, declared)?,
        origin: place.origin.clone(),
    };
    check_rule(&input).map_err(|(field, message)| invalid(&place.path, &field, &message))?;
    Ok(input)
}

/// The refusal of something that this version does not enforce.
pub fn not_supported(field: &str, what: &str) -> Why {
    Why::new("NotSupported", format!("{field}: {what} is not supported by this version"))
}

/// The refusal of a field that is wrong, with its path.
pub fn invalid(path: &str, field: &str, message: &str) -> Why {
    let reason = if field.ends_with("match.expression") { "InvalidExpression" } else { "Invalid" };
    Why::new(reason, format!("{path}{field}: {message}"))
}

/// Whether an expression at `field` costs no more than the plan's ceiling.
///
/// # Errors
/// Both numbers and the field.
pub fn affordable(field: &str, cost: u64, ceiling: Option<u32>) -> Result<(), Why> {
    match ceiling {
        Some(ceiling) if cost > u64::from(ceiling) => {
            let message = format!(
                "{field}: may take {cost} steps, more than the {ceiling} of the plan's spec.ceilings.expressionCost"
            );
            Err(Why::new("CeilingExceeded", message))
        }
        _ => Ok(()),
    }
}

/// A mode as the snapshot has it.
pub fn mode(declared: declared::Mode) -> Mode {
    match declared {
        declared::Mode::Observe => Mode::Observe,
        declared::Mode::Warn => Mode::Warn,
        declared::Mode::Enforce => Mode::Enforce,
    }
}

fn amount(place: &Place, declared: &LimitRule) -> Result<(u64, Window, u64), Why> {
    match (&declared.quota, &declared.rate) {
        (Some(quota), None) => {
            let window = match quota.period {
                declared::QuotaPeriod::Hour => Window::Hour,
                declared::QuotaPeriod::Day => Window::Day,
                declared::QuotaPeriod::Month => Window::Month,
                declared::QuotaPeriod::Total => Window::Total,
            };
            Ok((quota.max.value(), window, 0))
        }
        (None, Some(rate)) => {
            let window = match rate.period {
                declared::RatePeriod::Second => Window::Second,
                declared::RatePeriod::Minute => Window::Minute,
            };
            Ok((rate.max.value(), window, rate.burst.as_ref().map_or(0, crds::IntOrQuantity::value)))
        }
        _ => Err(invalid(&place.path, "quota", "exactly one of quota and rate is required")),
    }
}

fn count_from(place: &Place, declared: &LimitRule) -> Result<CountFrom, Why> {
    let wrong = |message| Err(invalid(&place.path, "countFrom", message));
    match declared.count_from {
        Some(_) if declared.rate.is_some() => wrong("is for quotas: a rate has no past"),
        Some(declared::CountFrom::Period) if declared.per == declared::Per::ApiKey => {
            wrong("Period is not possible per ApiKey: stored events do not carry their key")
        }
        Some(declared::CountFrom::Creation) => Ok(CountFrom::Creation),
        Some(declared::CountFrom::Period) | None => Ok(CountFrom::Period),
    }
}

fn measure(place: &Place, declared: &LimitRule) -> Result<Measure, Why> {
    let Some(measure) = &declared.measure else { return Ok(Measure::Count) };
    match (measure.kind, &measure.field) {
        (declared::MeasureKind::Count, _) => Ok(Measure::Count),
        (declared::MeasureKind::Sum, Some(field)) => Ok(Measure::Sum { field: field.clone() }),
        (declared::MeasureKind::Sum, None) => {
            Err(invalid(&place.path, "measure.field", "is required with type Sum"))
        }
    }
}

/// A match as the snapshot has it.
pub fn matches(declared: Option<&declared::Match>) -> Match {
    let Some(matches) = declared else { return Match::default() };
    Match {
        features: matches.features.clone(),
        users: matches.users.clone(),
        expression: matches.expression.clone(),
    }
}

/// Kind of the origin of a namespace's limits.
pub const USAGE_LIMIT: &str = "UsageLimit";
/// Kind of the origin of a namespace's access policies.
pub const ACCESS_POLICY: &str = "AccessPolicy";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<RuleInput, Why> {
        let declared: LimitRule = serde_yaml_ng::from_str(yaml).unwrap();
        let place = Place {
            identity: "ns.acme.x".into(),
            name: "x".into(),
            origin: Origin::default(),
            path: "spec.".into(),
        };
        rule(&place, &declared)
    }

    #[test]
    fn declared_rules_become_numbers() {
        let sum = read("{per: Tenant, match: {features: [ai.*]}, measure: {type: Sum, field: tokens}, quota: {max: 10M, period: Month}}")
            .unwrap();
        assert_eq!((sum.max, sum.window, sum.burst), (10_000_000, Window::Month, 0));
        assert_eq!(read("{per: User, quota: {max: 5, period: Total}}").unwrap().window, Window::Total);
        assert_eq!(sum.measure, Measure::Sum { field: "tokens".into() });
        let rate = read("{per: User, rate: {max: 500, period: Second, burst: 1k}}").unwrap();
        assert_eq!(
            (rate.max, rate.window, rate.burst, rate.mode),
            (500, Window::Second, 1_000, Mode::Enforce)
        );
    }

    #[test]
    fn modes_and_rollouts_are_read() {
        let trial =
            read("{per: Tenant, quota: {max: 1, period: Day}, mode: Warn, rolloutPercent: 10}").unwrap();
        assert_eq!((trial.mode, trial.rollout_percent), (Mode::Warn, 10));
        assert_eq!(read("{per: Tenant, quota: {max: 1, period: Day}}").unwrap().rollout_percent, 100);
    }

    #[test]
    fn a_quota_counts_its_period_unless_it_cannot() {
        let of = |rule: &str| read(rule).map(|rule| rule.count_from);
        assert_eq!(of("{per: User, quota: {max: 1, period: Day}}"), Ok(CountFrom::Period));
        assert_eq!(
            of("{per: ApiKey, quota: {max: 1, period: Day}, countFrom: Creation}"),
            Ok(CountFrom::Creation)
        );
        for yaml in [
            "{per: ApiKey, quota: {max: 1, period: Day}, countFrom: Period}",
            "{per: Tenant, rate: {max: 1, period: Second}, countFrom: Creation}",
        ] {
            let why = of(yaml).unwrap_err();
            assert_eq!(why.reason, "Invalid", "{yaml}");
            assert!(why.message.starts_with("spec.countFrom:"), "{}", why.message);
        }
    }

    #[test]
    fn expressions_are_refused_with_their_path() {
        let why = read("{per: Tenant, quota: {max: 1, period: Day}, match: {expression: 'event.data.'}}")
            .unwrap_err();
        assert_eq!(why.reason, "InvalidExpression");
        assert!(why.message.starts_with("spec.match.expression: is not CEL"), "{}", why.message);
    }
}
