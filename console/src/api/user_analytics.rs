//! `GET /v1/dashboard/users/{userId}/analytics`

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use policy::window::{Window, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::params::Params;
use super::range::{DAY_MS, MAX_RANGE_DAYS, Range};
use super::tiles;
use crate::App;
use crate::auth::Caller;
use crate::problem::{Problem, Problems};
use crate::pseudonyms;
use crate::query;
use crate::query::user::Row;

/// The range when none is asked for.
const DEFAULT_RANGE_MS: i64 = 90 * DAY_MS;
/// Local days that a range can touch.
const MAX_DAYS: usize = MAX_RANGE_DAYS as usize + 2;

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct UserParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 90 days before `to`.
    #[param(example = "now-90d")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
}

/// Usage of one user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserAnalytics {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// The user, as events name them in `subject`.
    #[schema(examples("ann@example.com"))]
    user_id: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// The tenant's zone (IANA), in which days begin.
    #[schema(examples("Europe/Zurich"))]
    time_zone: String,
    /// Time of the user's first stored event, whatever the range.
    #[schema(format = DateTime)]
    first_seen: String,
    /// Time of the user's last stored event, whatever the range.
    #[schema(format = DateTime)]
    last_seen: String,
    /// Stored events in the range.
    events: u64,
    /// Sum of their values: an exact decimal.
    #[schema(examples("1234.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
    /// Distinct features of these events; `features` lists at most 1,000 of them.
    feature_count: u64,
    /// By feature, most used first.
    features: Vec<UserFeature>,
    /// Every day that touches the range, in order, empty ones included.
    daily: Vec<UserDay>,
}

/// A user's usage of one feature.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserFeature {
    /// The feature (`type` of its events).
    #[schema(examples("report.export"))]
    feature: String,
    /// Stored events in the range.
    events: u64,
    /// Sum of their values: an exact decimal.
    #[schema(examples("12.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
}

/// A user's usage on one day.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDay {
    /// When the day begins by the tenant's calendar; for the first one this may lie before `from`.
    #[schema(format = DateTime)]
    start: String,
    /// Stored events.
    events: u64,
    /// Sum of their values: an exact decimal.
    #[schema(examples("12.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
}

/// One user: when seen, which features, which days, by event time.
///
/// 404 when nothing is stored of the user, or of nobody in this tenant: names of other tenants' users are unknown here.
#[utoipa::path(
    get,
    path = "/v1/dashboard/users/{userId}/analytics",
    operation_id = "getUserAnalytics",
    tag = "dashboard",
    params(
        ("userId" = String, Path, description = "The user as events name them in `subject`, percent-encoded", example = "ann%40example.com"),
        UserParams
    ),
    responses((status = 200, description = "The user", body = UserAnalytics), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    user: Result<Path<String>, PathRejection>,
    Params(params): Params<UserParams>,
) -> Answer<UserAnalytics> {
    // What is empty or not UTF-8 names nobody.
    let user_id =
        user.ok().map(|Path(name)| name).filter(|name| !name.is_empty()).ok_or_else(Problem::not_found)?;
    let policy = &caller.policy;
    let range = Range::parse(params.from.as_deref(), params.to.as_deref(), caller.now_ms, DEFAULT_RANGE_MS)?;
    let starts = tiles::starts(range, Window::Day, &tiles::zone(policy)?, MAX_DAYS);
    let starts = starts.ok_or_else(|| Problem::bad_request("from", "asks for too many days"))?;
    let user_key = app.pseudonyms.key(policy, pseudonyms::NEEDED).await?.user(Some(&user_id));
    let user = query::user::fetch(&app.clickhouse, policy, user_key, range, &starts).await;
    let user = user.map_err(|error| query::failed(policy, &error))?.ok_or_else(Problem::not_found)?;
    Ok(Json(UserAnalytics {
        tenant: policy.name().to_string(),
        user_id,
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        time_zone: policy.snapshot().time_zone.clone(),
        first_seen: rfc3339(user.all.first_seen),
        last_seen: rfc3339(user.all.last_seen),
        events: user.all.events,
        value: user.all.total,
        feature_count: user.all.features,
        features: user.features.into_iter().map(feature).collect(),
        daily: filled(&starts, user.days),
    }))
}

fn feature(row: Row) -> UserFeature {
    UserFeature { feature: row.feature, events: row.events, value: row.total }
}

/// A day for each start; `days` are in order and hold some of them.
fn filled(starts: &[i64], days: Vec<Row>) -> Vec<UserDay> {
    let mut days = days.into_iter().peekable();
    let day = |start: &i64| match days.next_if(|day| day.start == *start) {
        Some(day) => UserDay { start: rfc3339(*start), events: day.events, value: day.total },
        None => UserDay { start: rfc3339(*start), events: 0, value: "0".to_owned() },
    };
    starts.iter().map(day).collect()
}
