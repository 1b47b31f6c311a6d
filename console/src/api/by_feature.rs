//! `GET /v1/dashboard/usage/by-feature`

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
use crate::query::by_feature::{After, Row};

/// The last feature of a page.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    events: u64,
    feature: String,
}

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct ByFeatureParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 24 hours before `to`.
    #[param(example = "now-24h")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
    /// Most features of the answer, 1 to 1,000. Default: 100.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1_000, example = 100)]
    limit: Option<String>,
    /// `page.nextCursor` of the page before. It carries the range of the first page: `from` and `to` are not looked at
    /// beside it.
    cursor: Option<String>,
}

/// Usage by feature.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByFeature {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// Over all features, whatever the page; read together with it, so both agree.
    totals: Totals,
    /// Features by events from the most used, then by name.
    data: Vec<FeatureUse>,
    /// What follows.
    page: PageInfo,
}

/// Usage over all features.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Distinct features.
    features: u64,
    /// Stored events.
    events: u64,
    /// Distinct users, exactly: who used several features counts once.
    active_users: u64,
    /// Sum of the events' values: an exact decimal.
    #[schema(examples("1234.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
}

/// Usage of one feature.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureUse {
    /// The feature (`type` of its events).
    #[schema(examples("report.export"))]
    feature: String,
    /// Stored events.
    events: u64,
    /// Distinct users of these events, exactly.
    active_users: u64,
    /// Sum of the events' values: an exact decimal.
    #[schema(examples("12.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
}

/// Usage by feature, by event time, most used first.
#[utoipa::path(
    get,
    path = "/v1/dashboard/usage/by-feature",
    operation_id = "getUsageByFeature",
    tag = "dashboard",
    params(ByFeatureParams),
    responses((status = 200, description = "The features", body = ByFeature), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ByFeatureParams>,
) -> Answer<ByFeature> {
    let policy = &caller.policy;
    let range = (params.from.as_deref(), params.to.as_deref());
    let page = Page::<Last>::read(&caller, params.cursor.as_deref(), range, params.limit.as_deref())?;
    let Page { range, after, limit } = page;
    let after = after.as_ref().map(|last| After { events: last.events, feature: &last.feature });
    let sealed_ms = app.sealed_ms(&caller);
    let page = query::by_feature::fetch(&app.clickhouse, policy, range, sealed_ms, after, limit).await;
    let page = page.map_err(|error| query::failed(policy, &error))?;
    let last = page.features.last().filter(|_| page.has_more);
    let after = |row: &Row| Last { events: row.events, feature: row.feature.clone() };
    let next_cursor = last.map(|row| Cursor::new(policy.name(), range, after(row)).encode());
    Ok(Json(ByFeature {
        tenant: policy.name().to_string(),
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        totals: totals(page.all),
        page: PageInfo::new(page.has_more, next_cursor),
        data: page.features.into_iter().map(feature).collect(),
    }))
}

fn totals(all: Row) -> Totals {
    Totals { features: all.features, events: all.events, active_users: all.active_users, value: all.total }
}

fn feature(row: Row) -> FeatureUse {
    FeatureUse { feature: row.feature, events: row.events, active_users: row.active_users, value: row.total }
}
