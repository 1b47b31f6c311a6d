use super::*;
use crate::controllers::ownership::{Found, claim};
use event::Stamp;
use std::time::Duration;

const UID: &str = "6b2e1a4c-0000-4000-8000-000000000001";

pub(crate) fn settings() -> Settings {
    Settings {
        nats_monitors: vec![],
        installation: "dev".into(),
        namespace: "meterplane-system".into(),
        endpoint: "http://127.0.0.1:1".into(),
        clickhouse: clickhouse::Server::new("http://127.0.0.1:1", None).unwrap(),
        query_address: "http://127.0.0.1:1".parse().unwrap(),
        secret_poll: Duration::from_secs(30),
        resync: Duration::from_secs(300),
        deletion_deadline: Duration::from_secs(600),
        replicas: 1,
        lane_age: Duration::from_secs(86_400),
        lane_max_bytes: 1 << 30,
        webhook: None,
    }
}

fn documents(file: &str) -> Vec<serde_json::Value> {
    use serde::Deserialize;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|part| serde_json::Value::deserialize(part).unwrap())
        .collect()
}

fn object<K: serde::de::DeserializeOwned>(file: &str, kind: &str, name: &str) -> K {
    let mut documents = documents(file).into_iter();
    let mut found =
        documents.find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap();
    found["metadata"]["uid"] = UID.into();
    found["metadata"]["generation"] = 1.into();
    serde_json::from_value(found).unwrap()
}

/// Acme of the quickstart, changed.
pub(crate) fn acme(change: impl FnOnce(&mut Tenant)) -> Tenant {
    let mut tenant = object("acme.yaml", "Tenant", "acme");
    change(&mut tenant);
    tenant
}

/// Plan pro of the quickstart, changed.
pub(crate) fn pro(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = object("plans.yaml", "Plan", "pro");
    change(&mut plan);
    plan
}

fn accepted(tenant: &Tenant, plan: &Plan) -> Validated {
    validate(tenant, Some(plan), &settings()).unwrap()
}

fn refused(tenant: &Tenant, plan: &Plan) -> (String, String) {
    match validate(tenant, Some(plan), &settings()).unwrap_err() {
        Refusal::Final(why) => (why.reason, why.message),
        Refusal::Waiting(why) => panic!("{why:?}"),
    }
}

#[test]
fn the_quickstart_is_accepted_whole() {
    let validated = accepted(&acme(|_| {}), &pro(|_| {}));
    assert!(validated.rules.iter().all(|(_, rule)| rule.is_ok()), "{:?}", validated.rules);
    assert_eq!(validated.rules.len(), 3);
    assert_eq!(validated.terms.overrides[0].max, 8_000_000);
    assert_eq!(
        (validated.own_retention.rollups_days, validated.terms.time_zone.as_str()),
        (Some(730), "Europe/Zurich")
    );
    assert!(validated.idle_overrides.is_empty());
    let wayne: Tenant = object("wayne.yaml", "Tenant", "wayne-enterprises");
    let basic: Plan = object("plans.yaml", "Plan", "basic");
    assert_eq!(accepted(&wayne, &basic).lane_bytes, 100_000 * 1_024);
}

#[test]
fn a_missing_plan_is_waited_for() {
    let refusal = validate(&acme(|_| {}), None, &settings()).unwrap_err();
    assert!(matches!(refusal, Refusal::Waiting(why) if why.reason == "WaitingForPlan"));
}

#[test]
fn what_is_not_supported_or_wrong_names_its_field() {
    type Change = fn(&mut Tenant);
    let cases: [(Change, &str, &str); 7] = [
        (|t| t.spec.backfill = Some("30d".parse().unwrap()), "NotSupported", "spec.backfill"),
        (|t| t.spec.time_zone = "Mars/Base".into(), "Invalid", "spec.timeZone"),
        (|t| retain(t, "9d"), "Invalid", "spec.retention.events"),
        (|t| keep_rollups(t, "9d"), "Invalid", "spec.retention.rollups"),
        (|t| keep_rollups(t, "3651d"), "Invalid", "spec.retention.rollups"),
        (|t| retain(t, "36h"), "Invalid", "spec.retention.events"),
        (|t| retain(t, "4000d"), "Invalid", "spec.retention.events"),
    ];
    for (change, reason, field) in cases {
        let (found, message) = refused(&acme(change), &pro(|_| {}));
        assert_eq!(found, reason, "{message}");
        assert!(message.starts_with(field), "{message}");
    }
}

fn retain(tenant: &mut Tenant, events: &str) {
    tenant.spec.retention =
        Some(crds::limit::Retention { events: Some(events.parse().unwrap()), rollups: None });
}

fn keep_rollups(tenant: &mut Tenant, rollups: &str) {
    tenant.spec.retention =
        Some(crds::limit::Retention { events: None, rollups: Some(rollups.parse().unwrap()) });
}

#[test]
fn a_plan_bounds_retention() {
    let plan = pro(|plan| {
        let retention = crds::limit::Retention { events: Some("30d".parse().unwrap()), rollups: None };
        plan.spec.ceilings =
            Some(crds::plan::Ceilings { retention: Some(retention), ..crds::plan::Ceilings::default() });
    });
    assert_eq!(refused(&acme(|_| {}), &plan).0, "CeilingExceeded");
}

#[test]
fn an_override_without_a_limit_is_noticed() {
    let tenant = acme(|tenant| tenant.spec.overrides[0].name = "evnts".into());
    assert_eq!(accepted(&tenant, &pro(|_| {})).idle_overrides, ["evnts"]);
}

fn stamp(uid: &str, lineage: &str, released: bool) -> Found {
    let text = str::to_owned;
    Found::Present(Some(Stamp {
        installation: text("dev"),
        tenant: text("acme"),
        uid: text(uid),
        lineage: text(lineage),
        released,
    }))
}

fn claimed(adoption: tenant::Adoption, found: [Found; 2]) -> Result<(String, bool), String> {
    let validated = accepted(&acme(|tenant| tenant.spec.adoption = adoption), &pro(|_| {}));
    let [stream, key] = found;
    let name = "acme".parse().unwrap();
    claim(&validated.owner("dev", &name), &[("stream USAGE_acme", stream), ("key mp-acme", key)])
        .map(|claim| (claim.stamp.lineage, claim.adopt))
        .map_err(|why| why.reason)
}

#[test]
fn a_new_tenant_begins_its_own_lineage() {
    use tenant::Adoption::Never;
    assert_eq!(claimed(Never, [Found::Absent, Found::Absent]), Ok((UID.into(), false)));
    assert_eq!(claimed(Never, [stamp(UID, "first", false), Found::Absent]), Ok(("first".into(), false)));
}

#[test]
fn retained_data_wait_for_a_decision() {
    use tenant::Adoption::{Force, Never, Released};
    let released = || [stamp("old", "first", true), stamp("old", "first", true)];
    assert_eq!(claimed(Never, released()), Err("RetainedDataExists".into()));
    assert_eq!(claimed(Released, released()), Ok(("first".into(), true)));
    let orphaned = || [stamp("old", "first", false), Found::Absent];
    assert_eq!(claimed(Released, orphaned()), Err("OrphanedDataExists".into()));
    assert_eq!(claimed(Force, orphaned()), Ok(("first".into(), true)));
    let half = [stamp(UID, "first", false), stamp("old", "first", true)];
    assert_eq!(
        claimed(Released, half),
        Ok(("first".into(), true)),
        "an adoption that was interrupted goes on"
    );
}

#[test]
fn what_is_not_ours_is_never_taken() {
    use tenant::Adoption::Force;
    assert_eq!(claimed(Force, [Found::Present(None), Found::Absent]), Err("NotOurs".into()));
    let Found::Present(Some(mut foreign)) = stamp(UID, "first", true) else { panic!() };
    foreign.installation = "prod".into();
    assert_eq!(claimed(Force, [Found::Present(Some(foreign)), Found::Absent]), Err("NotOurs".into()));
    let two = [stamp("old", "first", true), stamp("old", "second", true)];
    assert_eq!(claimed(Force, two), Err("LineageConflict".into()));
}

#[test]
fn the_refusal_tells_the_exact_command() {
    let validated = accepted(&acme(|_| {}), &pro(|_| {}));
    let name = "acme".parse().unwrap();
    let found = [("stream USAGE_acme", stamp("old", "first", true))];
    let why = claim(&validated.owner("dev", &name), &found).unwrap_err();
    let command = r#"kubectl patch tenant acme --type merge -p '{"spec":{"adoption":"Released"}}'"#;
    assert!(why.message.ends_with(command), "{}", why.message);
}
