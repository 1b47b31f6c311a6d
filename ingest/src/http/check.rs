//! `POST /v1/usage/check`: what would become of events, without recording or charging them.
//!
//! Advice only: units that are there now may be gone when the events come, and units that other pods hold may come back.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use event::pseudonym::PseudonymKey;
use event::violation::Effect;
use event::wire::UsageEvent;
use policy::decide::{Cause, Facts, Need, decide};
use policy::tenant::{Periods, QuotaKey};
use serde::Serialize;
use utoipa::ToSchema;

use super::document::{BodyProblems, Event, Events, Problems};
use super::request::{self, Judged, Received, json};
use super::{Caller, headers};
use crate::App;
use crate::admit::{self, Rejected};
use crate::problem::Problem;
use crate::quota::Standing;
use crate::snapshot::Policies;

/// What the check says of a request's events, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// Always true: nothing is promised.
    advisory: bool,
    /// One for each event, in order.
    results: Vec<Verdict>,
}

/// What would become of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verdict {
    /// The event's place in the request.
    index: usize,
    /// Whether it would be accepted now.
    permit: bool,
    /// Why not, as `/v1/usage/events` would say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    denial: Option<Rejected>,
    /// Limits that count it, as they stand without it.
    limits: Vec<LimitView>,
}

/// One limit for one event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitView {
    /// Its name.
    name: String,
    /// Its identity: `plan.<name>` or `ns.<namespace>.<name>`.
    identity: String,
    /// Units of the window.
    max: u64,
    /// The window.
    #[schema(examples("Day"))]
    window: String,
    /// Units that the event needs.
    units: u64,
    /// Units that the pod that was asked could admit at once.
    remaining: u64,
    /// Units that other pods hold, spent or not; they are asked before anybody is refused.
    elsewhere: u64,
    /// Milliseconds until the window ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reset_ms: Option<u64>,
    /// The highest of its warning percentages that its use has reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    warned_at: Option<u8>,
}

/// What would become of events.
///
/// Nothing is recorded or charged, and nothing is promised.
#[utoipa::path(
    post,
    path = "/v1/usage/check",
    operation_id = "checkEvents",
    tag = "events",
    request_body(content(
        (Events = "application/json"),
        (Event = "application/cloudevents+json"),
        (Vec<Event> = "application/cloudevents-batch+json")
    )),
    responses((status = 200, description = "What would become of each", body = Checked), Problems, BodyProblems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    request::answer(app, request, answer).await
}

async fn answer(app: Arc<App>, received: Received) -> Result<Response, Problem> {
    let (Judged { policies, caller }, mode, bytes) = received.body(&app).await?;
    let snapshot = caller.policy.snapshot();
    let pseudonyms = app.pseudonym_key(snapshot).await?;
    let received_ms = app.clock.now_ms();
    let periods = caller.policy.periods(received_ms);
    let mut check = Check {
        app: &app,
        policies: &policies,
        caller: &caller,
        received_ms,
        periods,
        known: HashMap::new(),
    };
    let mut results = Vec::new();
    for (index, event) in admit::parse(&mode, &bytes)?.into_iter().enumerate() {
        results.push(match event {
            Ok(event) => check.event(index, &event, &pseudonyms).await?,
            Err(invalid) => Verdict::denied(index, Rejected::invalid(index, invalid)),
        });
    }
    let body = Checked { advisory: true, results };
    let mut response = json(StatusCode::OK, &body);
    let standings: Vec<Standing> = check.known.into_values().collect();
    headers::apply(response.headers_mut(), &standings, None);
    Ok(response)
}

/// A check under way: every limit is asked once, and what earlier events of the request would take is gone for later ones.
struct Check<'a> {
    app: &'a App,
    policies: &'a Policies,
    caller: &'a Caller,
    received_ms: i64,
    periods: Periods,
    known: HashMap<QuotaKey, Standing>,
}

impl Check<'_> {
    async fn event(
        &mut self,
        index: usize,
        event: &UsageEvent<'_>,
        pseudonyms: &PseudonymKey,
    ) -> Result<Verdict, Problem> {
        let (_, user) = admit::identify(pseudonyms, event, &self.caller.key.id);
        let facts =
            Facts { key: &self.caller.key, user, received_ms: self.received_ms, periods: &self.periods };
        let needs = match decide(&self.caller.policy, event, &facts).map_err(|denial| denial.cause) {
            Ok(permit) => permit.needs,
            Err(Cause::Invalid(invalid)) => {
                return Ok(Verdict::denied(index, Rejected::invalid(index, invalid)));
            }
            Err(Cause::Access(denial)) => {
                return Ok(Verdict::denied(index, Rejected::denied(index, &denial)));
            }
        };
        // Limits on trial keep no event out, and are no concern of the client's.
        let needs: Vec<Need> = needs.into_iter().filter(|need| need.effect == Effect::Refused).collect();
        for need in &needs {
            self.look(need).await?;
        }
        let mut verdict = Verdict { index, permit: true, denial: None, limits: Vec::new() };
        for need in &needs {
            let Some(standing) = self.known.get(&need.key) else { continue };
            verdict.limits.push(LimitView::new(standing, need.units));
            if need.units > standing.remaining.saturating_add(standing.elsewhere) && verdict.permit {
                verdict = Verdict { permit: false, denial: Some(limited(index, standing)), ..verdict };
            }
        }
        if verdict.permit {
            for need in &needs {
                if let Some(standing) = self.known.get_mut(&need.key) {
                    let here = need.units.min(standing.remaining);
                    standing.remaining -= here;
                    standing.elsewhere = standing.elsewhere.saturating_sub(need.units - here);
                }
            }
        }
        Ok(verdict)
    }

    async fn look(&mut self, need: &Need) -> Result<(), Problem> {
        if self.known.contains_key(&need.key) {
            return Ok(());
        }
        let standing = self.app.quotas.peek(&self.caller.policy, &self.policies.ledgers, need).await;
        let standing = standing
            .map_err(|why| Problem::unavailable(format!("the quota ledger is not available: {why}")))?;
        self.known.insert(need.key, standing);
        Ok(())
    }
}

fn limited(index: usize, standing: &Standing) -> Rejected {
    let used = standing.max.saturating_sub(standing.remaining);
    Rejected::limited(index, &standing.limit, used, standing.max, standing.reset_ms)
}

impl Verdict {
    fn denied(index: usize, denial: Rejected) -> Self {
        Self { index, permit: false, denial: Some(denial), limits: Vec::new() }
    }
}

impl LimitView {
    fn new(standing: &Standing, units: u64) -> Self {
        Self {
            name: standing.limit.clone(),
            identity: standing.identity.clone(),
            max: standing.max,
            window: format!("{:?}", standing.window),
            units,
            remaining: standing.remaining,
            elsewhere: standing.elsewhere,
            reset_ms: standing.reset_ms,
            warned_at: standing.warned_at,
        }
    }
}
