//! The custom resources of group `meterplane.io`: the vocabulary people write in YAML, and nothing else.
//!
//! One kind a file: spec, status, CEL rules, printer columns. Rules that need only the object itself stand here as
//! CEL, so that `kubectl apply --dry-run=server` tells them; what needs other objects is decided by the operator.
//! `crds/yaml` holds the generated definitions; a test compares.

pub mod access_policy;
pub mod api_key;
pub mod condition;
pub mod data_plane;
mod duration;
pub mod lane_pool;
pub mod limit;
pub mod plan;
mod quantity;
mod schema;
pub mod tenant;
pub mod usage_limit;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use access_policy::{AccessPolicy, AccessPolicySpec, AccessPolicyStatus};
pub use api_key::{ApiKey, ApiKeySpec, ApiKeyStatus};
pub use condition::{Condition, ConditionStatus};
pub use data_plane::{DataPlane, DataPlaneSpec, DataPlaneStatus};
pub use duration::{Duration, InvalidDuration};
pub use lane_pool::{LanePool, LanePoolSpec, LanePoolStatus};
pub use limit::LimitRule;
pub use plan::{Plan, PlanSpec, PlanStatus};
pub use quantity::{IntOrQuantity, InvalidQuantity};
pub use schema::SchemaError;
pub use tenant::{Tenant, TenantSpec, TenantStatus};
pub use usage_limit::{UsageLimit, UsageLimitSpec, UsageLimitStatus};

/// API group of every kind.
pub const GROUP: &str = "meterplane.io";
/// Version of every kind.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all kinds, as they are installed.
///
/// # Errors
/// When a derived schema is not one that Kubernetes can hold; a test rules that out.
pub fn all() -> Result<Vec<CustomResourceDefinition>, SchemaError> {
    let kinds = [
        Plan::crd(),
        Tenant::crd(),
        LanePool::crd(),
        DataPlane::crd(),
        UsageLimit::crd(),
        AccessPolicy::crd(),
        ApiKey::crd(),
    ];
    kinds.iter().map(schema::finish).collect()
}

/// The definitions as files of `crds/yaml`: (file name, text).
///
/// # Errors
/// As [`all`].
pub fn yaml() -> Result<Vec<(String, String)>, SchemaError> {
    all()?.iter().map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), schema::to_yaml(crd)?))).collect()
}

#[cfg(test)]
mod tests;
