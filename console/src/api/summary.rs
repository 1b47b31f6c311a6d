//! `GET /v1/dashboard/summary`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clickhouse::ClickHouseError;
use policy::limit::{Limit, Mode, Per};
use policy::window::{Window, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::params::Params;
use super::range::{DAY_MS, Range};
use super::tiles;
use crate::App;
use crate::auth::Caller;
use crate::problem::{Problem, Problems};
use crate::pseudonyms;
use crate::query::{self, limits::Counted};

/// Parameters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub struct SummaryParams {
    /// Name of the key's tenant, to make sure of it. Any other name is answered 404.
    #[allow(dead_code, reason = "the key decides; auth compares it")]
    tenant: Option<String>,
    /// First moment: RFC 3339, or `now-15m`, `now-24h`, `now-7d`. Default: 24 hours before `to`.
    #[param(example = "now-24h")]
    from: Option<String>,
    /// First moment after it. Default: `now`.
    #[param(example = "now")]
    to: Option<String>,
}

/// A tenant's usage at a glance.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// Its name for people.
    #[schema(examples("Acme Corp"))]
    display_name: String,
    /// First moment of the range.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after the range.
    #[schema(format = DateTime)]
    to: String,
    /// Stored events.
    events: u64,
    /// Distinct users of these events, exactly. Events without a user count for none.
    active_users: u64,
    /// Distinct features of these events.
    features: u64,
    /// Sum of the events' values: an exact decimal.
    #[schema(examples("1234.5"), pattern = r"^-?\d+(\.\d+)?$")]
    value: String,
    /// Latencies that the events report; null when none does.
    latency: Option<Latency>,
    /// Every limit in force, the Plan's first.
    limits: Vec<LimitUse>,
}

/// Exact percentiles of `data.latencyMs`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Events that report a latency.
    events: u64,
    /// Median, milliseconds.
    p50_ms: u32,
    /// 95th percentile, milliseconds.
    p95_ms: u32,
    /// 99th percentile, milliseconds.
    p99_ms: u32,
}

/// A limit and how much of it is used in its current period.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitUse {
    /// The name people know it by.
    #[schema(examples("events-per-month"))]
    name: String,
    /// Where it is declared: `plan.<name>` or `ns.<namespace>.<name>`.
    #[schema(examples("plan.events-per-month"))]
    identity: String,
    /// Who shares it.
    per: Sharing,
    /// Units a window.
    max: u64,
    /// The window after which counting begins anew, by the tenant's calendar.
    window: Cycle,
    /// What happens at the limit.
    mode: Action,
    /// Units of the stored events *received* in the current period. It follows the quota's own count, which decides, by the
    /// time an event takes to be stored; events that were sent twice are stored, and counted here, once. Null where it
    /// cannot be told from stored events (limits that are not shared by the whole tenant, and those that match by an
    /// expression), and while it cannot be counted (it takes too long, or the limit's users cannot be looked up).
    used: Option<u64>,
    /// `max - used`, at least zero; null where `used` is.
    remaining: Option<u64>,
    /// Start of the current period; null for `Total`.
    #[schema(format = DateTime)]
    period_start: Option<String>,
    /// Start of the next period; null for `Total`.
    #[schema(format = DateTime)]
    period_end: Option<String>,
}

/// Who shares a limit.
#[derive(Debug, Serialize, ToSchema)]
pub enum Sharing {
    /// The whole tenant.
    Tenant,
    /// Each user has their own.
    User,
    /// Each API key has its own.
    ApiKey,
}

impl From<Per> for Sharing {
    fn from(per: Per) -> Self {
        match per {
            Per::Tenant => Self::Tenant,
            Per::User => Self::User,
            Per::ApiKey => Self::ApiKey,
        }
    }
}

/// How long a limit counts.
#[derive(Debug, Serialize, ToSchema)]
pub enum Cycle {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of the tenant's calendar.
    Day,
    /// A month of the tenant's calendar.
    Month,
    /// For ever.
    Total,
}

impl From<Window> for Cycle {
    fn from(window: Window) -> Self {
        match window {
            Window::Second => Self::Second,
            Window::Minute => Self::Minute,
            Window::Hour => Self::Hour,
            Window::Day => Self::Day,
            Window::Month => Self::Month,
            Window::Total => Self::Total,
        }
    }
}

/// What happens at a limit.
#[derive(Debug, Serialize, ToSchema)]
pub enum Action {
    /// Nothing.
    Observe,
    /// Answers warn.
    Warn,
    /// Events beyond it are refused.
    Enforce,
}

impl From<Mode> for Action {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Warn => Self::Warn,
            Mode::Enforce => Self::Enforce,
        }
    }
}

/// Usage of a range and the state of every limit.
///
/// Events of the range are counted by event time. Limits are shown for their current periods, whatever the range.
#[utoipa::path(
    get,
    path = "/v1/dashboard/summary",
    operation_id = "getSummary",
    tag = "dashboard",
    params(SummaryParams),
    responses((status = 200, description = "The summary", body = Summary), Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<SummaryParams>,
) -> Answer<Summary> {
    let range = Range::parse(params.from.as_deref(), params.to.as_deref(), caller.now_ms, DAY_MS)?;
    let policy = &caller.policy;
    let (totals, limits) = tokio::join!(
        async {
            query::summary::fetch(&app.clickhouse, policy, range, app.sealed_ms(&caller))
                .await
                .map_err(|e| query::failed(policy, &e))
        },
        limits(&app, &caller)
    );
    let totals = totals?;
    let [p50_ms, p95_ms, p99_ms] = totals.latencies;
    let latency =
        (totals.measured > 0).then_some(Latency { events: totals.measured, p50_ms, p95_ms, p99_ms });
    Ok(Json(Summary {
        tenant: policy.name().to_string(),
        display_name: policy.snapshot().display_name.clone(),
        from: rfc3339(range.from_ms),
        to: rfc3339(range.to_ms),
        events: totals.events,
        active_users: totals.active_users,
        features: totals.features,
        value: totals.total,
        latency,
        limits: limits?,
    }))
}

async fn limits(app: &App, caller: &Caller) -> Result<Vec<LimitUse>, Problem> {
    let (policy, zone) = (&caller.policy, tiles::zone(&caller.policy)?);
    let limits = &policy.snapshot().limits;
    let names_users = limits.iter().any(|limit| is_countable(limit) && !limit.matches.users.is_empty());
    // Without the key only those limits stay uncounted: the rest of the dashboard is worth showing.
    let key = if names_users { app.pseudonyms.key(policy, pseudonyms::WELCOME).await.ok() } else { None };
    let countable = |limit: &Limit| is_countable(limit) && (limit.matches.users.is_empty() || key.is_some());
    let all: Vec<Counted<'_>> = limits
        .iter()
        .map(|limit| Counted { limit, period: limit.window.period(caller.now_ms, &zone) })
        .collect();
    let counted: Vec<Counted<'_>> = all.iter().filter(|counted| countable(counted.limit)).copied().collect();
    let mut used = match query::limits::fetch(&app.clickhouse, policy, &counted, key.as_ref()).await {
        Ok(used) => used,
        Err(error @ ClickHouseError::Overloaded { .. }) => {
            tracing::warn!(tenant = %policy.name(), %error, "the use of limits could not be counted in time");
            Vec::new()
        }
        Err(error) => return Err(query::failed(policy, &error)),
    }
    .into_iter();
    let shown = all.iter().map(|counted| {
        let used = if countable(counted.limit) { used.next() } else { None };
        shown(counted, used)
    });
    Ok(shown.collect())
}

/// Whether stored events tell what a limit counted.
fn is_countable(limit: &Limit) -> bool {
    limit.per == Per::Tenant && limit.matches.expression.is_none()
}

fn shown(counted: &Counted<'_>, used: Option<u64>) -> LimitUse {
    let Counted { limit, period } = counted;
    let moment = |ms: i64| (limit.window != Window::Total).then(|| rfc3339(ms));
    LimitUse {
        name: limit.name.clone(),
        identity: limit.identity.clone(),
        per: limit.per.into(),
        max: limit.max,
        window: limit.window.into(),
        mode: limit.mode.into(),
        used,
        remaining: used.map(|used| limit.max.saturating_sub(used)),
        period_start: moment(period.start_ms),
        period_end: moment(period.end_ms),
    }
}
