//! The public API and the admin endpoints.

mod auth;
mod body;
mod check;
mod events;
mod gzip;
mod headers;
mod request;
mod reservations;

pub use auth::Caller;
pub use body::Mode;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::App;
use crate::problem::Problem;

/// Events, checks and reservations; every other path is a 404 problem.
pub fn public(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/usage/events", post(events::post).fallback(method_not_allowed))
        .route("/v1/usage/check", post(check::post).fallback(method_not_allowed))
        .route("/v1/usage/reservations", post(reservations::post).fallback(method_not_allowed))
        .route("/v1/usage/reservations/{id}", delete(reservations::delete).fallback(method_not_allowed))
        .route("/v1/usage/reservations/{id}/commit", post(reservations::commit).fallback(method_not_allowed))
        .fallback(not_found)
        .with_state(app)
}

/// `/livez`, `/readyz`, `/metrics`.
pub fn admin(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.not_ready() {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render()).into_response()
}

async fn not_found() -> Response {
    let detail = "there is nothing at this path: events are posted to /v1/usage/events";
    Problem::new(StatusCode::NOT_FOUND, "urn:meterplane:problem:not-found", "Not Found", detail)
        .into_response()
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("{} is not allowed here: Allow says what is", request.method());
    let kind = "urn:meterplane:problem:method-not-allowed";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, kind, "Method Not Allowed", detail).into_response()
}
