//! `POST /v1/admin/policies`: a tenant's own access policies, as resources in its namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::body::{Body, typed, unknown_member};
use super::places;
use crate::App;
use crate::auth::Admin;
use crate::problem::{Problem, Problems, WriteProblems};

/// An access policy to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPolicy {
    /// Name of the resource: a DNS label.
    #[schema(examples("no-exports-at-night"))]
    name: String,
    /// One of the tenant's namespaces; may be left out when it has one.
    #[schema(examples("acme"))]
    namespace: Option<String>,
    /// The spec of an AccessPolicy.
    #[schema(value_type = Object, examples(json!({"effect": "Deny", "rules": [{"name": "exports", "match": {"features": ["export.*"]}}]})))]
    spec: Value,
}

/// An access policy as it is declared.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredPolicy {
    /// Kind of the resource.
    #[schema(examples("AccessPolicy"))]
    kind: &'static str,
    /// `<namespace>.<name>`.
    #[schema(examples("acme.no-exports-at-night"))]
    id: String,
    /// Its `metadata.generation`.
    generation: i64,
    /// The spec of the AccessPolicy.
    #[schema(value_type = Object)]
    spec: Value,
}

/// Declares an access policy.
///
/// It is an AccessPolicy resource, written under field manager `meterplane-console`; the operator judges it as any other.
#[utoipa::path(
    post,
    path = "/v1/admin/policies",
    operation_id = "createAccessPolicy",
    tag = "admin",
    request_body = NewPolicy,
    responses((status = 201, description = "The policy", body = DeclaredPolicy), Problems, WriteProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    admin: Admin,
    Body(new): Body<NewPolicy>,
) -> Result<(StatusCode, Json<DeclaredPolicy>), Problem> {
    let place = places::new(&admin.policy, new.namespace, new.name)?;
    let understood: crds::AccessPolicySpec = typed("spec", new.spec.clone())?;
    let known = serde_json::to_value(&understood).unwrap_or_default();
    if let Some(field) = unknown_member("spec", &new.spec, &known) {
        return Err(Problem::unprocessable(field, "is not a member of an AccessPolicy"));
    }
    let id = places::id(&place);
    if app.access_policies.get(&place).await?.is_some() {
        return Err(Problem::conflict(format!("there is a policy {id}")));
    }
    let written = app.access_policies.apply(&place, &new.spec, None).await?;
    Ok((
        StatusCode::CREATED,
        Json(DeclaredPolicy {
            kind: "AccessPolicy",
            id,
            generation: written.metadata.generation.unwrap_or_default(),
            spec: written.data.get("spec").cloned().unwrap_or_default(),
        }),
    ))
}
