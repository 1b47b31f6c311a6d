//! `GET /v1/dashboard/users/exceeded-limits`

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use event::UserKey;
use policy::tenant::TenantPolicy;
use policy::window::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::cursor::Cursor;
use super::page::{Page, PageInfo};
use super::params::Params;
use super::summary::{Cycle, Sharing};
use crate::App;
use crate::auth::Caller;
use crate::problem::Problems;
use crate::query;
use crate::query::violations::{LastUser, UserRow};

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ExceededParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 24 hours before `to`.
    #[param(example = "now-24h")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
    /// Most users of the answer, 1 to 1,000. Default: 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1_000, example = 100)]
    limit: Option<String>,
    /// `page.nextCursor` of the page before. It carries the range of the first page: `from` and `to` are not looked at
    /// beside it.
    cursor: Option<String>,
}

/// Users who ran against limits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExceededLimits {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// Users, most attempts first.
    data: Vec<ExceedingUser>,
    /// What follows.
    page: PageInfo,
}

/// A user who ran against limits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExceedingUser {
    /// The user, as events name them in `subject`; null when no stored event of the range or the 30 days before it does,
    /// and for attempts without a user.
    #[schema(examples("ann@example.com"))]
    user_id: Option<String>,
    /// The user's pseudonym.
    #[schema(examples("aaaaaaaaaaaaaaaaaaaaaaaaaa"))]
    user_key: String,
    /// Attempts beyond any limit, whatever became of them.
    attempts: u64,
    /// Receipt of the first.
    #[schema(format = DateTime)]
    first: String,
    /// Receipt of the last.
    #[schema(format = DateTime)]
    last: String,
    /// By limit and effect, most attempts first.
    limits: Vec<ExceededLimit>,
}

/// A limit that a user ran against.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExceededLimit {
    /// Identity of the limit: `plan.<name>` or `ns.<namespace>.<name>`.
    #[schema(examples("ns.acme.exports-per-user"))]
    rule: String,
    /// What became of the attempts: `Refused`, `Warned` or `Observed`.
    #[schema(examples("Refused"))]
    effect: String,
    /// Attempts.
    attempts: u64,
    /// Receipt of the first.
    #[schema(format = DateTime)]
    first: String,
    /// Receipt of the last.
    #[schema(format = DateTime)]
    last: String,
    /// Who shares the limit as it is now; null when it is no longer in force.
    per: Option<Sharing>,
    /// Units a window that it admits now; null when it is no longer in force.
    max: Option<u64>,
    /// How long it counts; null when it is no longer in force.
    window: Option<Cycle>,
}

/// Users who ran against limits, by time of receipt, most attempts first.
#[utoipa::path(
    get,
    path = "/v1/dashboard/users/exceeded-limits",
    operation_id = "getExceededLimits",
    tag = "dashboard",
    params(ExceededParams),
    responses((status = 200, description = "The users", body = ExceededLimits), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ExceededParams>,
) -> Answer<ExceededLimits> {
    let policy = &caller.policy;
    let range = (params.from.as_deref(), params.to.as_deref());
    let page = Page::<LastUser>::read(&caller, params.cursor.as_deref(), range, params.limit.as_deref())?;
    let Page { range, after, limit } = page;
    let found = query::violations::users(&app.clickhouse, policy, range, after.as_ref(), limit).await;
    let (rows, has_more) = found.map_err(|error| query::failed(policy, &error))?;
    let keys: Vec<UserKey> = rows.iter().map(UserRow::user).collect();
    let names = query::violations::names(&app.clickhouse, policy, range, &keys).await;
    let mut names: HashMap<UserKey, String> =
        names.map_err(|error| query::failed(policy, &error))?.into_iter().collect();
    let behind = |row: &UserRow| LastUser { attempts: row.attempts, user: row.user() };
    let last = rows.last().filter(|_| has_more);
    let next_cursor = last.map(|row| Cursor::new(policy.name(), range, behind(row)).encode());
    Ok(Json(ExceededLimits {
        tenant: policy.name().to_string(),
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        data: rows.into_iter().map(|row| shown(policy, names.remove(&row.user()), row)).collect(),
        page: PageInfo::new(has_more, next_cursor),
    }))
}

fn shown(policy: &TenantPolicy, user_id: Option<String>, row: UserRow) -> ExceedingUser {
    let limit = |(rule, effect, attempts, first_ms, last_ms)| {
        let now = policy.snapshot().limits.iter().find(|limit| limit.identity == rule);
        ExceededLimit {
            per: now.map(|limit| limit.per.into()),
            max: now.map(|limit| limit.max),
            window: now.map(|limit| limit.window.into()),
            rule,
            effect,
            attempts,
            first: rfc3339(first_ms),
            last: rfc3339(last_ms),
        }
    };
    ExceedingUser {
        user_id,
        user_key: row.user().to_string(),
        attempts: row.attempts,
        first: rfc3339(row.first_ms),
        last: rfc3339(row.last_ms),
        limits: row.limits.into_iter().map(limit).collect(),
    }
}
