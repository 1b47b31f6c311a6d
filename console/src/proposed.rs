//! A proposed limit, as people declare it, as the decision understands it.

use crds::LimitRule;
use crds::limit as declared;
use policy::limit::{CountFrom, FailureMode, Limit, Match, Measure, Mode, Origin, Per};
use policy::matching::Matcher;
use policy::window::Window;

use crate::problem::Problem;

/// The limit that `rule` would be.
///
/// # Errors
/// 422 naming what is wrong, and what cannot be told from stored events.
pub fn limit(identity: String, name: String, rule: &LimitRule) -> Result<Limit, Problem> {
    let (max, window) = amount(rule)?;
    let per = match rule.per {
        declared::Per::Tenant => Per::Tenant,
        declared::Per::User => Per::User,
        declared::Per::ApiKey => {
            let detail = "stored events do not carry their API key: such a limit cannot be simulated";
            return Err(Problem::unprocessable("spec.per", detail));
        }
    };
    let limit = Limit {
        identity,
        name,
        per,
        max,
        window,
        burst: 0,
        measure: measure(rule)?,
        matches: matches(rule),
        mode: Mode::Enforce,
        rollout_percent: rule.rollout_percent.unwrap_or(100),
        failure_mode: FailureMode::Closed,
        warn_at: Vec::new(),
        epoch: String::new(),
        cap_generation: 0,
        origin: Origin::default(),
        overridden: None,
        seeding: false,
        count_from: CountFrom::Creation,
    };
    Matcher::compile(&limit.matches)
        .map_err(|error| Problem::unprocessable(format!("spec.match.{}", error.field), error.detail))?;
    Ok(limit)
}

fn amount(rule: &LimitRule) -> Result<(u64, Window), Problem> {
    match (&rule.quota, &rule.rate) {
        (Some(quota), None) => {
            let window = match quota.period {
                declared::QuotaPeriod::Hour => Window::Hour,
                declared::QuotaPeriod::Day => Window::Day,
                declared::QuotaPeriod::Month => Window::Month,
                declared::QuotaPeriod::Total => {
                    let detail = "Total counts from the first event on, and old events are gone: it cannot be simulated";
                    return Err(Problem::unprocessable("spec.quota.period", detail));
                }
            };
            Ok((quota.max.value(), window))
        }
        (None, Some(rate)) => {
            if rate.burst.as_ref().is_some_and(|burst| burst.value() > 0) {
                let detail =
                    "saved bursts are not simulated: leave burst out to see what the bare rate blocks";
                return Err(Problem::unprocessable("spec.rate.burst", detail));
            }
            let window = match rate.period {
                declared::RatePeriod::Second => Window::Second,
                declared::RatePeriod::Minute => Window::Minute,
            };
            Ok((rate.max.value(), window))
        }
        _ => Err(Problem::unprocessable("spec.quota", "exactly one of quota and rate is required")),
    }
}

fn measure(rule: &LimitRule) -> Result<Measure, Problem> {
    let Some(measure) = &rule.measure else { return Ok(Measure::Count) };
    match (measure.kind, &measure.field) {
        (declared::MeasureKind::Count, _) => Ok(Measure::Count),
        (declared::MeasureKind::Sum, Some(field)) => Ok(Measure::Sum { field: field.clone() }),
        (declared::MeasureKind::Sum, None) => {
            Err(Problem::unprocessable("spec.measure.field", "is required with type Sum"))
        }
    }
}

fn matches(rule: &LimitRule) -> Match {
    let Some(matches) = &rule.matches else { return Match::default() };
    Match {
        features: matches.features.clone(),
        users: matches.users.clone(),
        expression: matches.expression.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Result<Limit, Problem> {
        limit("ns.acme.x".into(), "x".into(), &serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn declared_limits_become_numbers() {
        let limit = read(json!({"per": "User", "match": {"features": ["ai.*"]}, "mode": "Observe",
            "measure": {"type": "Sum", "field": "tokens"}, "quota": {"max": "10M", "period": "Month"}}))
        .unwrap();
        assert_eq!(
            (limit.max, limit.window, limit.per, limit.mode),
            (10_000_000, Window::Month, Per::User, Mode::Enforce)
        );
        assert_eq!((limit.measure, limit.rollout_percent), (Measure::Sum { field: "tokens".into() }, 100));
    }

    #[test]
    fn what_history_cannot_tell_is_refused_by_name() {
        let day = json!({"max": 1, "period": "Day"});
        for (spec, field) in [
            (json!({"per": "ApiKey", "quota": day}), "spec.per"),
            (json!({"per": "User", "quota": {"max": 1, "period": "Total"}}), "spec.quota.period"),
            (json!({"per": "User", "rate": {"max": 1, "period": "Second", "burst": 2}}), "spec.rate.burst"),
            (json!({"per": "User"}), "spec.quota"),
            (json!({"per": "User", "quota": day, "measure": {"type": "Sum"}}), "spec.measure.field"),
            (
                json!({"per": "User", "quota": day, "match": {"expression": "event."}}),
                "spec.match.expression",
            ),
        ] {
            let problem = read(spec.clone()).unwrap_err();
            assert_eq!((problem.status(), problem.field()), (422, Some(field)), "{spec}");
        }
    }
}
