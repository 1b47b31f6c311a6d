//! `POST /v1/usage/events`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::document::{BodyProblems, Event, Events, Problems, Refusals};
use super::headers;
use super::request::{self, Judged, Received, json};
use crate::App;
use crate::admit::{self, Admission, Rejected, Warning};
use crate::problem::Problem;

/// What was accepted, and what was not and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted<'a> {
    /// Events that are on disk now, repeats of earlier requests among them: they are stored once.
    accepted: usize,
    /// Events whose id stood earlier in the same request.
    duplicates: usize,
    /// Events that were refused.
    rejected: &'a [Rejected],
    /// Limits and access policies on trial that accepted events were beyond.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    warnings: &'a [Warning],
}

/// Reports usage.
///
/// Events are decided in their order. 202 when at least one was accepted; `rejected` says what became of the others.
#[utoipa::path(
    post,
    path = "/v1/usage/events",
    operation_id = "postEvents",
    tag = "events",
    request_body(content(
        (Events = "application/json"),
        (Event = "application/cloudevents+json"),
        (Vec<Event> = "application/cloudevents-batch+json")
    )),
    responses((status = 202, description = "Kept", body = Accepted<'_>), Problems, BodyProblems, Refusals),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    request::answer(app, request, answer).await
}

async fn answer(app: Arc<App>, received: Received) -> Result<Response, Problem> {
    let (Judged { policies, caller }, mode, bytes) = received.body(&app).await?;
    let tenant = caller.policy.name().to_string();
    let name = tenant.clone();
    let admission = request::to_the_end(&tenant, async move {
        let admission = admit::admit(&app, &policies, &caller, &mode, &bytes).await?;
        admission.count(&app.metrics, &name);
        Ok(admission)
    });
    let admission = admission.await?;
    #[cfg(feature = "crash-points")]
    crash_points::pass("P4").map_err(|failed| Problem::unavailable(failed.to_string()))?;
    Ok(respond(&tenant, &admission))
}

/// 202 when at least one event was accepted, otherwise the problem that says why none was.
pub fn respond(tenant: &str, admission: &Admission) -> Response {
    let mut response = if admission.accepted + admission.duplicates > 0 {
        let body = Accepted {
            accepted: admission.accepted,
            duplicates: admission.duplicates,
            rejected: &admission.rejected,
            warnings: &admission.warnings,
        };
        json(StatusCode::ACCEPTED, &body)
    } else {
        refused(tenant, admission).into_response()
    };
    headers::apply(response.headers_mut(), &admission.standings, admission.limited.as_deref());
    response
}

/// Why no event was accepted: by the first limit, else the first access policy, else what is wrong with the first event.
fn refused(tenant: &str, admission: &Admission) -> Problem {
    let rejected = serde_json::to_value(&admission.rejected).unwrap_or_default();
    match (&admission.limited, &admission.denied) {
        (Some(limited), _) => {
            let invalid = admission.rejected.iter().filter(|rejected| rejected.limit.is_none()).count();
            let never = match invalid {
                0 => String::new(),
                _ => format!("; {invalid} other events are invalid and will never be accepted: see rejected"),
            };
            let detail = format!(
                "limit {:?} of {} per {:?} is used up for {tenant} ({} used){never}",
                limited.limit, limited.max, limited.window, limited.used
            );
            let limit = serde_json::json!({
                "name": limited.limit, "identity": limited.identity, "max": limited.max, "used": limited.used,
                "window": format!("{:?}", limited.window),
            });
            let kind = "urn:meterplane:problem:plan-limit-exceeded";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, kind, "Plan Limit Exceeded", detail);
            let retry_after_s = limited.retry_after_ms.map(|ms| ms.div_ceil(1_000).max(1));
            let problem = Problem { retry_after_s, ..problem }.with("limit", limit);
            match limited.retry_after_ms {
                Some(ms) => problem.with("retryAfterMs", ms),
                None => problem,
            }
            .with("rejected", rejected)
        }
        (None, Some(denial)) => {
            let kind = "urn:meterplane:problem:access-denied";
            let detail = admit::not_admitted(denial);
            let policy = serde_json::json!({
                "name": denial.policy, "identity": denial.identity, "rule": denial.rule,
            });
            Problem::new(StatusCode::FORBIDDEN, kind, "Access Denied", detail)
                .with("policy", policy)
                .with("rejected", rejected)
        }
        (None, None) => {
            let first = admission.rejected.first();
            let detail = first.map_or_else(String::new, |first| format!("{} {}", first.field, first.detail));
            let kind = "urn:meterplane:problem:events-rejected";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, "Events Rejected", detail)
                .field(first.map(|first| first.field.clone()).unwrap_or_default())
                .with("rejected", rejected)
        }
    }
}
