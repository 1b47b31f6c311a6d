//! LanePool: streams and tables that tenants share.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tenant::Adoption;
use crate::{Condition, IntOrQuantity};

/// Shards for tenants whose isolation is Pooled; each is a stream and a table that many tenants share.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "LanePool",
    plural = "lanepools",
    shortname = "mplp",
    category = "meterplane",
    status = "LanePoolStatus",
    derive = "PartialEq",
    doc = "Streams and tables that pooled tenants share, each tenant still with a key and a view of its own.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 40 characters"),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".spec.shards", description = "Shards that it should have"),
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants", description = "Tenants in its shards"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas", description = "Copies of each stream"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether every shard is in place"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "First", type_ = "integer", json_path = ".spec.firstShard", description = "Number of its first shard", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct LanePoolSpec {
    /// How many shards there are. It may grow: new tenants use the new ones as well, and nobody moves. It never shrinks,
    /// because rows lie in every shard.
    #[schemars(range(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("shards never become fewer: rows lie in each of them"))]
    pub shards: u16,
    /// Number of the first shard. Two pools have no shard in common. Immutable.
    #[serde(default)]
    #[schemars(range(min = 0, max = 60_000))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("firstShard is immutable: create a pool of another name"))]
    pub first_shard: u16,
    /// Storage that the stream of each shard reserves, for packs that are not in the tables yet; at least 64Mi.
    #[serde(default = "storage")]
    pub storage: IntOrQuantity,
    /// Whether the pool takes over shards that an earlier pool of this name left behind.
    #[serde(default)]
    pub adoption: Adoption,
}

/// What the operator says about a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LanePoolStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the pool.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Shards that are in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// Tenants whose events go into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u32>,
    /// Copies of each stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

fn storage() -> IntOrQuantity {
    IntOrQuantity::from(1 << 30)
}
