//! Conditions: what the operator says about an object.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One statement about an object, as every Kubernetes tool reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is stated, for example Ready or Enforced.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Generation of the spec that the statement is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_transition_time: Timestamp,
    /// Why, in one CamelCase word that programs may rely on.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// The operator cannot tell (yet).
    Unknown,
}

/// Summary: accepted, programmed and, for policy kinds, enforced once for this generation. Always present.
pub const READY: &str = "Ready";
/// The operator is working on it or waiting for something that is expected to come.
pub const RECONCILING: &str = "Reconciling";
/// Nothing will change until somebody changes something.
pub const STALLED: &str = "Stalled";
/// The spec is valid together with everything it refers to.
pub const ACCEPTED: &str = "Accepted";
/// What the spec asks for exists outside of Kubernetes, and stands in the policy snapshot.
pub const PROGRAMMED: &str = "Programmed";
/// Every live ingest pod decides by it. Never pulls Ready down.
pub const ENFORCED: &str = "Enforced";
/// Every event that was packed is stored, was a repeat, or is dead. Never pulls Ready down.
pub const COUNTS_RECONCILED: &str = "CountsReconciled";
/// The tenant's events go where its spec says, and nothing is left to be done about where they went before. Only of tenants that have
/// moved. Never pulls Ready down.
pub const LANE_READY: &str = "LaneReady";
/// The tenant's ClickHouse user is there, and a Secret opens it. Only of tenants that ask for one. Never pulls Ready down.
pub const QUERY_USER_READY: &str = "QueryUserReady";
/// What is accepted survives: the servers write through before they acknowledge. Never pulls Ready down.
pub const DURABLE: &str = "Durable";
/// What stands outside of Kubernetes differs from what is written, and is not repaired because the object is only observed. Never pulls
/// Ready down.
pub const DRIFTED: &str = "Drifted";
/// An annotation keeps the operator from changing what stands outside of Kubernetes. Only of objects that carry it.
pub const PAUSED: &str = "Paused";
/// The rule narrows what the plan gives.
pub const EFFECTIVE: &str = "Effective";
/// The tenant holds every namespace that it names.
pub const NAMESPACES_CLAIMED: &str = "NamespacesClaimed";

/// Finds a condition by type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}
