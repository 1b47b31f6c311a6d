//! What the cluster holds of every kind that people declare. Kept current whether this process leads or stands by.

use std::sync::Arc;

use crds::{AccessPolicy, ApiKey, LanePool, Plan, Tenant, UsageLimit};
use tokio::task::JoinSet;

use crate::engine::{Cache, watch};

/// One cache a kind; clones share them.
#[derive(Clone, Default)]
pub struct Caches {
    /// Plans.
    pub plans: Arc<Cache<Plan>>,
    /// Tenants.
    pub tenants: Arc<Cache<Tenant>>,
    /// LanePools.
    pub pools: Arc<Cache<LanePool>>,
    /// UsageLimits.
    pub limits: Arc<Cache<UsageLimit>>,
    /// AccessPolicies.
    pub access: Arc<Cache<AccessPolicy>>,
    /// ApiKeys.
    pub keys: Arc<Cache<ApiKey>>,
}

/// What is told of one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its kind.
    pub kind: &'static str,
    /// Whether its first list is complete.
    pub synced: bool,
    /// Objects, readable or not.
    pub objects: usize,
    /// Objects that this build cannot read.
    pub unreadable: usize,
    /// Highest resourceVersion heard of.
    pub version: String,
}

impl Caches {
    /// Follows the cluster for as long as the tasks live.
    pub fn watch(&self, client: &kube::Client) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        macro_rules! watch {
            ($($cache:ident)*) => {$({
                let (cache, client) = (self.$cache.clone(), client.clone());
                tasks.spawn(async move { watch::run(client, &cache).await });
            })*};
        }
        watch!(plans tenants pools limits access keys);
        tasks
    }

    /// Returns once every first list is complete.
    pub async fn wait_synced(&self) {
        tokio::join!(
            self.plans.wait_synced(),
            self.tenants.wait_synced(),
            self.pools.wait_synced(),
            self.limits.wait_synced(),
            self.access.wait_synced(),
            self.keys.wait_synced()
        );
    }

    /// Whether every first list is complete.
    pub fn is_synced(&self) -> bool {
        self.about().iter().all(|about| about.synced)
    }

    /// What is told of each.
    pub fn about(&self) -> [About; 6] {
        macro_rules! about {
            ($($kind:literal $cache:ident)*) => {[$(
                About {
                    kind: $kind,
                    synced: self.$cache.is_synced(),
                    objects: self.$cache.len(),
                    unreadable: self.$cache.unreadable(),
                    version: self.$cache.version(),
                },
            )*]};
        }
        about!("Plan" plans "Tenant" tenants "LanePool" pools "UsageLimit" limits "AccessPolicy" access "ApiKey" keys)
    }
}
