//! /livez, /readyz, /metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::RwLock;
use tokio::net::TcpListener;

use crate::context::Context;
use crate::controllers::orders::{Mode, Orders};
use crate::engine::Cache;
use crate::observe::Metrics;

/// What the endpoints tell about; the context comes when start-up has built it.
#[derive(Clone, Default)]
pub struct Admin {
    metrics: Metrics,
    context: Arc<RwLock<Option<Arc<Context>>>>,
}

impl Admin {
    /// The metrics that are told.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Start-up is over.
    pub fn started(&self, context: Arc<Context>) {
        *self.context.write() = Some(context);
    }

    /// Why the process is not ready, if so.
    fn not_ready(&self) -> Option<&'static str> {
        let context = self.context.read();
        let Some(ctx) = context.as_ref() else { return Some("starting") };
        let synced = ctx.plans.is_synced()
            && ctx.tenants.is_synced()
            && ctx.limits.is_synced()
            && ctx.access.is_synced()
            && ctx.keys.is_synced();
        if !synced {
            Some("caches are not synced")
        } else if !ctx.nats.is_connected() {
            Some("NATS is not connected")
        } else {
            None
        }
    }

    fn note_gauges(&self) {
        let context = self.context.read();
        let Some(ctx) = context.as_ref() else { return };
        let queues = &ctx.queues;
        for (name, queue) in [
            ("plan", &queues.plan),
            ("tenant", &queues.tenant),
            ("slice", &queues.slice),
            ("usagelimit", &queues.usage_limit),
            ("accesspolicy", &queues.access_policy),
            ("apikey", &queues.api_key),
        ] {
            self.metrics.queue(name, queue);
        }
        self.metrics.unreadable("Plan", ctx.plans.unreadable());
        self.metrics.unreadable("Tenant", ctx.tenants.unreadable());
        self.metrics.unreadable("UsageLimit", ctx.limits.unreadable());
        self.metrics.unreadable("AccessPolicy", ctx.access.unreadable());
        self.metrics.unreadable("ApiKey", ctx.keys.unreadable());
        self.metrics.paused("Tenant", on_hold(&ctx.tenants));
        self.metrics.paused("LanePool", on_hold(&ctx.pools));
    }
}

/// Objects that an annotation keeps from being changed outside of Kubernetes.
fn on_hold<K: kube::Resource>(cache: &Cache<K>) -> usize {
    cache.list().iter().filter(|object| Orders::of(object.as_ref()).mode != Mode::Active).count()
}

/// Serves for ever.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr, admin: Admin) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(TcpListener::bind(listen).await?, routes).await
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.note_gauges();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.encode())
}
