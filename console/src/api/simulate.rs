//! `POST /v1/admin/policies/simulate`

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use policy::limit::Limit;
use policy::simulate::{Outcome, Simulation, Stored};
use policy::stored::Row;
use policy::tenant::TenantPolicy;
use policy::window::rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Answer;
use super::body::Body;
use super::range::{DAY_MS, Range};
use super::usage_limits::checked;
use crate::App;
use crate::auth::Caller;
use crate::problem::{Problem, Problems, WriteProblems};
use crate::query;
use crate::query::history;

/// Longest simulation, days.
const MAX_DAYS: u16 = 92;
/// Users listed at most.
const MAX_WORST: u16 = 1_000;
/// Users listed when nothing is said.
const DEFAULT_WORST: u16 = 20;
/// How long a simulation may take altogether.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A proposed limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proposal {
    /// The spec of a UsageLimit. Its mode does not matter: it is tried as if it were enforced.
    #[schema(value_type = Object, examples(json!({"per": "User", "quota": {"max": 50, "period": "Day"}})))]
    spec: Value,
    /// Days back from now, 1 to 92. Default: 7.
    #[schema(minimum = 1, maximum = 92)]
    days: Option<u16>,
    /// Name that the limit would have: a partial rollout reaches other users under another name. Default: `proposed`.
    name: Option<String>,
    /// Namespace that it would stand in. Default: the tenant's first one.
    namespace: Option<String>,
    /// Users that are listed at most, 0 to 1,000. Default: 20.
    #[schema(minimum = 0, maximum = 1_000)]
    worst: Option<u16>,
}

/// Who would have been blocked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Simulated {
    /// Name of the tenant.
    #[schema(examples("acme"))]
    tenant: String,
    /// First moment of receipt that is told about.
    #[schema(format = DateTime)]
    from: String,
    /// First moment after it.
    #[schema(format = DateTime)]
    to: String,
    /// Beginning of the first period: what was received from here on was counted.
    #[schema(format = DateTime)]
    counted_from: String,
    /// Stored events of these days, of features that the limit names.
    events: u64,
    /// Events among them that the limit counts.
    counted_events: u64,
    /// Events that it would have blocked.
    blocked_events: u64,
    /// Units of these events.
    blocked_units: u64,
    /// Distinct users that it would have blocked.
    blocked_users: u64,
    /// Events without a number where the limit sums one: they would have been refused as wrong.
    unreadable_events: u64,
    /// Receipt of the first blocked event; null when there is none.
    #[schema(format = DateTime)]
    first_blocked: Option<String>,
    /// Users with the most blocked events.
    worst_users: Vec<BlockedUser>,
}

/// A user who would have been blocked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedUser {
    /// The user, as events name them in `subject`; null for events without a user.
    #[schema(examples("ann@example.com"))]
    user_id: Option<String>,
    /// The user's pseudonym.
    user_key: String,
    /// Events that would have been blocked.
    blocked_events: u64,
    /// Receipt of the first.
    #[schema(format = DateTime)]
    first: String,
    /// Receipt of the last.
    #[schema(format = DateTime)]
    last: String,
}

/// Who would have been blocked in the last days by a proposed limit, from the stored events.
///
/// The events are put through the decision of the ingest pods in the order of their receipt; nothing is written. What other
/// limits refused at the time is not stored, and so not part of it.
#[utoipa::path(
    post,
    path = "/v1/admin/policies/simulate",
    operation_id = "simulatePolicy",
    tag = "admin",
    request_body = Proposal,
    responses((status = 200, description = "What it would have done", body = Simulated), Problems, WriteProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(proposal): Body<Proposal>,
) -> Answer<Simulated> {
    let (policy, days) = (&caller.policy, proposal.days.unwrap_or(7));
    let worst = proposal.worst.unwrap_or(DEFAULT_WORST);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(Problem::unprocessable("days", format!("must lie between 1 and {MAX_DAYS}")));
    }
    if worst > MAX_WORST {
        return Err(Problem::unprocessable("worst", format!("must be {MAX_WORST} at most")));
    }
    let limit = limit(policy, proposal)?;
    let to_ms = caller.now_ms;
    let from_ms = to_ms - i64::from(days) * DAY_MS;
    let wrong = |error: policy::tenant::Unusable| Problem::unprocessable("spec", error.to_string());
    let simulation = Simulation::new(policy.snapshot(), limit.clone(), from_ms).map_err(wrong)?;
    let counted_from_ms = simulation.counts_from_ms();
    let Ok(_turn) = app.simulations.try_acquire() else {
        return Err(Problem::unavailable("other simulations are running: try again when they are done"));
    };
    let range = Range { from_ms: counted_from_ms, to_ms };
    let outcome = run(&app, policy, &limit, simulation, range).await?.finish(usize::from(worst));
    Ok(Json(shown(policy, [from_ms, to_ms, counted_from_ms], outcome)))
}

fn limit(policy: &TenantPolicy, proposal: Proposal) -> Result<Limit, Problem> {
    let rule = checked(&proposal.spec)?;
    let name = proposal.name.unwrap_or_else(|| "proposed".to_owned());
    let first = || policy.snapshot().namespaces.first().cloned().unwrap_or_default();
    let namespace = proposal.namespace.unwrap_or_else(first);
    crate::proposed::limit(format!("ns.{namespace}.{name}"), name, &rule.rule)
}

/// Reads the range slice by slice, so that neither side holds more than one.
async fn run(
    app: &App,
    policy: &TenantPolicy,
    limit: &Limit,
    mut simulation: Simulation,
    range: Range,
) -> Result<Simulation, Problem> {
    let (deadline, step_ms) = (Instant::now() + TIME_LIMIT, history::slice_ms(limit));
    let mut from_ms = range.from_ms;
    while from_ms < range.to_ms {
        if Instant::now() > deadline {
            return Err(Problem::unavailable("the simulation took too long: ask for fewer days"));
        }
        let slice = Range { from_ms, to_ms: (from_ms + step_ms).min(range.to_ms) };
        let each = |row: &Row<'_>| take(policy, &mut simulation, row);
        let read = history::read(&app.clickhouse, policy, limit, slice, each).await;
        if let Err(detail) = read.map_err(|error| query::failed(policy, &error))? {
            tracing::warn!(tenant = %policy.name(), detail, "a simulation was given up");
            return Err(Problem::unprocessable("spec", detail));
        }
        from_ms = slice.to_ms;
    }
    Ok(simulation)
}

fn take(policy: &TenantPolicy, simulation: &mut Simulation, row: &Row<'_>) -> Result<(), String> {
    let (event, user) = row.event(policy.snapshot())?;
    let stored = Stored { event: &event, user, received_ms: row.received_ms };
    simulation.take(stored).map_err(|error| error.to_string())
}

fn shown(policy: &TenantPolicy, [from_ms, to_ms, counted_from_ms]: [i64; 3], outcome: Outcome) -> Simulated {
    let user = |user: policy::simulate::BlockedUser| BlockedUser {
        user_id: user.user,
        user_key: user.user_key.to_string(),
        blocked_events: user.events,
        first: rfc3339(user.first_ms),
        last: rfc3339(user.last_ms),
    };
    Simulated {
        tenant: policy.name().to_string(),
        from: rfc3339(from_ms),
        to: rfc3339(to_ms),
        counted_from: rfc3339(counted_from_ms),
        events: outcome.seen.events,
        counted_events: outcome.seen.counted,
        blocked_events: outcome.seen.blocked,
        blocked_units: outcome.seen.blocked_units,
        blocked_users: outcome.blocked_users,
        unreadable_events: outcome.seen.unreadable,
        first_blocked: outcome.seen.first_blocked_ms.map(rfc3339),
        worst_users: outcome.worst.into_iter().map(user).collect(),
    }
}
