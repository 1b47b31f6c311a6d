//! /livez, /readyz, /metrics, and /debug/state: what this process knows and waits for, without anything secret.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::caches::Caches;
use crate::clock;
use crate::context::Context;
use crate::controllers::orders::{Mode, Orders};
use crate::engine::Cache;
use crate::leadership::Term;
use crate::observe::Metrics;
use crate::startup::Standby;

/// What the endpoints tell about; each part comes when start-up has built it.
#[derive(Clone, Default)]
pub struct Admin {
    metrics: Metrics,
    view: Arc<RwLock<View>>,
}

#[derive(Default)]
struct View {
    caches: Option<(Caches, jetstream::Client)>,
    role: Role,
    context: Option<Arc<Context>>,
}

/// This process among the operators.
#[derive(Default)]
enum Role {
    /// It does not know yet who leads.
    #[default]
    Asking,
    /// Somebody else leads; it takes over when that one is silent.
    Standby,
    /// It leads.
    Leader(Arc<Term>),
}

impl Admin {
    /// The metrics that are told.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// It is connected and follows what is declared.
    pub fn stands_by(&self, standby: &Standby) {
        self.metrics.leads(None);
        self.view.write().caches = Some((standby.caches.clone(), standby.nats.clone()));
    }

    /// Somebody else leads.
    pub fn knows_the_leader(&self) {
        self.view.write().role = Role::Standby;
    }

    /// This process leads.
    pub fn leads(&self, term: &Arc<Term>) {
        self.view.write().role = Role::Leader(term.clone());
    }

    /// Start-up is over.
    pub fn started(&self, context: Arc<Context>) {
        self.view.write().context = Some(context);
    }

    fn note_gauges(&self) {
        let view = self.view.read();
        self.metrics.leads(match &view.role {
            Role::Leader(term) if term.is_open(Instant::now()) => Some(term.epoch()),
            Role::Leader(_) | Role::Standby | Role::Asking => None,
        });
        if let Some((caches, _)) = &view.caches {
            caches.about().iter().for_each(|about| self.metrics.unreadable(about.kind, about.unreadable));
            self.metrics.paused("Tenant", on_hold(&caches.tenants));
            self.metrics.paused("LanePool", on_hold(&caches.pools));
        }
        self.metrics.webhook.note(clock::now().as_millisecond());
        let Some(ctx) = view.context.as_ref() else { return };
        for (name, queue) in ctx.queues.all() {
            self.metrics.queue(name, queue);
        }
    }
}

impl View {
    /// What it is ready for, or why it is not ready.
    fn readiness(&self) -> Result<String, String> {
        let Some((caches, nats)) = &self.caches else { return Err("starting".to_owned()) };
        let unsynced: Vec<&str> =
            caches.about().iter().filter(|about| !about.synced).map(|about| about.kind).collect();
        if !unsynced.is_empty() {
            return Err(format!("caches are not synced: {}", unsynced.join(", ")));
        }
        if !nats.is_connected() {
            return Err("NATS is not connected".to_owned());
        }
        match (&self.role, &self.context) {
            (Role::Asking, _) => Err("asks who leads".to_owned()),
            (Role::Standby, _) => Ok("stands by".to_owned()),
            (Role::Leader(term), None) => Err(format!("leads with epoch {}, and begins", term.epoch())),
            (Role::Leader(term), Some(_)) => Ok(format!("leads with epoch {}", term.epoch())),
        }
    }
}

/// Objects that an annotation keeps from being changed outside of Kubernetes.
fn on_hold<K: kube::Resource>(cache: &Cache<K>) -> usize {
    cache.list().iter().filter(|object| Orders::of(object.as_ref()).mode != Mode::Active).count()
}

impl View {
    /// Numbers, versions and names of kinds; no object, no name of a tenant, nothing of a Secret.
    fn debug(&self, now: Instant) -> Value {
        let caches = self.caches.iter().flat_map(|(caches, _)| caches.about());
        let watches = caches.map(|about| {
            json!({"kind": about.kind, "synced": about.synced, "objects": about.objects, "unreadable": about.unreadable,
                "resourceVersion": about.version})
        });
        let election = match &self.role {
            Role::Asking => json!({"role": "asking"}),
            Role::Standby => json!({"role": "standby"}),
            Role::Leader(term) => json!({"role": "leader", "epoch": term.epoch(), "open": term.is_open(now),
                "endsInMs": term.left(now).as_millis() as u64}),
        };
        let queues = self.context.iter().flat_map(|ctx| ctx.queues.all()).map(|(name, queue)| {
            let depth = queue.depth();
            json!({"name": name, "ready": depth.ready, "active": depth.active, "slowed": depth.slowed,
                "longestMs": depth.longest.as_millis() as u64})
        });
        let snapshots = self.context.as_ref().map(|ctx| {
            json!({"held": ctx.publications.list().len(), "newestRevision": ctx.publications.newest(),
                "firstPassComplete": ctx.first_pass.is_complete()})
        });
        json!({
            "readiness": match self.readiness() { Ok(role) | Err(role) => role },
            "nats": self.caches.as_ref().map(|(_, nats)| nats.is_connected()),
            "election": election,
            "watches": watches.collect::<Vec<_>>(),
            "queues": queues.collect::<Vec<_>>(),
            "snapshots": snapshots,
        })
    }
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
        .route("/debug/state", get(debug_state))
        .with_state(admin);
    axum::serve(TcpListener::bind(listen).await?, routes).await
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.view.read().readiness() {
        Ok(role) => (StatusCode::OK, format!("ok: {role}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn debug_state(State(admin): State<Admin>) -> Json<Value> {
    Json(admin.view.read().debug(Instant::now()))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.note_gauges();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_standby_is_ready_and_a_leader_that_begins_is_not() {
        let admin = Admin::default();
        let role = |role: Role| {
            admin.view.write().role = role;
            admin.view.read().readiness()
        };
        assert_eq!(role(Role::Asking), Err("starting".to_owned()));
        let caches = Caches::default();
        let file = std::env::temp_dir().join(format!("operator-admin-{}", std::process::id()));
        std::fs::write(&file, "a secret").unwrap();
        // Nobody listens there, which the client does not wait for.
        let nats = jetstream::Client::connect(jetstream::Config {
            url: "nats://127.0.0.1:1".to_owned(),
            ca_file: None,
            user: "operator".to_owned(),
            password_file: file.clone(),
            name: "operator".to_owned(),
        });
        admin.view.write().caches = Some((caches.clone(), nats.await.unwrap()));
        std::fs::remove_file(file).unwrap();
        let unsynced = "caches are not synced: Plan, Tenant, LanePool, UsageLimit, AccessPolicy, ApiKey";
        assert_eq!(role(Role::Standby), Err(unsynced.to_owned()));
        caches.plans.mark_synced();
        assert!(!role(Role::Standby).unwrap_err().contains("Plan"));
        let term = Arc::new(Term::new(7, Instant::now()));
        let _ = role(Role::Leader(term));
        let state = admin.view.read().debug(Instant::now());
        assert_eq!((&state["election"]["role"], &state["election"]["epoch"]), (&json!("leader"), &json!(7)));
        assert_eq!(state["watches"].as_array().map(Vec::len), Some(6));
        assert!(!state.to_string().contains("secret"));
        assert_eq!(state["snapshots"], Value::Null, "it has not begun");
    }
}
