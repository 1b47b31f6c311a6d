//! Metrics of this process (RED, and what the ledger and the lanes cost).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Events by tenant and what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// Tenant name.
    pub tenant: String,
    /// `accepted`, `duplicate`, `limited`, `denied` or `rejected`; `unknown` besides, of those accepted, when nobody knows whether
    /// their pack is stored: their units stay charged.
    pub outcome: &'static str,
}

/// Requests by status code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// HTTP status.
    pub status: u16,
}

/// Ledger operations by kind and result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LedgerLabels {
    /// `grant`, `return`, `recall`, of reservations `reserve` and `commit`, of rates `lease`.
    pub op: &'static str,
    /// `ok`, `conflict`, `denied` or `unknown`.
    pub result: &'static str,
}

/// Handles of every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events by outcome.
    pub events: Family<EventLabels, Counter>,
    /// Requests by status.
    pub requests: Family<RequestLabels, Counter>,
    /// Time from the head of a request to its answer, seconds.
    pub request_seconds: Histogram,
    /// Packs published, by whether they were acknowledged.
    pub packs: Family<RequestLabels, Counter>,
    /// Events a pack.
    pub pack_events: Histogram,
    /// Time from handing a pack to the connection to its acknowledgement, seconds.
    pub pack_seconds: Histogram,
    /// Ledger operations.
    pub ledger: Family<LedgerLabels, Counter>,
    /// Quota slices held in memory.
    pub slices: Gauge,
    /// Highest policy revision applied.
    pub policy_revision: Gauge,
    /// Tenants known.
    pub tenants: Gauge,
    /// Snapshots that were not taken over.
    pub snapshots_refused: Gauge,
    /// Denials that were dropped because the violation queue was full.
    pub violations_dropped: Counter,
    /// Offset of the local clock to the server's, milliseconds.
    pub clock_offset_ms: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mp_ingest");
        let seconds = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        let metrics = Self {
            events: Family::default(),
            requests: Family::default(),
            request_seconds: seconds(),
            packs: Family::default(),
            pack_events: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            pack_seconds: seconds(),
            ledger: Family::default(),
            slices: Gauge::default(),
            policy_revision: Gauge::default(),
            tenants: Gauge::default(),
            snapshots_refused: Gauge::default(),
            violations_dropped: Counter::default(),
            clock_offset_ms: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("events", "Events by tenant and outcome", metrics.events.clone());
        registry.register("requests", "Requests by status", metrics.requests.clone());
        registry.register("request_seconds", "Time to answer a request", metrics.request_seconds.clone());
        registry.register("packs", "Packs by status (200 acknowledged, 503 not)", metrics.packs.clone());
        registry.register("pack_events", "Events a pack", metrics.pack_events.clone());
        registry.register(
            "pack_seconds",
            "Time to the acknowledgement of a pack",
            metrics.pack_seconds.clone(),
        );
        registry.register("ledger_operations", "Quota ledger operations", metrics.ledger.clone());
        registry.register("slices", "Quota slices in memory", metrics.slices.clone());
        registry.register(
            "policy_revision",
            "Highest policy revision applied",
            metrics.policy_revision.clone(),
        );
        registry.register("tenants", "Tenants known", metrics.tenants.clone());
        registry.register("snapshots_refused", "Snapshots not taken over", metrics.snapshots_refused.clone());
        registry.register("violations_dropped", "Denials not recorded", metrics.violations_dropped.clone());
        registry.register(
            "clock_offset_ms",
            "Server clock minus local clock",
            metrics.clock_offset_ms.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Counts events.
    pub fn count_events(&self, tenant: &str, outcome: &'static str, n: u64) {
        if n > 0 {
            let labels = EventLabels { tenant: tenant.to_owned(), outcome };
            self.events.get_or_create(&labels).inc_by(n);
        }
    }

    /// Counts a ledger operation.
    pub fn count_ledger(&self, op: &'static str, result: &'static str) {
        self.ledger.get_or_create(&LedgerLabels { op, result }).inc();
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
