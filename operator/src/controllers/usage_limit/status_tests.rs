use std::sync::Arc;

use super::super::validate::validate;
use super::*;
use crate::controllers::enforced::Standing;
use crate::fleet::Reach;
use crate::snapshot::assemble::tests::snapshot_of;
use crate::snapshot::publications::Publications;
use crds::condition::{
    ACCEPTED, ConditionStatus, EFFECTIVE, ENFORCED, PROGRAMMED, READY, RECONCILING, STALLED, find,
};
use serde_json::json;
use tokio::time::Instant;

fn limit(spec: serde_json::Value) -> UsageLimit {
    serde_json::from_value(json!({
        "apiVersion": "meterplane.io/v1alpha1", "kind": "UsageLimit",
        "metadata": {"name": "x", "namespace": "acme", "generation": 0}, "spec": spec,
    }))
    .unwrap()
}

fn referred(limit: &UsageLimit, limits: &[(&str, u64)], reach: Reach) -> Referred {
    let publications = Publications::default();
    publications.put(7, snapshot_of(limits));
    Referred {
        tenant: Some("acme".into()),
        siblings: vec![Arc::new(limit.clone())],
        publication: publications.get("acme"),
        standing: Some(Standing { revision: 7, reach, published: Instant::now() }),
        ..Referred::default()
    }
}

fn said(status: &UsageLimitStatus, kind: &str) -> Option<(ConditionStatus, String)> {
    find(&status.conditions, kind).map(|condition| (condition.status, condition.reason.clone()))
}

fn yes(reason: &str) -> Option<(ConditionStatus, String)> {
    Some((ConditionStatus::True, reason.to_owned()))
}

fn no(reason: &str) -> Option<(ConditionStatus, String)> {
    Some((ConditionStatus::False, reason.to_owned()))
}

fn judge(limit: &UsageLimit, referred: &Referred) -> UsageLimitStatus {
    compute(limit, referred, &validate(limit, referred), Timestamp::UNIX_EPOCH).0
}

fn daily() -> serde_json::Value {
    json!({"per": "Tenant", "quota": {"max": 3, "period": "Day"}})
}

#[test]
fn a_rule_is_ready_once_every_pod_enforced_it_and_stays_so() {
    let rule = limit(daily());
    let first = judge(&rule, &referred(&rule, &[("ns.acme.x", 3)], Reach::NoPods));
    assert_eq!((said(&first, READY), first.enforced_revision), (no("NoPods"), None));
    assert_eq!(said(&first, RECONCILING), yes("NoPods"));
    let enforced = judge(&rule, &referred(&rule, &[("ns.acme.x", 3)], Reach::All));
    assert_eq!((said(&enforced, READY), said(&enforced, ENFORCED)), (yes("Ready"), yes("Enforcing")));
    assert_eq!(enforced.enforced_revision, Some(7));
    let later = UsageLimit { status: Some(enforced), ..rule };
    let lagging = Reach::Lagging(vec!["ingest-1".into()]);
    let now = judge(&later, &referred(&later, &[("ns.acme.x", 3)], lagging));
    assert_eq!(said(&now, READY), yes("Ready"), "latched for this generation");
}

#[test]
fn a_rule_that_the_plan_covers_is_accepted_and_without_effect() {
    let rule = limit(daily());
    let status = judge(&rule, &referred(&rule, &[("plan.a", 2), ("ns.acme.x", 3)], Reach::All));
    assert_eq!((said(&status, ACCEPTED), said(&status, EFFECTIVE)), (yes("Accepted"), no("LooserThanPlan")));
    let status = judge(&rule, &referred(&rule, &[("plan.a", 4), ("ns.acme.x", 3)], Reach::All));
    assert_eq!(said(&status, EFFECTIVE), yes("Narrows"));
}

#[test]
fn a_refused_rule_says_whether_its_older_form_stays() {
    let rule = limit(json!({"per": "Tenant", "quota": {"max": 3, "period": "Day"},
        "match": {"expression": "event.data."}}));
    let status = judge(&rule, &referred(&rule, &[("ns.acme.x", 9)], Reach::All));
    assert_eq!(
        (said(&status, ACCEPTED), said(&status, STALLED)),
        (no("InvalidExpression"), yes("InvalidExpression"))
    );
    assert!(find(&status.conditions, PROGRAMMED).unwrap().message.contains("stays in force"));
}

#[test]
fn a_rule_without_a_tenant_waits_and_then_stalls() {
    let rule = limit(daily());
    let first =
        compute(&rule, &Referred::default(), &validate(&rule, &Referred::default()), Timestamp::UNIX_EPOCH);
    assert_eq!(said(&first.0, RECONCILING), yes("WaitingForTenant"));
    let later = UsageLimit { status: Some(first.0), ..rule };
    let now = Timestamp::from_second(130).unwrap();
    let (status, again) = compute(&later, &Referred::default(), &validate(&later, &Referred::default()), now);
    assert_eq!((said(&status, STALLED), again), (yes("WaitingForTenant"), None));
}

#[test]
fn a_suspended_rule_is_out_of_the_snapshot() {
    let mut rule = limit(daily());
    rule.spec.suspend = true;
    assert_eq!(
        said(&judge(&rule, &referred(&rule, &[("ns.acme.x", 3)], Reach::All)), READY),
        no("Compiling")
    );
    let status = judge(&rule, &referred(&rule, &[], Reach::All));
    assert_eq!((said(&status, READY), said(&status, ENFORCED)), (yes("Suspended"), no("Suspended")));
}
