//! UsageLimit: a tenant's own, stricter limit.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::limit::{self, LimitRule};

/// A stricter quota or rate, for the tenant that the namespace belongs to.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "UsageLimit",
    plural = "usagelimits",
    shortname = "mpl",
    category = "meterplane",
    namespaced,
    status = "UsageLimitStatus",
    derive = "PartialEq",
    doc = "A tenant's own limit: it narrows what the plan gives and never widens it.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 63 characters"),
    printcolumn(name = "Per", type_ = "string", json_path = ".spec.per", description = "Who has the limit"),
    printcolumn(name = "Max", type_ = "string", json_path = ".spec['quota','rate'].max", description = "Units admitted a period"),
    printcolumn(name = "Period", type_ = "string", json_path = ".spec['quota','rate'].period", description = "The period"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "What happens beyond the limit"),
    printcolumn(name = "Level", type_ = "string", json_path = ".status.level", description = "How much of it is used"),
    printcolumn(name = "Enforced", type_ = "string", json_path = r#".status.conditions[?(@.type=="Enforced")].status"#, description = "Whether every ingest pod decides by it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the limit is in force as written"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Effective", type_ = "string", json_path = r#".status.conditions[?(@.type=="Effective")].status"#, description = "Whether it narrows the plan", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = limit::quota_xor_rate(), validation = limit::same_per(), validation = limit::same_measure(),
    validation = limit::same_kind(), validation = limit::same_start(), validation = limit::open_is_not_enforced())]
pub struct UsageLimitSpec {
    /// What the limit says.
    #[serde(flatten)]
    pub rule: LimitRule,
    /// True takes the limit out of force without deleting it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What the operator says about a limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageLimitStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the limit.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How much of a quota of the whole tenant is used, or handed out to ingest pods, which hold about two seconds of its traffic:
    /// Normal, the highest of `warnAt` that is reached, or 100%. Moves only when a step is crossed or the period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub level: Option<String>,
    /// Revision of the policy bucket with which every pod enforced this generation for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_revision: Option<i64>,
}
