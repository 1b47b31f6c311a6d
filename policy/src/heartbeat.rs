//! What an ingest pod says of itself in bucket `pods`, a key an incarnation.

use event::{Incarnation, TenantName};
use serde::{Deserialize, Serialize};

/// A heartbeat is written this often.
pub const INTERVAL_MS: u64 = 1_000;
/// A pod whose last acknowledged heartbeat was sent longer ago answers 503: the operator may have stopped waiting for it.
pub const SELF_FENCE_MS: u64 = 3_000;
/// The operator counts a pod until this long after its last heartbeat.
pub const DROPPED_AFTER_MS: u64 = 6_000;
/// A pod that was silent for longer, by the server's clock, ends itself: the fence that keeps a dead pod's packs out is kept
/// for no longer than the packs of its lanes, an hour at the least.
pub const SILENT_MAX_MS: u64 = 30 * 60_000;
/// A pod is taken for dead this long after its last heartbeat.
pub const DEAD_AFTER_MS: u64 = 30_000;

/// A pod's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which run of which pod.
    pub incarnation: Incarnation,
    /// Name of the pod, for people.
    pub pod: String,
    /// Highest revision of bucket `policy` up to which every entry delivered has been processed.
    pub applied_revision: u64,
    /// Highest revision of bucket `policy` such that nothing decided by an older one is still under way: neither a request,
    /// nor a pack on its way into a lane. What is charged, and to which ledger, is what this revision says, or a newer one.
    #[serde(default)]
    pub drained_revision: u64,
    /// Entries that were processed but not taken over.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// Tenants whose lowered caps are in force while units of the higher ones are still on their way back.
    #[serde(default)]
    pub recalling: Vec<Recalling>,
    /// Highest pack version it can write.
    pub pack_version: u8,
    /// Counts up, so that a frozen pod can be told from a quiet one.
    pub beat: u64,
}

/// A snapshot that a pod did not take over; the older one stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Whose snapshot.
    pub tenant: TenantName,
    /// Its revision in the bucket.
    pub revision: u64,
    /// Why.
    pub reason: String,
}

/// Units of a higher cap than the one in force are still on their way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalling {
    /// Whose.
    pub tenant: TenantName,
    /// Revision of the snapshot that lowered the cap.
    pub revision: u64,
}
