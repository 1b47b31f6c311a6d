use super::*;
use event::TenantNumber;
use policy::limit::{CountFrom, Limit, Origin};
use policy::window::Window;
use serde_json::json;

const LINEAGE: &str = "6b2e1a4c-0000-4000-8000-000000000001";

/// A snapshot of Acme with limits of these identities and maxima.
pub(crate) fn snapshot_of(limits: &[(&str, u64)]) -> Snapshot {
    Snapshot {
        tenant: "acme".parse().unwrap(),
        display_name: "Acme".into(),
        lineage: LINEAGE.into(),
        number: TenantNumber(1),
        generation: 5,
        epoch: 1,
        state: TenantState::Active,
        lane: Lane::Dedicated("acme".parse().unwrap()),
        retention_days: 90,
        time_zone: "UTC".into(),
        event_window: EventWindow::default(),
        keys: vec![],
        limits: limits.iter().map(|(identity, max)| limit(identity, *max)).collect(),
        access: vec![],
        namespaces: vec!["acme".into()],
        inputs: BTreeMap::new(),
    }
}

fn rule(identity: &str, max: u64) -> RuleInput {
    let kind = if identity.starts_with("plan.") { PLAN } else { super::super::rules::USAGE_LIMIT };
    RuleInput {
        identity: identity.into(),
        name: identity.rsplit('.').next().unwrap().into(),
        per: policy::limit::Per::Tenant,
        max,
        window: Window::Day,
        burst: 0,
        measure: policy::limit::Measure::Count,
        matches: policy::limit::Match::default(),
        mode: policy::limit::Mode::Enforce,
        rollout_percent: 100,
        failure_mode: policy::limit::FailureMode::Closed,
        warn_at: vec![],
        count_from: CountFrom::Period,
        origin: Origin { kind: kind.into(), ..Origin::default() },
    }
}

fn limit(identity: &str, max: u64) -> Limit {
    let rule = rule(identity, max);
    Limit {
        identity: rule.identity,
        name: rule.name,
        per: rule.per,
        max,
        window: rule.window,
        burst: 0,
        measure: rule.measure,
        matches: rule.matches,
        mode: rule.mode,
        rollout_percent: 100,
        failure_mode: rule.failure_mode,
        warn_at: vec![],
        epoch: "e".into(),
        cap_generation: 5,
        origin: rule.origin,
        overridden: None,
        seeding: false,
        count_from: CountFrom::Creation,
    }
}

fn terms() -> Terms {
    Terms {
        display_name: "Acme Corp".into(),
        time_zone: "Europe/Zurich".into(),
        event_window: EventWindow::default(),
        overrides: vec![],
    }
}

fn refused() -> Why {
    Why::new("NotSupported", "x")
}

fn judged(identity: &str, verdict: Result<Option<RuleInput>, Why>) -> Judged {
    Judged { key: ObjectKey::namespaced("acme", identity), identity: identity.into(), verdict }
}

fn material<'a>(
    tenant: &'a TenantName,
    entitlement: Entitlement,
    previous: Option<&'a Snapshot>,
) -> Material<'a> {
    Material {
        tenant,
        epoch: 1,
        place: Place { lineage: LINEAGE.into(), lane: Lane::Dedicated(tenant.clone()), retention_days: 90 },
        state: TenantState::Active,
        entitlement,
        limits: vec![],
        unreadable_limits: vec![],
        access: vec![],
        unreadable_access: vec![],
        keys: vec![],
        namespaces: vec!["acme".into()],
        versions: BTreeMap::new(),
        has_history: false,
        seeded: BTreeSet::new(),
        previous,
        now_ms: 1_000,
    }
}

fn summary(snapshot: &Snapshot) -> Vec<(&str, u64)> {
    snapshot.limits.iter().map(|limit| (limit.identity.as_str(), limit.max)).collect()
}

#[test]
fn a_refused_rule_keeps_its_last_accepted_form_in_its_place() {
    let tenant: TenantName = "acme".parse().unwrap();
    let previous = snapshot_of(&[("plan.a", 1), ("plan.b", 2), ("ns.acme.x", 3), ("ns.acme.gone", 9)]);
    let rules = vec![
        ("plan.a".to_owned(), Err(refused())),
        ("plan.b".to_owned(), Ok(rule("plan.b", 20))),
        ("plan.new".to_owned(), Err(refused())),
    ];
    let mut material = material(&tenant, Entitlement::Declared { terms: terms(), rules }, Some(&previous));
    material.limits =
        vec![judged("ns.acme.x", Err(refused())), judged("ns.acme.y", Ok(Some(rule("ns.acme.y", 7))))];
    let assembled = assemble(material).unwrap();
    assert_eq!(
        summary(&assembled.snapshot),
        [("plan.a", 1), ("plan.b", 20), ("ns.acme.x", 3), ("ns.acme.y", 7)],
        "what was refused stays as it was, what is gone is gone"
    );
    assert_eq!(assembled.snapshot.time_zone, "Europe/Zurich");
}

#[test]
fn a_tenant_that_is_not_accepted_keeps_its_terms_and_plan_but_not_its_freedom() {
    let tenant: TenantName = "acme".parse().unwrap();
    let previous = snapshot_of(&[("plan.a", 1), ("ns.acme.x", 3)]);
    let mut material = material(&tenant, Entitlement::Kept, Some(&previous));
    material.state = TenantState::Suspended;
    let snapshot = assemble(material).unwrap().snapshot;
    assert_eq!((summary(&snapshot), snapshot.time_zone.as_str()), (vec![("plan.a", 1)], "UTC"));
    assert_eq!(snapshot.state, TenantState::Suspended, "a suspension is never delayed");
    let nothing = Material { previous: None, ..self::material(&tenant, Entitlement::Kept, None) };
    assert_eq!(assemble(nothing), Err(Unassembled::NothingAccepted));
}

#[test]
fn unreadable_objects_keep_what_they_said() {
    let tenant: TenantName = "acme".parse().unwrap();
    let previous = snapshot_of(&[("ns.acme.x", 3)]);
    let mut material =
        material(&tenant, Entitlement::Declared { terms: terms(), rules: vec![] }, Some(&previous));
    material.unreadable_limits = vec!["ns.acme.x".into()];
    assert_eq!(summary(&assemble(material).unwrap().snapshot), [("ns.acme.x", 3)]);
}

#[test]
fn generations_rise_with_the_clock_and_with_every_write() {
    assert_eq!(next_generation(None, 1_000), 1_000);
    let mut previous = snapshot_of(&[]);
    assert_eq!(next_generation(Some(&previous), 1_000), 1_000);
    previous.generation = 2_000;
    assert_eq!(next_generation(Some(&previous), 1_000), 2_001);
}

fn api_key(spec: serde_json::Value) -> Arc<ApiKey> {
    let object = json!({
        "apiVersion": "meterplane.io/v1alpha1", "kind": "ApiKey",
        "metadata": {"name": "checkout", "namespace": "acme", "uid": "u1"}, "spec": spec,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn digests(declared: serde_json::Value, records: &KeyRecords, previous: Option<&Snapshot>) -> Vec<KeyDigest> {
    keys(&[api_key(declared)], &[], |_| true, records, previous, 1_000).iter().map(|key| key.digest).collect()
}

#[test]
fn a_key_that_was_not_looked_at_yet_keeps_what_it_had() {
    let mut previous = snapshot_of(&[]);
    let old = KeyDigest::of("old");
    previous.keys = vec![snapshot::ApiKey {
        id: "ns.acme.checkout".into(),
        digest: old,
        scopes: vec![Scope::Ingest],
        not_after_ms: None,
    }];
    let records = KeyRecords::default();
    assert_eq!(digests(json!({"scopes": ["ingest"]}), &records, Some(&previous)), [old]);
    let entries = vec![KeyEntry { digest: KeyDigest::of("new"), not_after_ms: None }];
    assert!(records.note(&ObjectKey::namespaced("acme", "checkout"), "u1", entries.clone()));
    assert!(!records.note(&ObjectKey::namespaced("acme", "checkout"), "u1", entries));
    assert_eq!(digests(json!({"scopes": ["ingest"]}), &records, Some(&previous)), [KeyDigest::of("new")]);
}

#[test]
fn suspended_expired_and_outlived_keys_are_not_served() {
    let records = KeyRecords::default();
    let entry = |key, not_after_ms| KeyEntry { digest: KeyDigest::of(key), not_after_ms };
    records.note(
        &ObjectKey::namespaced("acme", "checkout"),
        "u1",
        vec![entry("new", None), entry("replaced", Some(1_500)), entry("outlived", Some(500))],
    );
    let served = |declared| digests(declared, &records, None).len();
    assert_eq!(served(json!({"scopes": ["ingest"]})), 2);
    assert_eq!(served(json!({"scopes": ["ingest"], "suspend": true})), 0);
    assert_eq!(served(json!({"scopes": ["ingest"], "expires": "1970-01-01T00:00:01Z"})), 0);
    assert_eq!(served(json!({"scopes": ["ingest"], "expires": "1970-01-01T00:00:02Z"})), 2);
}

#[test]
fn a_brought_key_is_its_digest() {
    let digest = KeyDigest::of("mine");
    let declared = json!({"scopes": ["read", "ingest"], "source": "Digest", "sha256": digest.to_string()});
    assert_eq!(digests(declared.clone(), &KeyRecords::default(), None), [digest]);
    let refused = keys(&[api_key(declared)], &[], |_| false, &KeyRecords::default(), None, 1_000);
    assert!(refused.is_empty(), "beyond the ceiling it is not taken over");
}
