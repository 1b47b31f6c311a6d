//! ApiKey: what an app sends along to be known.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, Duration};

/// An API key of the tenant that the namespace belongs to.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "ApiKey",
    plural = "apikeys",
    shortname = "mpk",
    category = "meterplane",
    namespaced,
    status = "ApiKeyStatus",
    derive = "PartialEq",
    doc = "A key for an app of the tenant; the operator writes it into a Secret for envFrom.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label of at most 63 characters"),
    printcolumn(name = "Scopes", type_ = "string", json_path = ".spec.scopes", description = "What the key may do"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.prefix", description = "How the current key begins"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", description = "Secret that holds the key"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expires", description = "When the key ends"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the key is in use as written"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Enforced", type_ = "string", json_path = r#".status.conditions[?(@.type=="Enforced")].status"#, description = "Whether every ingest pod knows it", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why, for people", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.source) && self.source == 'Digest') == has(self.sha256)")
        .message("sha256 is required with source Digest and not allowed otherwise").field_path(".sha256"),
    validation = Rule::new("!has(self.sha256) || !(has(self.rotation) || has(self.rotationSerial) || has(self.secretName))")
        .message("with source Digest there is no Secret and no rotation: change sha256"),
    validation = Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)")
        .message("source is immutable: create another ApiKey").field_path(".source"),
    validation = Rule::new("has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)")
        .message("secretName is immutable: create another ApiKey").field_path(".secretName"),
    validation = Rule::new("!has(oldSelf.rotationSerial) || (has(self.rotationSerial) && self.rotationSerial >= oldSelf.rotationSerial)")
        .message("rotationSerial only grows").field_path(".rotationSerial")
)]
pub struct ApiKeySpec {
    /// What the key may do.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<Scope>,
    /// Where the key comes from: Generate mints it, Digest takes one that you made yourself. Immutable.
    #[serde(default)]
    pub source: Source,
    /// SHA-256 of your own key's text in lower-case hexadecimal, with source Digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// Secret that the operator writes the key into, as MP_API_KEY, with MP_ENDPOINT. By default `<name>-apikey`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// When new keys are minted and for how long old ones stay valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Raise it to rotate now; the replaced key stays valid for rotation.overlap, without rotation not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub rotation_serial: Option<u32>,
    /// When the key ends for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub expires: Option<Timestamp>,
    /// True revokes the key until it is false again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Something that a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send usage events and ask whether they would be admitted.
    Ingest,
    /// Read the tenant's usage.
    Read,
    /// Write the tenant's own limits and policies through the console.
    Admin,
}

/// Where a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Source {
    /// The operator mints it and writes it into a Secret.
    #[default]
    Generate,
    /// You made it; only its digest is known here.
    Digest,
}

/// When keys change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// Age at which a key is replaced.
    pub every: Duration,
    /// How long the replaced key stays valid.
    #[serde(default = "week")]
    pub overlap: Duration,
}

/// What the operator says about a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Annotation `meterplane.io/reconcile-at` as it was when the object was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_handled_reconcile_at: Option<String>,
    /// Statements about the key.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Beginning of the current key: enough to recognise it, not to use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub prefix: Option<String>,
    /// Secret that holds the current key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// When the current key was minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub minted: Option<Timestamp>,
    /// Revision of the policy bucket with which every pod enforced this generation for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_revision: Option<i64>,
}

fn week() -> Duration {
    Duration::WEEK
}
