//! What an edit of a Plan takes from the tenants that are on it.

use crds::limit::Mode;
use crds::plan::PlanLimit;
use crds::{IntOrQuantity, PlanSpec};

/// What becomes stricter, in the order of the new limits: a sentence each.
pub fn tightened(old: &PlanSpec, new: &PlanSpec) -> Vec<String> {
    let sentences = new.limits.iter().enumerate().map(|(at, limit)| {
        let place = format!("limits[{at}] {}", limit.name);
        match old.limits.iter().find(|known| known.name == limit.name) {
            None => vec![format!("{place} is new")],
            Some(known) => {
                stricter(known, limit).into_iter().map(|what| format!("{place}: {what}")).collect()
            }
        }
    });
    sentences.flatten().collect()
}

fn stricter(old: &PlanLimit, new: &PlanLimit) -> Vec<String> {
    let (old, new) = (&old.rule, &new.rule);
    let max = |rule: &crds::LimitRule| match (&rule.quota, &rule.rate) {
        (Some(quota), _) => Some(quota.max.clone()),
        (None, Some(rate)) => Some(rate.max.clone()),
        (None, None) => None,
    };
    let burst =
        |rule: &crds::LimitRule| rule.rate.as_ref().and_then(|rate| rate.burst.clone()).unwrap_or(0.into());
    let lower = |what: &str, old: Option<IntOrQuantity>, new: Option<IntOrQuantity>| match (old, new) {
        (Some(old), Some(new)) if new.value() < old.value() => Some(format!("{what} {old} -> {new}")),
        _ => None,
    };
    let mode = is_stricter_mode(old.mode, new.mode).then(|| format!("mode {:?} -> {:?}", old.mode, new.mode));
    let of_all = |rule: &crds::LimitRule| rule.rollout_percent.unwrap_or(100);
    let rollout =
        (of_all(new) > of_all(old)).then(|| format!("rolloutPercent {} -> {}", of_all(old), of_all(new)));
    let matches = (old.matches != new.matches).then(|| "it counts other events".to_owned());
    [
        lower("max", max(old), max(new)),
        lower("burst", Some(burst(old)), Some(burst(new))),
        mode,
        rollout,
        matches,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether a mode refuses or tells what the old one did not.
pub fn is_stricter_mode(old: Mode, new: Mode) -> bool {
    let rank = |mode| match mode {
        Mode::Observe => 0,
        Mode::Warn => 1,
        Mode::Enforce => 2,
    };
    rank(new) > rank(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(limits: Value) -> PlanSpec {
        serde_json::from_value(json!({"limits": limits})).unwrap()
    }

    #[test]
    fn what_becomes_stricter_is_named_by_its_place_and_what_becomes_looser_is_not() {
        let month = |name: &str, max: Value| json!({"name": name, "per": "Tenant", "quota": {"max": max, "period": "Month"}});
        let rate = |max, burst, mode: &str| json!({"name": "r", "per": "User", "mode": mode, "rate": {"max": max, "burst": burst, "period": "Second"}});
        let old = spec(json!([
            month("a", json!("5M")),
            month("b", json!(5)),
            rate(9, 9, "Observe"),
            month("gone", json!(1))
        ]));
        let new = spec(json!([
            month("b", json!(6)),
            month("a", json!("4M")),
            rate(8, 3, "Enforce"),
            month("c", json!(1))
        ]));
        assert_eq!(
            tightened(&old, &new),
            [
                "limits[1] a: max 5M -> 4M",
                "limits[2] r: max 9 -> 8",
                "limits[2] r: burst 9 -> 3",
                "limits[2] r: mode Observe -> Enforce",
                "limits[3] c is new",
            ]
        );
        assert_eq!(tightened(&new, &new), [""; 0]);
    }
}
