//! `/v1/admin/usage/limits`: a tenant's own limits, as resources in its namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::body::{Body, typed, unknown_member};
use super::params::Params;
use super::places::{self, Id};
use crate::App;
use crate::auth::{Admin, Caller};
use crate::problem::{Problem, Problems, WriteProblems};

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct LimitParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
}

/// A limit to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewLimit {
    /// Name of the resource: a DNS label.
    #[schema(examples("exports-per-user"))]
    name: String,
    /// One of the tenant's namespaces; may be left out when it has one.
    #[schema(examples("acme"))]
    namespace: Option<String>,
    /// The spec of a UsageLimit.
    #[schema(value_type = Object, examples(json!({"per": "User", "quota": {"max": 50, "period": "Day"}})))]
    spec: Value,
}

/// What a limit shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitChange {
    /// The whole spec of the UsageLimit: what is left out is no longer said.
    #[schema(value_type = Object, examples(json!({"per": "User", "quota": {"max": 80, "period": "Day"}})))]
    spec: Value,
}

/// A limit as it is declared.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredLimit {
    /// `<namespace>.<name>`.
    #[schema(examples("acme.exports-per-user"))]
    id: String,
    /// Namespace of the resource.
    #[schema(examples("acme"))]
    namespace: String,
    /// Name of the resource.
    #[schema(examples("exports-per-user"))]
    name: String,
    /// Its `metadata.generation`.
    generation: i64,
    /// The spec of the UsageLimit.
    #[schema(value_type = Object)]
    spec: Value,
    /// What the operator says of it, condition by condition; empty until it has looked.
    #[schema(value_type = Vec<Object>)]
    conditions: Value,
}

/// The limits that a tenant declared.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredLimits {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// By namespace, then by name; at most 500 of a namespace.
    data: Vec<DeclaredLimit>,
}

/// Limits declared in the tenant's namespaces, whoever declared them.
#[utoipa::path(
    get,
    path = "/v1/admin/usage/limits",
    operation_id = "listUsageLimits",
    tag = "admin",
    params(LimitParams),
    responses((status = 200, description = "The limits", body = DeclaredLimits), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(_): Params<LimitParams>,
) -> Answer<DeclaredLimits> {
    let snapshot = caller.policy.snapshot();
    let mut data = Vec::new();
    for namespace in &snapshot.namespaces {
        let found = app.usage_limits.list(namespace).await?;
        data.extend(found.into_iter().map(declared));
    }
    Ok(Json(DeclaredLimits { tenant: snapshot.tenant.to_string(), data }))
}

/// One declared limit.
#[utoipa::path(
    get,
    path = "/v1/admin/usage/limits/{limitId}",
    operation_id = "getUsageLimit",
    tag = "admin",
    params(("limitId" = String, Path, description = "`<namespace>.<name>`", example = "acme.exports-per-user"), LimitParams),
    responses((status = 200, description = "The limit", body = DeclaredLimit), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<Id>,
    Params(_): Params<LimitParams>,
) -> Answer<DeclaredLimit> {
    let place = places::of(&caller.policy, &id)?;
    let found = app.usage_limits.get(&place).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(declared(found)))
}

/// Declares a limit.
///
/// It is a UsageLimit resource, written under field manager `meterplane-console`; the operator judges it as any other.
#[utoipa::path(
    post,
    path = "/v1/admin/usage/limits",
    operation_id = "createUsageLimit",
    tag = "admin",
    request_body = NewLimit,
    params(LimitParams),
    responses((status = 201, description = "The limit", body = DeclaredLimit), Problems, WriteProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    admin: Admin,
    Params(_): Params<LimitParams>,
    Body(new): Body<NewLimit>,
) -> Result<impl IntoResponse, Problem> {
    let place = places::new(&admin.policy, new.namespace, new.name)?;
    checked(&new.spec)?;
    if app.usage_limits.get(&place).await?.is_some() {
        let id = places::id(&place);
        return Err(Problem::conflict(format!("there is a limit {id}: change it with PUT")));
    }
    let written = app.usage_limits.apply(&place, &new.spec, None).await?;
    let location = format!("/v1/admin/usage/limits/{}", places::id(&place));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(declared(written))))
}

/// Makes a declared limit what the body says.
///
/// 409 when somebody else owns it: the problem names the manager and holds the YAML to commit there.
#[utoipa::path(
    put,
    path = "/v1/admin/usage/limits/{limitId}",
    operation_id = "replaceUsageLimit",
    tag = "admin",
    request_body = LimitChange,
    params(("limitId" = String, Path, description = "`<namespace>.<name>`", example = "acme.exports-per-user"), LimitParams),
    responses((status = 200, description = "The limit", body = DeclaredLimit), Problems, WriteProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn replace(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<Id>,
    Params(_): Params<LimitParams>,
    Body(change): Body<LimitChange>,
) -> Answer<DeclaredLimit> {
    let place = places::of(&admin.policy, &id)?;
    checked(&change.spec)?;
    let found = app.usage_limits.get(&place).await?.ok_or_else(Problem::not_found)?;
    let written = app.usage_limits.apply(&place, &change.spec, Some(&found)).await?;
    Ok(Json(declared(written)))
}

/// Takes a declared limit back, if everything in it was declared here.
#[utoipa::path(
    delete,
    path = "/v1/admin/usage/limits/{limitId}",
    operation_id = "deleteUsageLimit",
    tag = "admin",
    params(("limitId" = String, Path, description = "`<namespace>.<name>`", example = "acme.exports-per-user"), LimitParams),
    responses((status = 204, description = "It is gone"), Problems, WriteProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(id): Path<Id>,
    Params(_): Params<LimitParams>,
) -> Result<StatusCode, Problem> {
    let place = places::of(&admin.policy, &id)?;
    let found = app.usage_limits.get(&place).await?.ok_or_else(Problem::not_found)?;
    app.usage_limits.delete(&place, &found).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The spec has the form of a UsageLimit. What it means is the kube-apiserver's and the operator's to judge.
///
/// # Errors
/// 422 naming the member.
pub fn checked(spec: &Value) -> Result<crds::UsageLimitSpec, Problem> {
    // The rule is flattened in the spec, which would hide paths: it is read by itself first.
    drop(typed::<crds::LimitRule>("spec", spec.clone())?);
    let understood: crds::UsageLimitSpec = typed("spec", spec.clone())?;
    let known = serde_json::to_value(&understood).unwrap_or_default();
    match unknown_member("spec", spec, &known) {
        Some(field) => Err(Problem::unprocessable(field, "is not a member of a UsageLimit")),
        None => Ok(understood),
    }
}

fn declared(object: DynamicObject) -> DeclaredLimit {
    let metadata = object.metadata;
    let (namespace, name) = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
    let status = object.data.get("status").and_then(|status| status.get("conditions"));
    DeclaredLimit {
        id: format!("{namespace}.{name}"),
        generation: metadata.generation.unwrap_or_default(),
        spec: object.data.get("spec").cloned().unwrap_or_default(),
        conditions: status.cloned().unwrap_or_else(|| Value::Array(Vec::new())),
        namespace,
        name,
    }
}
