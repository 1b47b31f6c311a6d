//! Which of a tenant's declared objects count: each by itself, and all together against the plan's ceilings.

use std::sync::Arc;

use crds::{AccessPolicy, ApiKey, Plan, UsageLimit};
use jiff::Timestamp;
use kube::ResourceExt;
use policy::access::AccessPolicy as AccessRules;
use policy::compile::RuleInput;
use policy::limit::Origin;
use policy::matching::Matcher;

use super::access;
use super::keys::limit_identity;
use super::rules::{self, Place};
use crate::conditions::Why;
use crate::engine::ObjectKey;

/// What became of one declared limit or policy.
#[derive(Debug, Clone)]
pub struct Judged<R = RuleInput> {
    /// The object.
    pub key: ObjectKey,
    /// Its identity in the snapshot.
    pub identity: String,
    /// The rule, `None` while it is suspended; or why it is not accepted.
    pub verdict: Result<Option<R>, Why>,
}

/// The limits of a plan, in their order.
pub fn plan_rules(plan: &Plan) -> Vec<(String, Result<RuleInput, Why>)> {
    let origin = Origin {
        kind: rules::PLAN.to_owned(),
        namespace: String::new(),
        name: plan.name_any(),
        generation: plan.metadata.generation.unwrap_or_default(),
    };
    let judged = plan.spec.limits.iter().enumerate().map(|(at, limit)| {
        let identity = format!("plan.{}", limit.name);
        let place = Place {
            identity: identity.clone(),
            name: limit.name.clone(),
            origin: origin.clone(),
            path: format!("spec.limits[{at}]."),
        };
        (identity, rules::rule(&place, &limit.rule))
    });
    judged.collect()
}

/// The limits of a tenant's namespaces, ordered by namespace and name.
pub fn limits(plan: Option<&Plan>, declared: &[Arc<UsageLimit>]) -> Vec<Judged> {
    let ceiling = objects(plan).and_then(|objects| objects.usage_limits);
    let beyond = beyond(ceiling, declared.iter().map(Arc::as_ref));
    declared.iter().map(|limit| judged(limit, plan, ceiling, &beyond)).collect()
}

fn judged(limit: &UsageLimit, plan: Option<&Plan>, ceiling: Option<u32>, beyond: &[ObjectKey]) -> Judged {
    let key = ObjectKey::of(limit);
    let identity = limit_identity(&key);
    let place = Place {
        identity: identity.clone(),
        name: key.name.clone(),
        origin: Origin {
            kind: rules::USAGE_LIMIT.to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            generation: limit.metadata.generation.unwrap_or_default(),
        },
        path: "spec.".to_owned(),
    };
    let verdict = if beyond.contains(&key) {
        Err(ceiling_exceeded("UsageLimits", "usageLimits", ceiling))
    } else {
        rules::rule(&place, &limit.spec.rule).and_then(|rule| {
            let cost = Matcher::compile(&rule.matches).map_or(0, |matcher| matcher.cost());
            rules::affordable("spec.match.expression", cost, expression_cost(plan))?;
            Ok((!limit.spec.suspend).then_some(rule))
        })
    };
    Judged { key, identity, verdict }
}

/// The access policies of a tenant's namespaces, ordered by namespace and name.
pub fn access(plan: Option<&Plan>, declared: &[Arc<AccessPolicy>]) -> Vec<Judged<AccessRules>> {
    let ceiling = objects(plan).and_then(|objects| objects.access_policies);
    let beyond = beyond(ceiling, declared.iter().map(Arc::as_ref));
    let judged = |object: &Arc<AccessPolicy>| {
        let key = ObjectKey::of(object.as_ref());
        let verdict = if beyond.contains(&key) {
            Err(ceiling_exceeded("AccessPolicies", "accessPolicies", ceiling))
        } else {
            access::policy(object, expression_cost(plan))
                .map(|policy| (!object.spec.suspend).then_some(policy))
        };
        Judged { identity: limit_identity(&key), key, verdict }
    };
    declared.iter().map(judged).collect()
}

fn expression_cost(plan: Option<&Plan>) -> Option<u32> {
    plan?.spec.ceilings.as_ref()?.expression_cost
}

/// Why an ApiKey is not accepted, if so; `all` are those of the tenant's namespaces.
pub fn key(plan: Option<&Plan>, all: &[Arc<ApiKey>], key: &ObjectKey) -> Result<(), Why> {
    let ceiling = objects(plan).and_then(|objects| objects.api_keys);
    let beyond = beyond(ceiling, all.iter().map(Arc::as_ref));
    if beyond.contains(key) { Err(ceiling_exceeded("ApiKeys", "apiKeys", ceiling)) } else { Ok(()) }
}

fn objects(plan: Option<&Plan>) -> Option<&crds::plan::ObjectCeilings> {
    plan?.spec.ceilings.as_ref()?.objects.as_ref()
}

fn ceiling_exceeded(kinds: &str, field: &str, ceiling: Option<u32>) -> Why {
    let ceiling = ceiling.unwrap_or_default();
    let message =
        format!("the plan's spec.ceilings.objects.{field} is {ceiling}, and that many older {kinds} exist");
    Why::new("CeilingExceeded", message)
}

/// The objects beyond a ceiling: the oldest count, and of equally old ones the first by name.
fn beyond<'a, K>(ceiling: Option<u32>, objects: impl Iterator<Item = &'a K>) -> Vec<ObjectKey>
where
    K: kube::Resource + 'a,
{
    let Some(ceiling) = ceiling else { return Vec::new() };
    let mut by_age: Vec<(Timestamp, ObjectKey)> =
        objects.map(|object| (created(object), ObjectKey::of(object))).collect();
    by_age.sort();
    by_age.into_iter().skip(ceiling as usize).map(|(_, key)| key).collect()
}

/// When an object was created; the epoch for one that the apiserver has not stamped.
pub fn created<K: kube::Resource>(object: &K) -> Timestamp {
    object.meta().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limit(name: &str, second: i64, max: &str) -> Arc<UsageLimit> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "meterplane.io/v1alpha1", "kind": "UsageLimit",
                "metadata": {"name": name, "namespace": "acme", "generation": 1,
                    "creationTimestamp": Timestamp::from_second(second).unwrap().to_string()},
                "spec": {"per": "User", "quota": {"max": max, "period": "Day"}},
            }))
            .unwrap(),
        )
    }

    fn plan(usage_limits: u32) -> Plan {
        serde_json::from_value(json!({
            "apiVersion": "meterplane.io/v1alpha1", "kind": "Plan", "metadata": {"name": "pro"},
            "spec": {"ceilings": {"objects": {"usageLimits": usage_limits}}, "limits": [
                {"name": "a", "per": "Tenant", "quota": {"max": 5, "period": "Month"}},
                {"name": "b", "per": "Tenant", "quota": {"max": 5, "period": "Total"}, "match": {"expression": "("}},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_objects_count_against_a_ceiling() {
        let declared = [limit("a", 30, "1"), limit("b", 10, "1"), limit("c", 20, "1"), limit("d", 20, "1")];
        let refused = |ceiling| -> Vec<String> {
            let plan = plan(ceiling);
            let judged = limits(Some(&plan), &declared);
            judged
                .into_iter()
                .filter(|judged| judged.verdict.is_err())
                .map(|judged| judged.key.name)
                .collect()
        };
        assert_eq!(refused(2), ["a", "d"]);
        assert_eq!(refused(4), [""; 0]);
        assert_eq!(limits(None, &declared).iter().filter(|judged| judged.verdict.is_err()).count(), 0);
    }

    #[test]
    fn an_expression_beyond_the_plans_ceiling_names_the_field() {
        let mut costly = limit("a", 1, "1").as_ref().clone();
        let expression = "event.data.tags.exists(t, t == 'x')".to_owned();
        costly.spec.rule.matches =
            Some(crds::limit::Match { expression: Some(expression), ..Default::default() });
        let judge = |cost: u32| {
            let mut plan = plan(9);
            plan.spec.ceilings.as_mut().unwrap().expression_cost = Some(cost);
            limits(Some(&plan), &[Arc::new(costly.clone())]).remove(0).verdict
        };
        assert!(judge(50_000).is_ok());
        let why = judge(100).unwrap_err();
        assert_eq!(why.reason, "CeilingExceeded");
        assert!(why.message.starts_with("spec.match.expression: may take "), "{}", why.message);
        assert!(why.message.ends_with("100 of the plan's spec.ceilings.expressionCost"), "{}", why.message);
    }

    #[test]
    fn a_wrong_rule_of_a_plan_names_its_place() {
        let rules = plan_rules(&plan(1));
        assert!(rules[0].1.is_ok());
        assert!(rules[1].1.as_ref().unwrap_err().message.starts_with("spec.limits[1].match.expression:"));
    }
}
