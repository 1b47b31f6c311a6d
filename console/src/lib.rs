//! The Console API: what a tenant's people and programs read about its usage.
//!
//! ```text
//! bucket policy -> snapshot_watch -> auth (key -> tenant) -> api -> query -> tenant_<t>.events
//!                                             Vault -> pseudonyms -^
//! ```
//! Stateless: a replica holds nothing but the policies, pseudonym keys and connections that it can have again. It writes
//! nothing but a tenant's own resources, under its own field manager, and a tenant follows from an API key alone.

pub mod admin;
pub mod api;
pub mod auth;
pub mod clock;
pub mod config;
mod ids;
pub mod metrics;
pub mod problem;
mod proposed;
pub mod pseudonyms;
pub mod query;
pub mod resources;
pub mod snapshot_watch;
pub mod start;

use std::sync::Arc;

use kube::core::ApiResource;
use tokio::sync::Semaphore;

use crate::auth::Caller;
use crate::ids::RequestIds;
use crate::metrics::Metrics;
use crate::pseudonyms::Pseudonyms;
use crate::resources::Resources;
use crate::snapshot_watch::Store;

/// Simulations at once: each reads days of events.
const SIMULATIONS: usize = 2;

/// What every request may use.
pub struct App {
    /// Policies in force.
    pub store: Arc<Store>,
    /// Stored events.
    pub clickhouse: clickhouse::Client,
    /// Keys that users are looked up by.
    pub pseudonyms: Pseudonyms,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// UsageLimits in the cluster.
    pub usage_limits: Resources,
    /// AccessPolicies in the cluster.
    pub access_policies: Resources,
    /// Simulations that may run at once.
    pub simulations: Semaphore,
    /// Days after its end for which events of a day may arrive.
    late_days: u32,
    /// Names of requests.
    ids: RequestIds,
}

impl App {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        store: Arc<Store>,
        clickhouse: clickhouse::Client,
        vault: vault::Client,
        kube: kube::Client,
        metrics: Arc<Metrics>,
        late_days: u32,
    ) -> Result<Self, ids::NoRandomness> {
        Ok(Self {
            store,
            clickhouse,
            pseudonyms: Pseudonyms::new(vault),
            metrics,
            usage_limits: Resources::new(kube.clone(), ApiResource::erase::<crds::UsageLimit>(&())),
            access_policies: Resources::new(kube, ApiResource::erase::<crds::AccessPolicy>(&())),
            simulations: Semaphore::new(SIMULATIONS),
            late_days,
            ids: RequestIds::new()?,
        })
    }

    /// Days that ended before this moment get no events any more.
    fn sealed_ms(&self, caller: &Caller) -> i64 {
        query::directory::sealed_ms(caller.now_ms, self.late_days)
    }
}

#[cfg(test)]
mod fixtures;
