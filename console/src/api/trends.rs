//! `GET /v1/dashboard/usage/trends`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use policy::window::{Window, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::params::Params;
use super::range::{DAY_MS, HOUR_MS, Range};
use super::tiles;
use crate::App;
use crate::auth::Caller;
use crate::problem::{Problem, Problems};
use crate::query;

/// Most buckets of one answer.
pub const MAX_BUCKETS: usize = 1_000;

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct TrendsParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 24 hours before `to`.
    #[param(example = "now-24h")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
    /// Length of a bucket: `minute`, `hour` or `day`. Default: minutes up to 3 hours, hours up to 14 days, else days. A
    /// range of more than 1,000 buckets is refused.
    #[param(inline, value_type = Option<Interval>, example = "hour")]
    interval: Option<String>,
    /// Only events of this feature, exactly.
    #[param(example = "report.export")]
    feature: Option<String>,
}

/// Length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// A minute of Unix time.
    Minute,
    /// An hour of the tenant's clock.
    Hour,
    /// A day of the tenant's calendar.
    Day,
}

impl Interval {
    fn window(self) -> Window {
        match self {
            Self::Minute => Window::Minute,
            Self::Hour => Window::Hour,
            Self::Day => Window::Day,
        }
    }
}

/// Usage over time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trends {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// Length of a bucket.
    #[schema(inline)]
    interval: Interval,
    /// The tenant's zone (IANA), in which hours and days begin.
    #[schema(examples("Europe/Zurich"))]
    time_zone: String,
    /// The feature that was asked for; null for all.
    feature: Option<String>,
    /// Every bucket that touches the range, in order, empty ones included. The first and the last hold the part of the
    /// range that lies in them.
    data: Vec<Bucket>,
}

/// Usage of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// When it begins by the tenant's calendar; for the first one this may lie before `from`.
    #[schema(format = DateTime)]
    start: String,
    /// Stored events.
    events: u64,
    /// Distinct users of these events, exactly.
    active_users: u64,
    /// Sum of the events' values: an exact decimal.
    #[schema(examples("12.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
}

/// Usage over time, by event time, in buckets of the tenant's calendar.
#[utoipa::path(
    get,
    path = "/v1/dashboard/usage/trends",
    operation_id = "getUsageTrends",
    tag = "dashboard",
    params(TrendsParams),
    responses((status = 200, description = "The buckets", body = Trends), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<TrendsParams>,
) -> Answer<Trends> {
    let policy = &caller.policy;
    let range = Range::parse(params.from.as_deref(), params.to.as_deref(), caller.now_ms, DAY_MS)?;
    let interval = interval(params.interval.as_deref(), range)?;
    let starts = tiles::starts(range, interval.window(), &tiles::zone(policy)?, MAX_BUCKETS);
    let starts = starts.ok_or_else(|| {
        let detail = format!("cuts the range into more than {MAX_BUCKETS} buckets: take a longer one");
        Problem::bad_request("interval", detail)
    })?;
    let (sealed_ms, feature) = (app.sealed_ms(&caller), params.feature.as_deref());
    let rows = query::trends::fetch(&app.clickhouse, policy, range, sealed_ms, &starts, feature);
    let rows = rows.await.map_err(|error| query::failed(policy, &error))?;
    Ok(Json(Trends {
        tenant: policy.name().to_string(),
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        interval,
        time_zone: policy.snapshot().time_zone.clone(),
        feature: params.feature,
        data: filled(&starts, rows),
    }))
}

fn interval(text: Option<&str>, range: Range) -> Result<Interval, Problem> {
    match text {
        Some("minute") => Ok(Interval::Minute),
        Some("hour") => Ok(Interval::Hour),
        Some("day") => Ok(Interval::Day),
        Some(_) => Err(Problem::bad_request("interval", "must be minute, hour or day")),
        None if range.length_ms() <= 3 * HOUR_MS => Ok(Interval::Minute),
        None if range.length_ms() <= 14 * DAY_MS => Ok(Interval::Hour),
        None => Ok(Interval::Day),
    }
}

/// A bucket for each start; `rows` are in order and hold some of them.
fn filled(starts: &[i64], rows: Vec<query::trends::Row>) -> Vec<Bucket> {
    let mut rows = rows.into_iter().peekable();
    let bucket = |start: &i64| match rows.next_if(|row| row.start == *start) {
        Some(row) => Bucket {
            start: rfc3339(*start),
            events: row.events,
            active_users: row.active_users,
            value: row.total,
        },
        None => Bucket { start: rfc3339(*start), events: 0, active_users: 0, value: "0".to_owned() },
    };
    starts.iter().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_the_range_unless_given() {
        let of = |text, length_ms| interval(text, Range { from_ms: 0, to_ms: length_ms }).ok();
        assert_eq!(of(None, 3 * HOUR_MS), Some(Interval::Minute));
        assert_eq!(of(None, 3 * HOUR_MS + 1), Some(Interval::Hour));
        assert_eq!(of(None, 14 * DAY_MS), Some(Interval::Hour));
        assert_eq!(of(None, 14 * DAY_MS + 1), Some(Interval::Day));
        assert_eq!(of(Some("day"), 1), Some(Interval::Day));
        assert_eq!(of(Some("week"), 1), None);
    }

    #[test]
    fn the_default_interval_never_exceeds_the_bound() {
        for length_ms in [3 * HOUR_MS, 14 * DAY_MS, 400 * DAY_MS] {
            let range = Range { from_ms: 1, to_ms: 1 + length_ms };
            let window = interval(None, range).unwrap().window();
            assert!(tiles::starts(range, window, &jiff::tz::TimeZone::UTC, MAX_BUCKETS).is_some());
        }
    }

    #[test]
    fn buckets_without_events_are_filled_in() {
        let row = |start| query::trends::Row { start, events: 2, active_users: 1, total: "3.5".into() };
        let events: Vec<u64> =
            filled(&[0, 10, 20, 30], vec![row(10), row(30)]).iter().map(|b| b.events).collect();
        assert_eq!(events, [0, 2, 0, 2]);
    }
}
