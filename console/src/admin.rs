//! `/livez`, `/readyz`, `/metrics` and `/debug/state` (what this process knows, without anything secret), on an address of their own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::App;

/// The routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/debug/state", get(debug_state))
        .with_state(app)
}

/// Ready once keys can be told from unknown ones. ClickHouse and Vault are not asked: while they are down the API answers
/// 503 by itself, and taking every replica out of service would only hide why.
async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    if app.store.load().is_complete() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "policies are still being loaded\n")
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render())
}

/// Numbers; no name of a tenant, no key.
async fn debug_state(State(app): State<Arc<App>>) -> Json<Value> {
    let policies = app.store.load();
    Json(json!({
        "readiness": if policies.is_complete() { "ok" } else { "policies are still being loaded" },
        "policies": {"synced": policies.synced, "tenants": policies.directory.len(),
            "index": policies.index.as_ref().map(|index| json!({"tenants": index.tenants, "epoch": index.epoch}))},
        "freeSimulations": app.simulations.available_permits(),
        "lateDays": app.late_days,
    }))
}
