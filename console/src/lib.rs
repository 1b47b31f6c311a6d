//! The Console API: what a tenant's people and programs read about its usage.
//!
//! ```text
//! bucket policy -> snapshot_watch -> auth (key -> tenant) -> api -> query -> tenant_<t>.events
//!                                             Vault -> pseudonyms -^
//! ```
//! Stateless: a replica holds nothing but the policies, pseudonym keys and connections that it can have again. It writes
//! nowhere, and a tenant follows from an API key alone.

pub mod admin;
pub mod api;
pub mod auth;
pub mod clock;
pub mod config;
mod ids;
pub mod metrics;
pub mod problem;
pub mod pseudonyms;
pub mod query;
pub mod snapshot_watch;
pub mod start;

use std::sync::Arc;

use crate::ids::RequestIds;
use crate::metrics::Metrics;
use crate::pseudonyms::Pseudonyms;
use crate::snapshot_watch::Store;

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
        metrics: Arc<Metrics>,
    ) -> Result<Self, ids::NoRandomness> {
        Ok(Self { store, clickhouse, pseudonyms: Pseudonyms::new(vault), metrics, ids: RequestIds::new()? })
    }
}

#[cfg(test)]
mod fixtures;
