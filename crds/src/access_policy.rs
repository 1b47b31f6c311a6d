//! AccessPolicy: which events of a tenant are admitted at all.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;
use crate::limit::{Match, Mode};

/// Who may use which feature when, for the tenant that the namespace belongs to.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    shortname = "mpa",
    category = "meterplane",
    namespaced,
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    doc = "Who may use which feature when. Deny overrides allow, there is no order among policies, and none raises a limit.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 63 characters"),
    printcolumn(name = "Effect", type_ = "string", json_path = ".spec.effect", description = "What its rules do"),
    printcolumn(name = "Rules", type_ = "integer", json_path = ".status.rules", description = "Rules in the policy"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "What happens to what it does not admit"),
    printcolumn(name = "Enforced", type_ = "string", json_path = r#".status.conditions[?(@.type=="Enforced")].status"#, description = "Whether every ingest pod decides by it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the policy is in force as written"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// Deny: events that fit a rule are not admitted. Allow: events that fit a rule are admitted, and while the tenant has
    /// an Allow policy, events that fit no rule of any are not.
    pub effect: Effect,
    /// An event fits the policy when it fits one of its rules.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub rules: Vec<AccessRule>,
    /// What happens to an event that the policy does not admit: Observe records it, Warn also tells the client, Enforce
    /// refuses it. An Allow policy in Observe or Warn admits nothing that the enforced ones do not.
    #[serde(default)]
    pub mode: Mode,
    /// True takes the policy out of force without deleting it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What the rules of a policy do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// Events that fit are admitted, and no others.
    Allow,
    /// Events that fit are not admitted.
    Deny,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Name of the rule, by which refusals name it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Which events fit; without it, all do. The expression may also speak of `time`, the tenant's local time when the
    /// event is received: hour, minute, dayOfWeek (1 is Monday) and date (YYYY-MM-DD).
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
}

/// What the operator says about a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the policy.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Number of rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<u32>,
    /// Revision of the policy bucket with which every pod enforced this generation for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_revision: Option<i64>,
}
