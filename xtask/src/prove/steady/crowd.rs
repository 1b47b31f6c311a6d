//! The tenants of the proof and their limits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::progress::Task;
use crate::prove::Job;
use crate::prove::enforcement::{LIMITS, enforced, name};
use crate::prove::proxy::Proxy;
use crate::{Error, Result};

/// Limits of each tenant at first.
pub const LIMITS_OF_EACH: usize = 5;
/// Limits that come on top later.
pub const LIMITS_MORE: usize = 5;
/// The plan that is edited, and that of the other tenants.
pub const SHARED: &str = "shared";
const OTHER: &str = "other";
/// One tenant in this many has a lane of its own, as in the capacity model.
const DEDICATED_EVERY: usize = 5;
const SHARDS: u32 = 8;
/// Requests at once.
const AT_ONCE: usize = 12;
const GROUP: &str = "/apis/meterplane.io/v1alpha1";

/// Path of a plan.
pub fn plan_path(plan: &str) -> String {
    format!("{GROUP}/plans/{plan}")
}

/// Path of what is said of the pods.
pub fn data_plane() -> String {
    format!("{GROUP}/dataplanes/default")
}

/// A change of the plan that refuses more.
pub fn tighter() -> Value {
    json!({"spec": {"limits": limits(900_000)}})
}

/// What is edited is no limit that a lane's storage is measured by: that would change with it, as it should.
fn limits(max: u64) -> Value {
    json!([
        {"name": "events", "per": "Tenant", "quota": {"max": 1_000_000, "period": "Month"}},
        {"name": "reports", "per": "User", "quota": {"max": max, "period": "Day"}},
    ])
}

/// Whether an object's condition is true.
pub fn is(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|found| found["type"] == kind && found["status"] == "True")
}

fn limit(tenant: usize, name: &str) -> (String, Value) {
    let namespace = crate::prove::enforcement::name(tenant);
    let object = json!({"apiVersion": "meterplane.io/v1alpha1", "kind": "UsageLimit",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"per": "Tenant", "quota": {"max": 1_000_000, "period": "Day"}}});
    (format!("{GROUP}/namespaces/{namespace}/usagelimits"), object)
}

fn tenant(n: usize, shared: usize) -> Vec<(String, Value)> {
    let name = name(n);
    let plan = if n < shared { SHARED } else { OTHER };
    let isolation = if n.is_multiple_of(DEDICATED_EVERY) { "Dedicated" } else { "Pooled" };
    let mut objects = vec![
        (
            "/api/v1/namespaces".to_owned(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        ),
        (
            format!("{GROUP}/tenants"),
            json!({"apiVersion": "meterplane.io/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
                "spec": {"displayName": name, "planRef": {"name": plan}, "isolation": isolation, "namespaces": [name]}}),
        ),
        limit(n, "own"),
    ];
    objects.extend((1..LIMITS_OF_EACH).map(|k| limit(n, &format!("limit{k}"))));
    objects
}

/// Creates pool, plans, and every tenant with its limits.
pub fn create(job: &Job<'_>, proxy: &Proxy, tenants: usize, shared: usize) -> Result<()> {
    let version = "meterplane.io/v1alpha1";
    let pool = json!({"apiVersion": version, "kind": "LanePool", "metadata": {"name": "default"},
        "spec": {"shards": SHARDS, "storage": "64Mi"}});
    proxy.post(&format!("{GROUP}/lanepools"), &pool)?;
    for plan in [SHARED, OTHER] {
        let plan = json!({"apiVersion": version, "kind": "Plan", "metadata": {"name": plan},
            "spec": {"displayName": plan, "limits": limits(1_000_000)}});
        proxy.post(&format!("{GROUP}/plans"), &plan)?;
    }
    each(job, tenants, |n| {
        tenant(n, shared).iter().try_for_each(|(path, object)| proxy.post(path, object).map(drop))
    })
}

/// Creates further limits.
pub fn create_more(job: &Job<'_>, proxy: &Proxy, tenants: usize) -> Result<()> {
    each(job, tenants, |n| {
        (0..LIMITS_MORE).try_for_each(|k| {
            let (path, object) = limit(n, &format!("more{k}"));
            proxy.post(&path, &object).map(drop)
        })
    })
}

/// Does something for each tenant, several at once.
fn each(job: &Job<'_>, tenants: usize, of: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while !job.cancel.is_set() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= tenants {
                        return;
                    }
                    if let Err(error) = of(n) {
                        if let Ok(mut failed) = failed.lock() {
                            failed.get_or_insert(error);
                        }
                        return;
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// Waits until all tenants and limits are ready, and every pod enforces them.
pub fn await_all(job: &Job<'_>, proxy: &Proxy, tenants: usize, limits: usize, task: &Task) -> Result<()> {
    let within = Duration::from_secs(120) + Duration::from_millis(600) * tenants as u32;
    let mut said = String::new();
    let all = job.cancel.until(within, Duration::from_secs(2), || {
        let items = |path: &str| -> Result<Vec<Value>> {
            Ok(proxy.get(path)?["items"].as_array().cloned().unwrap_or_default())
        };
        let there = items(&format!("{GROUP}/tenants"))?;
        let ready = there.iter().filter(|tenant| is(tenant, "Ready") && is(tenant, "Enforced")).count();
        said = format!("{ready} of {tenants} tenants");
        if ready == tenants {
            let there = items(LIMITS)?;
            let ready = there.iter().filter(|limit| is(limit, "Ready") && enforced(limit).is_some()).count();
            said = format!("{said}, {ready} of {limits} limits");
            task.comment(&said);
            return Ok((ready == limits).then_some(()));
        }
        task.comment(&said);
        Ok(None)
    })?;
    all.ok_or_else(|| Error::Program {
        program: "loading tenants".into(),
        detail: format!("{said} were in force within {} s", within.as_secs()),
    })
}
