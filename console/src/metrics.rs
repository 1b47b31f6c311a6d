//! Metrics of this process.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A request: its route as declared (never its path, which anybody may choose) and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's template, or `unknown`.
    pub route: String,
    /// HTTP status.
    pub status: u16,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's template, or `unknown`.
    pub route: String,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// One of a fixed set.
    pub reason: &'static str,
}

/// Handles of every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram>,
    snapshots_refused: Family<ReasonLabels, Counter>,
    /// Tenants known.
    pub tenants: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        // 1 ms to 16 s: a dashboard query takes some milliseconds, and none runs longer than its time limit.
        let histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let mut registry = Registry::with_prefix("mp_console");
        let requests = Family::<RequestLabels, Counter>::default();
        let request_seconds = Family::<RouteLabels, Histogram>::new_with_constructor(histogram);
        let snapshots_refused = Family::<ReasonLabels, Counter>::default();
        let tenants = Gauge::default();
        registry.register("requests", "Requests by route and status", requests.clone());
        registry.register("request_seconds", "Time to answer a request, by route", request_seconds.clone());
        let help = "Entries of bucket policy that were not taken over; alert on any but stale";
        registry.register("snapshots_refused", help, snapshots_refused.clone());
        registry.register("tenants", "Tenants known", tenants.clone());
        Self { registry, requests, request_seconds, snapshots_refused, tenants }
    }

    /// Counts an answered request.
    pub fn count_request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), status }).inc();
        self.request_seconds
            .get_or_create(&RouteLabels { route: route.to_owned() })
            .observe(took.as_secs_f64());
    }

    /// Counts a policy entry that was not taken over.
    pub fn count_refused(&self, reason: &'static str) {
        self.snapshots_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The exposition text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only if a metric cannot encode itself; then the scrape is empty and alerts.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}
