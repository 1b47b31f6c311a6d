//! `GET /v1/admin/policies/effective`

use axum::Json;
use policy::effective::{Effective, effective};
use policy::window::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::params::Params;
use super::summary::{Action, Cycle, Sharing};
use crate::auth::Caller;
use crate::problem::Problems;

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
}

/// What is in force for a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePolicies {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// Generation of the policy snapshot that this is; it rises with every change.
    generation: u64,
    /// Every limit, in the order in which they are checked. An event must be admitted by each that counts it.
    limits: Vec<EffectiveLimit>,
}

/// One limit as it is in force, and who said so.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveLimit {
    /// The name people know it by.
    #[schema(examples("events"))]
    name: String,
    /// `plan.<name>` or `ns.<namespace>.<name>`.
    #[schema(examples("plan.events"))]
    identity: String,
    /// Who shares it.
    per: Sharing,
    /// Units a window, overrides counted in.
    max: u64,
    /// Saved units that a rate may admit on top.
    burst: u64,
    /// How long it counts.
    window: Cycle,
    /// What happens beyond it.
    mode: Action,
    /// Share of the users, in percent, for whom the mode holds; the others are observed.
    rollout_percent: u8,
    /// The resource that declares it.
    source: Source,
    /// The tenant's override that `max` comes from; null when none holds.
    overridden: Option<Overridden>,
    /// Name of the plan's limit that is at least as strict, so that this one changes nothing; null when there is none.
    looser_than: Option<String>,
}

/// A resource in the cluster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `Plan` or `UsageLimit`.
    #[schema(examples("Plan"))]
    kind: String,
    /// Null for resources of the platform.
    namespace: Option<String>,
    /// Name of the resource.
    #[schema(examples("pro"))]
    name: String,
    /// Its `metadata.generation` that is in force.
    generation: i64,
}

/// An override that holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overridden {
    /// Units a window that the plan says.
    declared: u64,
    /// Last moment at which the override holds; null when it has no end.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// Every limit that is in force for the key's tenant, with its provenance.
///
/// It is read from the signed policy that this process holds: what the ingest pods decide by.
#[utoipa::path(
    get,
    path = "/v1/admin/policies/effective",
    operation_id = "getEffectivePolicies",
    tag = "admin",
    params(EffectiveParams),
    responses((status = 200, description = "The limits in force", body = EffectivePolicies), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(caller: Caller, Params(_): Params<EffectiveParams>) -> Answer<EffectivePolicies> {
    let snapshot = caller.policy.snapshot();
    Ok(Json(EffectivePolicies {
        tenant: snapshot.tenant.to_string(),
        generation: snapshot.generation,
        limits: effective(snapshot).into_iter().map(shown).collect(),
    }))
}

fn shown(limit: Effective) -> EffectiveLimit {
    let source = limit.source;
    let overridden = limit.overridden.map(|overridden| Overridden {
        declared: overridden.declared,
        until: overridden.until_ms.map(rfc3339),
    });
    EffectiveLimit {
        name: limit.name,
        identity: limit.identity,
        per: limit.per.into(),
        max: limit.max,
        burst: limit.burst,
        window: limit.window.into(),
        mode: limit.mode.into(),
        rollout_percent: limit.rollout_percent,
        source: Source {
            kind: source.kind,
            namespace: Some(source.namespace).filter(|namespace| !namespace.is_empty()),
            name: source.name,
            generation: source.generation,
        },
        overridden,
        looser_than: limit.looser_than,
    }
}
