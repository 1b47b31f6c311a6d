//! Policies and keys for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::{Lane, TenantName, TenantNumber};
use policy::apikey::{self, KeyDigest, Scope};
use policy::limit::{CountFrom, FailureMode, Limit, Match, Measure, Mode, Origin, Per};
use policy::snapshot::{ApiKey, EventWindow, Index, Snapshot, TenantState};
use policy::tenant::TenantPolicy;
use policy::window::Window;

use crate::App;
use crate::metrics::Metrics;
use crate::snapshot_watch::{Policies, Store};

/// A key's text; each seed another one.
pub fn key(seed: u8) -> String {
    apikey::generate(&[seed; 32])
}

/// A declared key.
pub fn api_key(seed: u8, scopes: &[Scope], not_after_ms: Option<i64>) -> ApiKey {
    let id = format!("ns.acme.k{seed}");
    ApiKey { id, digest: KeyDigest::of(&key(seed)), scopes: scopes.to_vec(), not_after_ms }
}

/// A tenant's snapshot.
pub fn snapshot(tenant: &str, keys: Vec<ApiKey>) -> Snapshot {
    let tenant: TenantName = tenant.parse().unwrap();
    Snapshot {
        epoch: 0,
        display_name: tenant.to_string(),
        lineage: format!("lineage of {tenant}"),
        number: TenantNumber(1),
        generation: 1,
        state: TenantState::Active,
        lane: Lane::Dedicated(tenant.clone()),
        retention_days: 90,
        time_zone: "UTC".into(),
        event_window: EventWindow::default(),
        keys,
        limits: vec![],
        access: vec![],
        namespaces: vec![],
        inputs: BTreeMap::new(),
        tenant,
    }
}

/// A tenant's policy.
pub fn policy(tenant: &str, keys: Vec<ApiKey>) -> TenantPolicy {
    TenantPolicy::new(snapshot(tenant, keys)).unwrap()
}

/// A monthly limit of the whole tenant.
pub fn limit(matches: Match, measure: Measure) -> Limit {
    Limit {
        identity: "plan.events".into(),
        name: "events".into(),
        per: Per::Tenant,
        max: 10,
        window: Window::Month,
        burst: 0,
        measure,
        matches,
        mode: Mode::Enforce,
        rollout_percent: 100,
        failure_mode: FailureMode::Closed,
        warn_at: vec![],
        epoch: "e".into(),
        cap_generation: 1,
        origin: Origin::default(),
        overridden: None,
        seeding: false,
        count_from: CountFrom::Creation,
    }
}

/// What is loaded once the bucket is complete.
pub fn complete(tenants: Vec<TenantPolicy>) -> Policies {
    let index = Index {
        installation: "dev".into(),
        tenants: tenants.len() as u64,
        ledgers: BTreeMap::new(),
        epoch: 0,
    };
    let mut policies = Policies { index: Some(index), synced: true, ..Policies::default() };
    for tenant in tenants {
        policies.directory.offer(tenant);
    }
    policies
}

/// An application whose stores do not answer.
pub fn app(policies: Policies) -> Arc<App> {
    let store = Arc::new(Store::default());
    store.publish(policies);
    let nowhere = clickhouse::Endpoint::new("http://127.0.0.1:1", "console", "").unwrap();
    let vault = vault::Client::new(vault::Config {
        addr: "http://127.0.0.1:1".into(),
        ca_file: None,
        role: "console".into(),
        jwt_file: "/nonexistent".into(),
        mount: crate::config::VAULT_MOUNT.into(),
    });
    let clickhouse = clickhouse::Client::new(nowhere);
    let cluster = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let kube = kube::Client::try_from(cluster).unwrap();
    Arc::new(App::new(store, clickhouse, vault.unwrap(), kube, Arc::new(Metrics::new()), 8).unwrap())
}
