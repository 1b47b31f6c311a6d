//! `POST /v1/usage/events`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::{auth, body, headers};
use crate::App;
use crate::admit::{self, Admission, Rejected, Warning};
use crate::metrics::RequestLabels;
use crate::problem::Problem;

/// What was accepted, and what was not and why.
#[derive(Debug, Serialize)]
struct Accepted<'a> {
    accepted: usize,
    duplicates: usize,
    rejected: &'a [Rejected],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [Warning],
}

/// Answers one request.
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let begun = Instant::now();
    let response = match answer(&app, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    app.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    app.metrics.requests.get_or_create(&RequestLabels { status: response.status().as_u16() }).inc();
    response
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response, Problem> {
    if let Some(reason) = app.not_ready() {
        return Err(Problem::unavailable(reason));
    }
    let (head, content) = request.into_parts();
    let policies = app.store.load_full();
    let caller = auth::authenticate(&head.headers, &policies, app.clock.now_ms())?;
    let mode = body::mode(&head.headers)?;
    let bytes = body::read(&head.headers, content).await?;
    // A client that hangs up drops this future; units that were taken must still be settled, so a task of its own
    // carries the request to its end.
    let (app, name) = (app.clone(), caller.policy.name().to_string());
    let tenant = name.clone();
    let admitted = tokio::spawn(async move {
        let admission = admit::admit(&app, &policies, &caller, &mode, &bytes).await?;
        admission.count(&app.metrics, &tenant);
        Ok::<_, Problem>(admission)
    });
    match admitted.await {
        Ok(admission) => {
            let admission = admission?;
            let mut response = respond(&name, &admission).unwrap_or_else(Problem::into_response);
            headers::apply(response.headers_mut(), &admission.standings, admission.limited.as_deref());
            Ok(response)
        }
        Err(error) => {
            tracing::error!(tenant = name, %error, "a request ended in a panic");
            Err(Problem::unavailable("the request could not be completed: send the same ids again"))
        }
    }
}

fn respond(tenant: &str, admission: &Admission) -> Result<Response, Problem> {
    if admission.accepted + admission.duplicates > 0 {
        let body = Accepted {
            accepted: admission.accepted,
            duplicates: admission.duplicates,
            rejected: &admission.rejected,
            warnings: &admission.warnings,
        };
        let mut response = Response::new(serde_json::to_vec(&body).unwrap_or_default().into());
        *response.status_mut() = StatusCode::ACCEPTED;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok(response);
    }
    let rejected = serde_json::to_value(&admission.rejected).unwrap_or_default();
    Err(match (&admission.limited, &admission.denied) {
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
            let retry_after_s = Some(limited.retry_after_ms.div_ceil(1_000).max(1));
            Problem { retry_after_s, ..problem }
                .with("limit", limit)
                .with("retryAfterMs", limited.retry_after_ms)
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
    })
}
