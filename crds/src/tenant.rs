//! Tenant: a customer, what it gets and where it lives.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit::{Mode, Per, Retention};
use crate::{Condition, Duration, IntOrQuantity};

/// A customer: its plan, the namespaces that speak for it, and the rules of its data.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    shortname = "mpt",
    category = "meterplane",
    status = "TenantStatus",
    derive = "PartialEq",
    selectable = ".spec.externalId",
    selectable = ".spec.planRef.name",
    doc = "A customer of the platform, with a stream, a database and a key of its own.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 40 characters"),
    validation = Rule::new("!self.metadata.name.startsWith('platform-')")
        .message("names that begin with platform- are reserved for the platform's own keys"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.planRef.name", description = "The tenant's plan"),
    printcolumn(name = "Isolation", type_ = "string", json_path = ".status.isolation", description = "Where its data live"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the tenant is as written"),
    printcolumn(name = "Enforced", type_ = "string", json_path = r#".status.conditions[?(@.type=="Enforced")].status"#, description = "Whether every ingest pod decides by it"),
    printcolumn(name = "Counts", type_ = "string", json_path = r#".status.conditions[?(@.type=="CountsReconciled")].status"#, description = "Whether its counts add up"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Display", type_ = "string", json_path = ".spec.displayName", description = "Name people read", priority = 1),
    printcolumn(name = "Stream", type_ = "string", json_path = ".status.stream", description = "JetStream stream of its events", priority = 1),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.database", description = "ClickHouse database of its events", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.externalId) || (has(self.externalId) && self.externalId == oldSelf.externalId)")
    .message("externalId is immutable").field_path(".externalId"))]
#[x_kube(validation = Rule::new("!has(self.queryUser) || (has(self.namespaces) && self.queryUser.namespace in self.namespaces)")
    .message("queryUser.namespace must be one of the tenant's namespaces").field_path(".queryUser"))]
pub struct TenantSpec {
    /// Name people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub display_name: Option<String>,
    /// The customer's number in your other systems. Immutable once set, and a field selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub external_id: Option<String>,
    /// The plan that the tenant is on.
    pub plan_ref: PlanRef,
    /// Namespaces that speak for this tenant, and only for this one. A namespace belongs to at most one tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = Rule::new("self.all(name, !name.startsWith('kube-'))")
        .message("system namespaces (kube-*) cannot belong to a tenant"))]
    pub namespaces: Vec<String>,
    /// Whether the tenant's events have a stream and table of their own. Without it, the plan decides at creation. A change moves the
    /// tenant while its apps send; `LaneReady` says how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// IANA time zone in which the tenant's days and months begin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// How long the tenant's data are kept. Without it, the plan decides at creation. In a pool a shorter retention hides events at
    /// once, and a longer one holds for events that are stored from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How far back in time events may lie; at least and by default 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Duration>,
    /// Other maxima for limits of the plan; the only thing that exceeds a plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub overrides: Vec<Override>,
    /// What happens to the tenant's data when the Tenant is deleted: Retain keeps them for a later adoption, Delete
    /// destroys them after deletionGrace.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How long a deleted tenant with deletionPolicy Delete stays suspended before its data are destroyed.
    #[serde(default = "day")]
    pub deletion_grace: Duration,
    /// Whether the tenant takes over data that an earlier tenant of this name left behind.
    #[serde(default)]
    pub adoption: Adoption,
    /// A ClickHouse user by which the tenant queries its own events and violations, for BI tools. Without it there is none. What came
    /// of it says condition `QueryUserReady`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_user: Option<QueryUser>,
    /// True refuses the tenant's events until it is false again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Refers to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanRef {
    /// Name of the Plan.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A ClickHouse user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryUser {
    /// Namespace of the tenant in which Secret `<tenant>-clickhouse` is written, with `CLICKHOUSE_URL`, `CLICKHOUSE_HOST`,
    /// `CLICKHOUSE_PORT`, `CLICKHOUSE_DATABASE`, `CLICKHOUSE_USER` and `CLICKHOUSE_PASSWORD`. Delete the Secret to get another
    /// password.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
}

/// Where a tenant's events live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// In a stream and a table of its own.
    #[default]
    Dedicated,
    /// In a shard that tenants share.
    Pooled,
}

/// Another maximum for a limit of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Override {
    /// Name of the limit in the plan.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The maximum that holds for this tenant.
    pub max: IntOrQuantity,
    /// Until when; afterwards the plan's maximum holds again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub until: Option<Timestamp>,
    /// Why, for people and the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}

/// What happens to the data of a deleted tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay, marked as released.
    #[default]
    Retain,
    /// They are destroyed after the grace period.
    Delete,
}

/// Whether a tenant takes over existing data of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Never: the tenant waits for a decision.
    #[default]
    Never,
    /// Data that an earlier tenant released.
    Released,
    /// Data of any earlier tenant of this name, released or not.
    Force,
}

/// What the operator says about a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the tenant.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Where the tenant's events live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// UID of the first Tenant that owned the data; adoption inherits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub lineage: Option<String>,
    /// JetStream stream of the tenant's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub stream: Option<String>,
    /// ClickHouse database that queries about the tenant use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub database: Option<String>,
    /// Vault transit key of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub key: Option<String>,
    /// The tenant's limits as they are in force, those of the plan first; the first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub limits: Vec<EffectiveLimit>,
    /// Limits that are in force and not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_not_listed: Option<u32>,
}

/// A limit as it is in force, and who said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveLimit {
    /// Name of the limit.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Who has it: Tenant, User or ApiKey.
    pub per: Per,
    /// Units that are admitted a period.
    pub max: u64,
    /// The period or window: Second, Minute, Hour, Day, Month or Total.
    #[schemars(length(max = 16))]
    pub period: String,
    /// What happens beyond it.
    pub mode: Mode,
    /// The resource that declares it: plan/NAME or usagelimit/NAMESPACE/NAME.
    #[schemars(length(max = 160))]
    pub source: String,
    /// What replaced the plan's maximum: the tenant's spec.overrides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    pub overridden_by: Option<String>,
    /// Until when that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub until: Option<Timestamp>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn day() -> Duration {
    Duration::DAY
}
