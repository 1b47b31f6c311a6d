//! `/livez`, `/readyz`, `/metrics`, and `/debug/state`: what this process knows, without anything secret.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::context::Context;

/// The process, once it has found what it needs.
pub type Started = std::sync::Arc<std::sync::OnceLock<std::sync::Arc<Context>>>;

/// The admin endpoints.
pub fn router(started: Started) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
        .with_state(started)
}

async fn ready(State(started): State<Started>) -> Response {
    match not_ready(&started) {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

/// Ready is what it takes to hold lanes; ClickHouse is not part of it, because waiting for it is this process's work.
fn not_ready(started: &Started) -> Option<&'static str> {
    let Some(context) = started.get() else {
        return Some("starting: NATS does not answer, or its buckets do not exist yet");
    };
    if context.lease.current().is_none() {
        Some("no lease: NATS does not answer")
    } else if !context.holders.is_synced() {
        Some("the other sinks are not known yet")
    } else if !context.discovered.load(Ordering::Relaxed) {
        Some("the lanes are not known yet")
    } else {
        None
    }
}

/// Numbers, and names of lanes as in the metrics; nothing of an event.
async fn debug_state(State(started): State<Started>) -> Json<Value> {
    let shared = started.get().map(|context| {
        let gaps = context.gaps.lock().unwrap_or_else(PoisonError::into_inner).len();
        let held = context.held.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes: Vec<String> = held.iter().map(ToString::to_string).collect();
        json!({
            "nats": context.nats.is_connected(),
            "lease": context.lease.current().map(|id| id.to_string()),
            "otherSinksKnown": context.holders.is_synced(),
            "lanes": {"known": context.discovered.load(Ordering::Relaxed), "held": lanes, "withGaps": gaps,
                "active": context.budget.active_lanes(Instant::now())},
            "dedupBytes": context.memory.used(),
            "freeBufferMib": context.buffers.available_permits(),
            "repeatsKnownForDays": context.horizon_days,
        })
    });
    Json(json!({"readiness": not_ready(&started).unwrap_or("ok"), "shared": shared}))
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
