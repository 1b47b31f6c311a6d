//! DataPlane: the ingest pods, and how far policy has come to them. Written by the operator alone.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// Nothing is declared about the data plane; the one object, `default`, tells how it is.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[kube(
    group = "meterplane.io",
    version = "v1alpha1",
    kind = "DataPlane",
    plural = "dataplanes",
    shortname = "mpdp",
    category = "meterplane",
    status = "DataPlaneStatus",
    derive = "PartialEq",
    doc = "The ingest pods and the policy revision that they decide by. There is one object, default, and the operator writes it.",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one data plane, and its name is default"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods", description = "Ingest pods alive"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.current", description = "Pods that decide by the newest policy"),
    printcolumn(name = "Lagging", type_ = "integer", json_path = ".status.lagging", description = "Pods that do not yet"),
    printcolumn(name = "Fenced", type_ = "integer", json_path = ".status.fenced", description = "Pods so silent that they refuse events themselves"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision", description = "Newest revision of the policy bucket"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether a pod is there to decide", priority = 1),
    printcolumn(name = "Enforced", type_ = "string", json_path = r#".status.conditions[?(@.type=="Enforced")].status"#, description = "Whether every pod decides by the newest policy", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneSpec {}

/// What the operator says about the data plane; at most once in five seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// Statements about the data plane.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Ingest pods alive: current, lagging and fenced ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
    /// Pods that decide by the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// Pods that are heard of and do not decide by it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lagging: Option<u32>,
    /// Pods that were not heard of for so long that they refuse events themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<u32>,
    /// Newest revision of the policy bucket that carries a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
}
