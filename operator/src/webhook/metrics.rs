//! Metrics of the webhook, under controller-runtime's names where it has them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::authority::Span;
use super::server::PATH;
use super::serving::Serving;

/// Buckets of controller-runtime, in seconds, as far as the kube-apiserver waits.
const SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Path {
    webhook: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Coded {
    webhook: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

/// All of them; clones share them.
#[derive(Clone)]
pub struct WebhookMetrics {
    requests: Family<Coded, Counter>,
    latency: Family<Path, Histogram>,
    in_flight: Family<Path, Gauge>,
    left: Family<Name, Gauge<f64, AtomicU64>>,
    lifetime: Family<Name, Gauge<f64, AtomicU64>>,
    serving: Arc<OnceLock<Arc<Serving>>>,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Family::default(),
            left: Family::default(),
            lifetime: Family::default(),
            serving: Arc::default(),
        }
    }
}

/// Registers them.
pub fn register(registry: &mut Registry, m: &WebhookMetrics) {
    let runtime = "controller_runtime";
    registry.register(
        format!("{runtime}_webhook_requests"),
        "Admission requests by answer",
        m.requests.clone(),
    );
    registry.register(
        format!("{runtime}_webhook_latency_seconds"),
        "Time that an admission request took",
        m.latency.clone(),
    );
    registry.register(
        format!("{runtime}_webhook_requests_in_flight"),
        "Admission requests that are being answered",
        m.in_flight.clone(),
    );
    registry.register(
        "meterplane_webhook_certificate_left_seconds",
        "Time until the certificate that is served, and the authority that signs the next, end",
        m.left.clone(),
    );
    registry.register(
        "meterplane_webhook_certificate_lifetime_seconds",
        "Time between their beginning and their end",
        m.lifetime.clone(),
    );
}

impl WebhookMetrics {
    /// The certificates that are told about.
    pub fn follow(&self, serving: &Arc<Serving>) {
        // Set once: a process serves one webhook.
        let _ = self.serving.set(serving.clone());
    }

    /// Notes how long the certificates still last.
    pub fn note(&self, now_ms: i64) {
        let Some(serving) = self.serving.get() else { return };
        for (name, span) in [("served", serving.span()), ("authority", serving.authority())] {
            let Span { made_ms, ends_ms } = span.unwrap_or(Span { made_ms: now_ms, ends_ms: now_ms });
            let seconds =
                |from_ms: i64| Duration::from_millis((ends_ms - from_ms).max(0).unsigned_abs()).as_secs_f64();
            self.left.get_or_create(&Name { name }).set(seconds(now_ms));
            // Never zero: what was never made is as good as ended.
            self.lifetime.get_or_create(&Name { name }).set(seconds(made_ms).max(1.0));
        }
    }

    /// Begins to answer a request.
    pub fn begin(&self) -> Answering {
        self.in_flight.get_or_create(&Path { webhook: PATH }).inc();
        Answering { metrics: self.clone(), begun: Instant::now(), code: 499 }
    }
}

/// A request that is being answered; dropped without an end it counts as given up by who asked.
#[must_use]
pub struct Answering {
    metrics: WebhookMetrics,
    begun: Instant,
    code: u16,
}

impl Answering {
    /// It is answered with this HTTP status.
    pub fn end(mut self, code: u16) {
        self.code = code;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let path = Path { webhook: PATH };
        self.metrics.in_flight.get_or_create(&path).dec();
        self.metrics.latency.get_or_create(&path).observe(self.begun.elapsed().as_secs_f64());
        self.metrics.requests.get_or_create(&Coded { webhook: PATH, code: self.code }).inc();
    }
}
