//! `/livez`, `/readyz`, `/metrics`.

use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::context::Context;

/// The process, once it has found what it needs.
pub type Started = std::sync::Arc<std::sync::OnceLock<std::sync::Arc<Context>>>;

/// The admin endpoints.
pub fn router(started: Started) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(started)
}

/// Ready is what it takes to hold lanes; ClickHouse is not part of it, because waiting for it is this process's work.
async fn ready(State(started): State<Started>) -> Response {
    let Some(context) = started.get() else {
        let reason = "starting: NATS does not answer, or its buckets do not exist yet";
        return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    };
    let reason = if context.lease.current().is_none() {
        "no lease: NATS does not answer"
    } else if !context.holders.is_synced() {
        "the other sinks are not known yet"
    } else if !context.discovered.load(Ordering::Relaxed) {
        "the lanes are not known yet"
    } else {
        return "ok".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn metrics(State(started): State<Started>) -> Response {
    let Some(context) = started.get() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let metrics = &context.metrics;
    metrics.dedup_bytes.set(i64::try_from(context.memory.used()).unwrap_or(i64::MAX));
    metrics.active_lanes.set(i64::from(context.budget.active_lanes(Instant::now())));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.render()).into_response()
}
