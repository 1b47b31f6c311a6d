//! Many tenants: the customers of the capacity model, the largest in lanes of their own, the others in pools.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::world::World;
use crate::simulate::model::{self, Customer};
use crate::{Error, Result};

/// Customers of the model, of whom a crowd takes the largest and the smallest.
const CUSTOMERS: usize = 1_000;
/// Shards of the pool.
pub(super) const SHARDS: usize = 8;
/// How long tenants may take to be ready, besides [`READY_WITHIN_EACH`].
const READY_WITHIN: Duration = Duration::from_secs(120);
/// What each tenant adds to that.
const READY_WITHIN_EACH: Duration = Duration::from_millis(500);
/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_secs(3);
const VERSION: &str = "meterplane.io/v1alpha1";

/// A tenant of the crowd.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Its name and that of its namespace.
    pub name: String,
    pub users: u32,
    /// Whether it has a lane of its own.
    pub dedicated: bool,
    pub key: String,
}

impl Member {
    /// The database that holds its view.
    pub fn database(&self) -> String {
        format!("tenant_{}", self.name.replace('-', "_"))
    }
}

/// Creates tenants and waits until all of them and their keys are ready. The dedicated ones come first.
pub(super) fn create(world: &World<'_>, dedicated: usize, pooled: usize) -> Result<Vec<Member>> {
    let all = dedicated + pooled;
    let task = world
        .bench
        .progress
        .task("tenants", &format!("{dedicated} with a lane of their own, {pooled} pooled"));
    task.measured(all as u64);
    let mut members = members(dedicated, pooled);
    let items: Vec<Value> = plans().into_iter().chain(members.iter().flat_map(objects)).collect();
    let file = world.bench.paths.dev.join("bench/crowd.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).map_err(Error::io(format!("cannot write {}", file.display())))?;
    let kubectl = world.platform.kubectl();
    kubectl.apply(&[file])?;
    let within = READY_WITHIN + READY_WITHIN_EACH * u32::try_from(all).unwrap_or(u32::MAX);
    let mut ready = 0;
    let kinds = "tenants.meterplane.io,apikeys.meterplane.io";
    let complete = world.bench.cancel.until(within, ASK_EVERY, || {
        let present = kubectl.json(&["get", kinds, "--all-namespaces"])?;
        ready = present["items"].as_array().into_iter().flatten().filter(|item| is_ready(item)).count();
        task.position(ready as u64 / 2);
        task.comment(&format!("{ready} of {} tenants and keys are ready", 2 * all));
        Ok((ready == 2 * all).then_some(()))
    })?;
    if complete.is_none() {
        let detail = format!("{ready} of {} were ready within {} s", 2 * all, within.as_secs());
        return Err(Error::Program { program: "creating tenants".into(), detail });
    }
    let secrets = ["get", "secrets", "--all-namespaces", "--field-selector=type=meterplane.io/api-key"];
    let keys = keys(&kubectl.json(&secrets)?);
    for member in &mut members {
        member.key = keys.get(&member.name).cloned().ok_or_else(|| Error::Format {
            what: format!("the key of {}", member.name),
            detail: "no Secret holds it".into(),
        })?;
    }
    task.done(&format!("{all} are ready"));
    Ok(members)
}

/// The file that the load generator chooses tenants, users and features by.
pub(super) fn plan<'a>(members: impl Iterator<Item = &'a Member>) -> Value {
    let tenants: Vec<Value> =
        members.map(|member| json!({"key": member.key, "users": member.users})).collect();
    json!({
        "tenants": tenants, "features": model::features(),
        "featureExponent": model::FEATURE_EXPONENT, "userExponent": model::USER_EXPONENT,
    })
}

fn members(dedicated: usize, pooled: usize) -> Vec<Member> {
    let mut customers = model::customers(CUSTOMERS.max(dedicated + pooled), 1.0);
    customers.sort_by_key(|customer| std::cmp::Reverse(customer.users));
    let smallest = customers.split_off(customers.len() - pooled);
    let member = |Customer { name, users }, dedicated| Member { name, users, dedicated, key: String::new() };
    let largest = customers.into_iter().take(dedicated).map(|customer| member(customer, true));
    largest.chain(smallest.into_iter().map(|customer| member(customer, false))).collect()
}

/// The pool and the plan: three quotas and a rate, each too large to refuse anything.
fn plans() -> Vec<Value> {
    let quota = |max: u64, period: &str| json!({"max": max, "period": period});
    let limits = json!([
        {"name": "events", "per": "Tenant", "quota": quota(100_000_000, "Month")},
        {"name": "reports-per-user", "per": "User", "match": {"features": ["report.*"]}, "quota": quota(1_000_000, "Day")},
        {"name": "tokens", "per": "Tenant", "measure": {"type": "Sum", "field": "tokens"}, "quota": quota(1_000_000_000_000, "Month")},
        {"name": "burst", "per": "Tenant", "rate": {"max": 1_000_000, "period": "Second"}},
    ]);
    vec![
        json!({"apiVersion": VERSION, "kind": "LanePool", "metadata": {"name": "default"},
            "spec": {"shards": SHARDS, "storage": "2Gi"}}),
        json!({"apiVersion": VERSION, "kind": "Plan", "metadata": {"name": "bench"},
            "spec": {"displayName": "Bench", "limits": limits}}),
    ]
}

fn objects(member: &Member) -> Vec<Value> {
    let name = &member.name;
    let isolation = if member.dedicated { "Dedicated" } else { "Pooled" };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        json!({"apiVersion": VERSION, "kind": "Tenant", "metadata": {"name": name}, "spec": {
            "displayName": name, "planRef": {"name": "bench"}, "isolation": isolation, "namespaces": [name]}}),
        json!({"apiVersion": VERSION, "kind": "ApiKey", "metadata": {"name": "app", "namespace": name},
            "spec": {"scopes": ["ingest", "read"]}}),
    ]
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.is_some_and(|ready| ready["status"] == "True")
}

/// Keys by namespace.
fn keys(secrets: &Value) -> BTreeMap<String, String> {
    let key = |secret: &Value| {
        let bytes = STANDARD.decode(secret["data"]["MP_API_KEY"].as_str()?).ok()?;
        Some((secret["metadata"]["namespace"].as_str()?.to_owned(), String::from_utf8(bytes).ok()?))
    };
    secrets["items"].as_array().into_iter().flatten().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_customers_have_lanes_of_their_own() {
        let all = members(200, 800);
        assert_eq!(all.iter().filter(|member| member.dedicated).count(), 200);
        assert!(all[..200].iter().all(|member| member.dedicated && member.users == 10_000));
        assert!(all[200..].iter().all(|member| !member.dedicated && member.users <= 2_000));
        assert_eq!(all.iter().map(|member| u64::from(member.users)).sum::<u64>(), 2_850_000);
        let some = members(40, 800);
        assert_eq!((some.len(), some.iter().filter(|member| member.users == 10_000).count()), (840, 40));
    }

    #[test]
    fn ready_is_what_the_condition_says() {
        let object = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_ready(&object("True")) && !is_ready(&object("Unknown")) && !is_ready(&json!({})));
    }

    #[test]
    fn a_key_is_found_by_its_namespace() {
        let secret = |namespace: &str, key: &str| json!({"metadata": {"namespace": namespace}, "data": {"MP_API_KEY": STANDARD.encode(key)}});
        let found = keys(&json!({"items": [secret("a", "k1"), secret("b", "k2")]}));
        assert_eq!(found.get("b").map(String::as_str), Some("k2"));
    }
}
