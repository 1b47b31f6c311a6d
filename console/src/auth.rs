//! Who is asking: one API key, from which alone the tenant follows.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use policy::apikey::{KeyDigest, Scope, is_well_formed};
use policy::decide::{Refusal, authorize};
use policy::tenant::TenantPolicy;

use crate::App;
use crate::clock;
use crate::problem::Problem;
use crate::snapshot_watch::Policies;

/// The header that may carry the key instead of `Authorization: Bearer`.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// The only parameter that every route has; it can only confirm what the key says.
const TENANT_PARAMETER: &str = "tenant";

/// A request whose key may read its tenant's dashboards.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant.
    pub policy: Arc<TenantPolicy>,
    /// When it was asked, Unix milliseconds.
    pub now_ms: i64,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let now_ms = clock::now_ms();
        let policy = authenticate(&app.store.load(), &parts.headers, Scope::Read, now_ms)?;
        confirm_tenant(&policy, &parts.uri)?;
        Ok(Self { policy, now_ms })
    }
}

/// A request whose key may write its tenant's own limits and policies.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The tenant.
    pub policy: Arc<TenantPolicy>,
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let policy = authenticate(&app.store.load(), &parts.headers, Scope::Admin, clock::now_ms())?;
        confirm_tenant(&policy, &parts.uri)?;
        Ok(Self { policy })
    }
}

/// The tenant for which the request's key has `scope`.
///
/// # Errors
/// 400 two credentials; 401 none, malformed, unknown or expired; 403 scope or suspension; 503 not ready.
pub fn authenticate(
    policies: &Policies,
    headers: &HeaderMap,
    scope: Scope,
    now_ms: i64,
) -> Result<Arc<TenantPolicy>, Problem> {
    let key = credential(headers)?;
    if !is_well_formed(key) {
        return Err(unknown_key());
    }
    if !policies.is_complete() {
        return Err(Problem::unavailable("the tenants' policies are still being loaded"));
    }
    let (policy, key) = policies.directory.find(&KeyDigest::of(key)).ok_or_else(unknown_key)?;
    authorize(policy, key, scope, now_ms).map_err(|refusal| match refusal {
        Refusal::KeyExpired => Problem::unauthorized(refusal.to_string()),
        Refusal::ScopeMissing | Refusal::TenantSuspended => Problem::forbidden(refusal.to_string()),
    })?;
    Ok(policy.clone())
}

/// The same words for a key that is malformed and one that does not exist.
fn unknown_key() -> Problem {
    Problem::unauthorized("the API key is malformed or unknown")
}

/// The one key of a request.
fn credential(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter().map(|value| (true, value));
    let mut keys = given.by_ref().chain(headers.get_all(API_KEY_HEADER).iter().map(|value| (false, value)));
    let missing = "send the API key as Authorization: Bearer <key> or as X-API-Key: <key>";
    let (is_authorization, value) = keys.next().ok_or_else(|| Problem::unauthorized(missing))?;
    if keys.next().is_some() {
        let detail = "two credentials: send one of Authorization and X-API-Key, once";
        return Err(Problem::bad_request(header::AUTHORIZATION.as_str(), detail));
    }
    let text = value.to_str().map_err(|_| unknown_key())?;
    if !is_authorization {
        return Ok(text.trim());
    }
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        _ => Err(Problem::unauthorized(missing)),
    }
}

/// Whoever names another tenant learns nothing about it, not even whether it exists.
fn confirm_tenant(policy: &TenantPolicy, uri: &Uri) -> Result<(), Problem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
    let other = pairs.iter().any(|(name, value)| name == TENANT_PARAMETER && value != policy.name().as_str());
    if other { Err(Problem::not_found()) } else { Ok(()) }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
