//! Whether every limit of a Plan is accepted.

use crds::Plan;

use crate::conditions::Why;
use crate::snapshot::judge::plan_rules;

/// Validates a Plan by itself.
///
/// # Errors
/// The first thing that is not accepted, and how many more there are.
pub fn validate(plan: &Plan) -> Result<(), Why> {
    let mut refused = plan_rules(plan).into_iter().filter_map(|(_, rule)| rule.err());
    let Some(first) = refused.next() else { return Ok(()) };
    match refused.count() {
        0 => Err(first),
        more => Err(Why::new(first.reason, format!("{} (and {more} more)", first.message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_with_a_wrong_limit_names_it_and_counts_the_rest() {
        let plan: Plan = serde_json::from_value(json!({
            "apiVersion": "meterplane.io/v1alpha1", "kind": "Plan", "metadata": {"name": "pro"},
            "spec": {"limits": [
                {"name": "a", "per": "Tenant", "quota": {"max": 5, "period": "Month"}},
                {"name": "b", "per": "Tenant", "quota": {"max": 5, "period": "Total"}, "match": {"expression": "("}},
                {"name": "c", "per": "Tenant", "quota": {"max": 5, "period": "Day"}, "match": {"expression": ")"}},
            ]},
        }))
        .unwrap();
        let why = validate(&plan).unwrap_err();
        assert_eq!(why.reason, "InvalidExpression");
        assert!(
            why.message.starts_with("spec.limits[1].match.expression")
                && why.message.ends_with("(and 1 more)")
        );
    }
}
