//! Metrics of this process.

use std::time::Duration;

use axum::http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A request: its method, its route as declared (never its path, which anybody may choose) and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// See [`method`].
    pub method: &'static str,
    /// The route's template, or `unknown`.
    pub route: String,
    /// HTTP status.
    pub status: u16,
}

/// A method of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// See [`method`].
    pub method: &'static str,
    /// The route's template, or `unknown`.
    pub route: String,
}

/// A method's label: anybody may send another word, and each would be a series.
pub fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// A request under way, until it is dropped: a client that goes away ends it as well.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
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
    requests_in_flight: Gauge,
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
        let requests_in_flight = Gauge::default();
        let snapshots_refused = Family::<ReasonLabels, Counter>::default();
        let tenants = Gauge::default();
        registry.register("requests", "Requests by method, route and status", requests.clone());
        let help = "Time to answer a request, by method and route";
        registry.register("request_seconds", help, request_seconds.clone());
        registry.register("requests_in_flight", "Requests under way", requests_in_flight.clone());
        let help = "Entries of bucket policy that were not taken over; alert on any but stale";
        registry.register("snapshots_refused", help, snapshots_refused.clone());
        registry.register("tenants", "Tenants known", tenants.clone());
        Self { registry, requests, request_seconds, requests_in_flight, snapshots_refused, tenants }
    }

    /// Counts a request as under way.
    pub fn begin_request(&self) -> UnderWay {
        self.requests_in_flight.inc();
        UnderWay(self.requests_in_flight.clone())
    }

    /// Counts an answered request.
    pub fn count_request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { method, route: route.to_owned(), status }).inc();
        self.request_seconds
            .get_or_create(&RouteLabels { method, route: route.to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_under_way_until_they_end_or_their_client_is_gone() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.begin_request(), metrics.begin_request());
        assert!(metrics.render().contains("mp_console_requests_in_flight 2"));
        drop(first);
        assert!(metrics.render().contains("mp_console_requests_in_flight 1"));
        drop(second);
        assert!(metrics.render().contains("mp_console_requests_in_flight 0"));
    }
}
