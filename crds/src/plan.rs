//! Plan: what the platform gives a tenant.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit::{self, LimitRule, Retention};
use crate::{Condition, tenant::Isolation};

/// What a tenant on this plan gets.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "Plan",
    plural = "plans",
    shortname = "mpp",
    category = "meterplane",
    status = "PlanStatus",
    derive = "PartialEq",
    doc = "What the platform gives a tenant: limits, ceilings, defaults.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 63 characters"),
    printcolumn(name = "Display", type_ = "string", json_path = ".spec.displayName", description = "Name people read"),
    printcolumn(name = "Limits", type_ = "integer", json_path = ".status.limits", description = "Limits in the plan"),
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants", description = "Tenants on the plan"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the plan is in use as written"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// Name people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
    /// Isolation of tenants that are created on this plan; editing it moves nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// LanePool of tenants that are created on this plan and pooled; without it, the one named default. Editing it moves
    /// nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// Limits of every tenant on this plan; each must admit an event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub limits: Vec<PlanLimit>,
    /// Bounds of what tenants declare themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
    /// Retention of tenants that say nothing themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// A limit of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = limit::quota_xor_rate(), validation = limit::same_per(), validation = limit::same_measure(),
    validation = limit::same_kind(), validation = limit::same_start(), validation = limit::open_is_not_enforced())]
pub struct PlanLimit {
    /// Name of the limit, by which tenants' overrides and refusals name it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What the limit says.
    #[serde(flatten)]
    pub rule: LimitRule,
}

/// Bounds of what a tenant declares itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    /// How many objects of a kind count in the tenant's namespaces; the oldest do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectCeilings>,
    /// Most steps that an expression of the tenant's own may take on one event, by a static estimate; without it, 50,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 50_000))]
    pub expression_cost: Option<u32>,
    /// Longest retention that a tenant may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// Numbers of objects.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectCeilings {
    /// UsageLimits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200))]
    pub usage_limits: Option<u32>,
    /// AccessPolicies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub access_policies: Option<u32>,
    /// ApiKeys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 500))]
    pub api_keys: Option<u32>,
    /// AlertRules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 500))]
    pub alert_rules: Option<u32>,
}

/// What the operator says about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the plan.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Number of limits in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<u32>,
    /// Number of tenants on the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u32>,
}
