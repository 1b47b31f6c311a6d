//! `/livez`, `/readyz`, `/metrics`, and `/debug/state`: what this pod knows, without anything secret.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::App;

/// The routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
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

/// Numbers and versions; no name of a tenant, no key, nothing of an event.
async fn debug_state(State(app): State<Arc<App>>) -> Json<Value> {
    let policies = app.store.load();
    let (pod, clock) = (&app.pod, &app.clock);
    Json(json!({
        "readiness": app.not_ready().unwrap_or("ok"),
        "nats": app.client.is_connected(),
        "clockOffsetMs": clock.offset_ms(),
        "pod": {"incarnation": pod.incarnation.to_string(), "fenced": pod.is_fenced(), "lastBeatAgeMs": pod.beat_age_ms(),
            "livePods": pod.live_pods()},
        "policies": {"synced": policies.synced, "revision": policies.revision, "tenants": policies.directory.len(),
            "refused": policies.refused.len(), "drainedRevision": app.store.drained_revision(),
            "recalls": app.store.recalls().len(),
            "index": policies.index.as_ref().map(|index| json!({"tenants": index.tenants, "epoch": index.epoch}))},
        "slices": app.quotas.slices(),
        "packers": app.lanes.count(),
    }))
}
