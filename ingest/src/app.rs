//! What every request shares.

use std::sync::Arc;

use event::pseudonym::PseudonymKey;
use jetstream::Client;
use policy::snapshot::Snapshot;

use crate::clock::{Clock, MAX_OFFSET_MS};
use crate::lane::Lanes;
use crate::metrics::Metrics;
use crate::pods::Pod;
use crate::problem::Problem;
use crate::pseudonyms::Pseudonyms;
use crate::quota::Quotas;
use crate::snapshot::Store;
use crate::violations::Violations;

/// The parts of a running pod.
pub struct App {
    /// Connection to NATS.
    pub client: Client,
    /// Time.
    pub clock: Arc<Clock>,
    /// Policy in force.
    pub store: Arc<Store>,
    /// This pod.
    pub pod: Arc<Pod>,
    /// Pseudonym keys.
    pub pseudonyms: Pseudonyms,
    /// Quota slices.
    pub quotas: Arc<Quotas>,
    /// Packers.
    pub lanes: Lanes,
    /// Records of denials.
    pub violations: Violations,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Random bits, for the holders of reservations.
    pub random: fn() -> u128,
}

impl App {
    /// The key that a tenant's users and events are named by.
    ///
    /// # Errors
    /// 503 while Vault does not give it.
    pub async fn pseudonym_key(&self, snapshot: &Snapshot) -> Result<PseudonymKey, Problem> {
        self.pseudonyms.get(&snapshot.tenant, &snapshot.lineage).await.map_err(|error| {
            tracing::warn!(tenant = %snapshot.tenant, error, "no pseudonym key");
            Problem::unavailable("the tenant's pseudonym key is not available yet")
        })
    }

    /// Why requests are answered 503, if they are.
    pub fn not_ready(&self) -> Option<&'static str> {
        if !self.client.is_connected() {
            return Some("NATS is not reachable");
        }
        if !self.store.load().is_complete() {
            return Some("policy is still being loaded");
        }
        if self.clock.offset_ms().abs() > MAX_OFFSET_MS {
            return Some("the clock of this pod is off by more than a second");
        }
        self.pod.is_fenced().then_some("this pod has lost touch with the others")
    }
}
