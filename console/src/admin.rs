//! `/livez`, `/readyz` and `/metrics`, on an address of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::App;

/// The routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
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
