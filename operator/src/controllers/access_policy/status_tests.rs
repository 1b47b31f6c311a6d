use std::sync::Arc;

use super::super::validate::validate;
use super::*;
use crate::controllers::enforced::Standing;
use crate::fleet::Reach;
use crate::snapshot::assemble::tests::snapshot_of;
use crate::snapshot::judge;
use crate::snapshot::publications::Publications;
use crds::condition::{ACCEPTED, ENFORCED, PROGRAMMED, READY, find};
use serde_json::json;
use tokio::time::Instant;

fn policy(expression: &str, mode: &str) -> AccessPolicy {
    serde_json::from_value(json!({
        "apiVersion": "meterplane.io/v1alpha1", "kind": "AccessPolicy",
        "metadata": {"name": "x", "namespace": "acme", "generation": 3},
        "spec": {"effect": "Deny", "mode": mode, "rules": [
            {"name": "a", "match": {"features": ["report.*"]}},
            {"name": "b", "match": {"expression": expression}},
        ]},
    }))
    .unwrap()
}

fn referred(policy: &AccessPolicy, in_force: &AccessPolicy) -> Referred {
    let publications = Publications::default();
    let mut snapshot = snapshot_of(&[]);
    let compiled = judge::access(None, &[Arc::new(in_force.clone())]).remove(0).verdict.unwrap();
    snapshot.access = compiled.into_iter().collect();
    publications.put(7, snapshot);
    Referred {
        tenant: Some("acme".into()),
        siblings: vec![Arc::new(policy.clone())],
        publication: publications.get("acme"),
        standing: Some(Standing { revision: 7, reach: Reach::All, published: Instant::now() }),
        ..Referred::default()
    }
}

fn reason(policy: &AccessPolicy, referred: &Referred, kind: &str) -> (String, String) {
    let status = compute(policy, referred, &validate(policy, referred), Timestamp::UNIX_EPOCH).0;
    let condition = find(&status.conditions, kind).unwrap_or_else(|| panic!("{kind}: {status:?}")).clone();
    (condition.reason, condition.message)
}

#[test]
fn an_access_policy_says_by_its_mode_how_it_is_enforced() {
    for (mode, expected) in [("Enforce", "Enforcing"), ("Warn", "Warning"), ("Observe", "Observing")] {
        let policy = policy("time.hour < 8", mode);
        let referred = referred(&policy, &policy);
        assert_eq!(reason(&policy, &referred, ENFORCED).0, expected);
        assert_eq!(reason(&policy, &referred, READY).0, "Ready");
    }
}

#[test]
fn a_wrong_rule_is_named_and_the_last_accepted_form_stays() {
    let (wrong, good) = (policy("now.hour < 8", "Enforce"), policy("time.hour < 8", "Enforce"));
    let referred = referred(&wrong, &good);
    let (accepted, message) = reason(&wrong, &referred, ACCEPTED);
    assert_eq!(accepted, "InvalidExpression");
    assert!(message.starts_with("spec.rules[1].match.expression: refers to \"now\""), "{message}");
    assert!(reason(&wrong, &referred, PROGRAMMED).1.contains("stays in force"));
}

#[test]
fn an_older_generation_in_the_snapshot_is_not_this_one() {
    let old = policy("time.hour < 8", "Enforce");
    let mut new = old.clone();
    new.metadata.generation = Some(4);
    assert_eq!(reason(&new, &referred(&new, &old), READY).0, "Compiling");
}
