//! Whose events flow: tenants with lanes of their own, and tenants that share a pool's.

use event::Lane;

use crate::prove::Job;
use crate::prove::world::World;
use crate::{Error, Result};

/// First shard of the pool.
const FIRST_SHARD: u16 = 0;
/// Its shards: three tenants are in two lanes.
const SHARDS: u16 = 2;

/// Name, whether it has a lane of its own, and what it is limited by: nothing is refused, but units are leased, spent and returned.
const TENANTS: [(&str, bool, &str); 5] = [
    // Leases that end with their day.
    ("own", true, "{per: Tenant, quota: {max: 1000M, period: Day}}"),
    // Packs that spend a quota which never starts anew are fenced by slot.
    ("total", true, "{per: Tenant, quota: {max: 1000M, period: Total}}"),
    // A slice a user.
    ("users", false, "{per: User, quota: {max: 100M, period: Hour}}"),
    ("rated", false, "{per: Tenant, rate: {max: 1M, period: Second}}"),
    ("free", false, ""),
];

/// One tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: String,
}

/// Plans, pool and tenants, ready, each known to every pod; lanes have room for `events`.
///
/// # Errors
/// When something is refused or not ready in time.
pub fn create(job: &Job<'_>, world: &World, events: u64) -> Result<Vec<Tenant>> {
    world.apply(job, "conservation", &plans(events))?;
    let tenants = TENANTS.iter().map(|(name, own, limit)| {
        let key = world.tenant(job, name, &yaml(name, *own, limit))?;
        Ok(Tenant { name: (*name).to_owned(), key })
    });
    tenants.collect()
}

/// Every lane of these tenants.
///
/// # Errors
/// Never for the names above.
pub fn lanes() -> Result<Vec<Lane>> {
    let own = TENANTS.iter().filter(|(_, own, _)| *own).map(|(name, ..)| {
        name.parse::<Lane>()
            .map_err(|e| Error::Format { what: format!("lane {name}"), detail: e.to_string() })
    });
    own.chain((0..SHARDS).map(|shard| Ok(Lane::Pooled(FIRST_SHARD + shard)))).collect()
}

fn plans(events: u64) -> String {
    format!(
        r"apiVersion: meterplane.io/v1alpha1
kind: LanePool
metadata: {{name: conservation}}
spec: {{shards: {SHARDS}, firstShard: {FIRST_SHARD}, storage: 1Gi}}
---
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {{name: conservation-pooled}}
spec: {{isolation: Pooled, pool: conservation}}
---
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {{name: conservation-own}}
spec:
  pool: conservation
  limits:
  - {{name: room, per: Tenant, mode: Observe, quota: {{max: {events}, period: Month}}}}
"
    )
}

fn yaml(name: &str, own: bool, limit: &str) -> String {
    let plan = if own { "conservation-own" } else { "conservation-pooled" };
    let mut text = format!(
        r"apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {{name: {name}}}
spec: {{planRef: {{name: {plan}}}, namespaces: [{name}]}}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {{name: app, namespace: {name}}}
spec: {{scopes: [ingest]}}
"
    );
    if !limit.is_empty() {
        text.push_str(&format!(
            r"---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {{name: all, namespace: {name}}}
spec: {limit}
"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_those_of_the_tenants_and_the_pool() {
        let names: Vec<String> = lanes().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["own", "total", "POOL_0", "POOL_1"]);
        let documents = |text: &str| serde_yaml_ng::Deserializer::from_str(text).count();
        assert_eq!(documents(&plans(5)), 3);
        assert_eq!((documents(&yaml("a", true, "{}")), documents(&yaml("a", false, ""))), (4, 3));
    }
}
