//! `GET /v1/dashboard/violations`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::window::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::cursor::Cursor;
use super::page::{Page, PageInfo};
use super::params::Params;
use crate::App;
use crate::auth::Caller;
use crate::problem::Problems;
use crate::query;
use crate::query::violations::{LastRule, RuleRow};

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ViolationsParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 24 hours before `to`.
    #[param(example = "now-24h")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
    /// Most entries of the answer, 1 to 1,000. Default: 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1_000, example = 100)]
    limit: Option<String>,
    /// `page.nextCursor` of the page before. It carries the range of the first page: `from` and `to` are not looked at
    /// beside it.
    cursor: Option<String>,
}

/// What rules did not admit.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violations {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// By rule, kind and effect, most attempts first.
    data: Vec<RuleViolations>,
    /// What follows.
    page: PageInfo,
}

/// Attempts that one rule did not admit, or would not have.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleViolations {
    /// Identity of the rule: `plan.<name>` or `ns.<namespace>.<name>`.
    #[schema(examples("ns.acme.exports-per-user"))]
    rule: String,
    /// `Limit` or `Access`.
    #[schema(examples("Limit"))]
    kind: String,
    /// What became of the attempts: `Refused`, `Warned` or `Observed`.
    #[schema(examples("Refused"))]
    effect: String,
    /// Attempts.
    attempts: u64,
    /// Distinct users, exactly; attempts without a user are one.
    users: u64,
    /// Receipt of the first.
    #[schema(format = DateTime)]
    first: String,
    /// Receipt of the last.
    #[schema(format = DateTime)]
    last: String,
}

/// What limits and access policies did not admit, by time of receipt, most attempts first.
///
/// A rejected attempt is not usage: it is counted here and nowhere else.
#[utoipa::path(
    get,
    path = "/v1/dashboard/violations",
    operation_id = "getViolations",
    tag = "dashboard",
    params(ViolationsParams),
    responses((status = 200, description = "The violations", body = Violations), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ViolationsParams>,
) -> Answer<Violations> {
    let policy = &caller.policy;
    let range = (params.from.as_deref(), params.to.as_deref());
    let page = Page::<LastRule>::read(&caller, params.cursor.as_deref(), range, params.limit.as_deref())?;
    let Page { range, after, limit } = page;
    let found = query::violations::rules(&app.clickhouse, policy, range, after.as_ref(), limit).await;
    let (rows, has_more) = found.map_err(|error| query::failed(policy, &error))?;
    let last = rows.last().filter(|_| has_more);
    let next_cursor = last.map(|row| Cursor::new(policy.name(), range, behind(row)).encode());
    Ok(Json(Violations {
        tenant: policy.name().to_string(),
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        data: rows.into_iter().map(shown).collect(),
        page: PageInfo::new(has_more, next_cursor),
    }))
}

fn behind(row: &RuleRow) -> LastRule {
    LastRule {
        attempts: row.attempts,
        rule: row.rule.clone(),
        kind: row.kind_name.clone(),
        effect: row.effect_name.clone(),
    }
}

fn shown(row: RuleRow) -> RuleViolations {
    RuleViolations {
        rule: row.rule,
        kind: row.kind_name,
        effect: row.effect_name,
        attempts: row.attempts,
        users: row.users,
        first: rfc3339(row.first_ms),
        last: rfc3339(row.last_ms),
    }
}
