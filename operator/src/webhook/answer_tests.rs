use super::*;
use crds::{AccessPolicy, UsageLimit};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::controllers::tenant::validate::tests::settings;

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value) -> K {
    serde_json::from_value(json!({"apiVersion": "meterplane.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "acme", "creationTimestamp": "2026-11-22T00:00:00Z"}, "spec": spec}))
    .unwrap()
}

fn plan(max: u32) -> Plan {
    object(
        "Plan",
        "pro",
        json!({"limits": [{"name": "events", "per": "Tenant", "quota": {"max": max, "period": "Month"}}]}),
    )
}

fn limit(name: &str, expression: &str) -> UsageLimit {
    let spec =
        json!({"per": "User", "quota": {"max": 5, "period": "Day"}, "match": {"expression": expression}});
    object("UsageLimit", name, spec)
}

fn tenant(spec: Value) -> Tenant {
    let mut all = json!({"planRef": {"name": "pro"}, "namespaces": ["acme"]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object("Tenant", "acme", all)
}

fn at_acme(plan: Option<Plan>) -> Known {
    Known { tenant: Some(Arc::new(tenant(json!({})))), plan: plan.map(Arc::new), ..Known::default() }
}

fn edit<K>(new: K, old: impl Into<Option<K>>) -> Box<Edit<K>> {
    Box::new(Edit { new, old: old.into() })
}

fn said(proposed: &Proposed, known: &Known) -> Answer {
    answer(proposed, known, &settings())
}

fn warned(proposed: &Proposed, known: &Known) -> Vec<String> {
    let answer = said(proposed, known);
    assert_eq!(answer.refused, None);
    assert!(answer.warnings.iter().all(|text| text.chars().count() <= WARNING_MAX), "{answer:?}");
    answer.warnings
}

#[test]
fn an_edited_plan_says_how_many_tenants_it_concerns_and_what_becomes_stricter() {
    let on_it = |tenants| Known { tenants, ..Known::default() };
    let tighter = Proposed::Plan(edit(plan(10), plan(100)));
    let expected =
        ["512 tenants use plan pro: what changes applies to all of them", "limits[0] events: max 100 -> 10"];
    assert_eq!(warned(&tighter, &on_it(512)), expected);
    assert_eq!(warned(&tighter, &on_it(1))[0], "1 tenant uses plan pro: what changes applies to it");
    assert_eq!(warned(&tighter, &on_it(0)), [""; 0], "it concerns nobody");
    assert_eq!(warned(&Proposed::Plan(edit(plan(10), None)), &on_it(5)), [""; 0], "it is new");
}

#[test]
fn what_is_wrong_in_an_object_is_refused_with_its_field_unless_it_was_wrong_before() {
    let wrong = || limit("a", "event.data.");
    let known = at_acme(Some(plan(1)));
    let answer = said(&Proposed::UsageLimit(edit(wrong(), limit("a", "true"))), &known);
    assert!(answer.refused.as_ref().unwrap().starts_with("spec.match.expression: is not CEL"), "{answer:?}");
    assert_eq!(answer.warnings, [""; 0]);
    assert!(said(&Proposed::UsageLimit(edit(wrong(), None)), &known).refused.is_some());
    let kept = warned(&Proposed::UsageLimit(edit(wrong(), wrong())), &known);
    assert!(kept[0].starts_with("spec.match.expression: is not CEL"), "{kept:?}");
    let mut going = wrong();
    going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    assert_eq!(said(&Proposed::UsageLimit(edit(going, limit("a", "true"))), &known), Answer::default());

    let mut bad = plan(1);
    bad.spec.limits[0].rule.matches = wrong().spec.rule.matches;
    let answer = said(&Proposed::Plan(edit(bad, plan(1))), &Known { tenants: 3, ..Known::default() });
    assert!(answer.refused.unwrap().starts_with("spec.limits[0].match.expression:"));

    let (mut before, mut after) = (plan(1), plan(1));
    before.spec.limits[0].rule.matches = wrong().spec.rule.matches;
    after.spec.limits.push(before.spec.limits[0].clone());
    let moved = said(&Proposed::Plan(edit(after, before)), &Known { tenants: 3, ..Known::default() });
    assert!(moved.refused.is_none() && moved.warnings[0].starts_with("spec.limits[1].match"), "{moved:?}");

    let policy: AccessPolicy = object(
        "AccessPolicy",
        "a",
        json!({"effect": "Deny", "rules": [{"name": "x", "match": {"expression": "event."}}]}),
    );
    let answer = said(&Proposed::AccessPolicy(edit(policy, None)), &known);
    assert!(answer.refused.unwrap().starts_with("spec.rules[0].match.expression:"));

    let nowhere = tenant(json!({"timeZone": "Mars/Olympus"}));
    let answer = said(&Proposed::Tenant(edit(nowhere, None)), &known);
    assert!(answer.refused.unwrap().starts_with("spec.timeZone:"));
}

#[test]
fn what_rests_on_other_objects_is_a_warning() {
    let orphan = warned(&Proposed::Tenant(edit(tenant(json!({})), None)), &Known::default());
    assert_eq!(orphan, [r#"spec.planRef.name: there is no Plan "pro""#]);
    let nobodys = warned(&Proposed::UsageLimit(edit(limit("a", "true"), None)), &Known::default());
    assert_eq!(nobodys, ["namespace acme does not belong to a tenant: this has no effect until it does"]);

    let mut tight = plan(1);
    tight.spec.ceilings = serde_json::from_value(json!({"objects": {"usageLimits": 1}})).unwrap();
    let mut known = at_acme(Some(tight));
    assert_eq!(warned(&Proposed::UsageLimit(edit(limit("b", "true"), None)), &known), [""; 0]);
    known.limits = vec![Arc::new(limit("a", "true"))];
    let beyond = warned(&Proposed::UsageLimit(edit(limit("b", "true"), None)), &known);
    assert!(beyond[0].starts_with("the plan's spec.ceilings.objects.usageLimits is 1"), "{beyond:?}");
}

#[test]
fn warnings_are_few_and_short() {
    let many = bounded((0..9).map(|n| n.to_string().repeat(200)).collect());
    assert_eq!((many.len(), many[5].as_str()), (WARNINGS_MAX, "and 4 more"));
    assert!(many.iter().all(|text| text.chars().count() <= WARNING_MAX));
    assert_eq!(bounded(vec!["is not CEL:\n | event.\t| ^".into()]), ["is not CEL: | event. | ^"]);
}
