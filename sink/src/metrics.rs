//! Metrics of this process.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabel {
    /// Its name.
    pub lane: String,
}

/// What an audit counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuditLabels {
    /// The lane.
    pub lane: String,
    /// `packed`, `stored`, `duplicates` or `dead` events that add up; messages that are `gone`, or `uncounted` so far.
    pub kind: &'static str,
}

/// What a lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// Another sink holds it.
    Standby = 0,
    /// This sink holds it.
    Sinking = 1,
    /// ClickHouse, or its tables, are not there; identical bytes are tried again.
    Retrying = 2,
    /// A person has to act.
    Stuck = 3,
    /// Another lane decides about a tenant whose events are next; it was asked to let this one.
    Waiting = 4,
}

/// Handles of every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Rows stored.
    pub rows: Family<LaneLabel, Counter>,
    /// Events removed because they were stored before.
    pub duplicates: Family<LaneLabel, Counter>,
    /// Events of packs that cannot be read.
    pub dead: Family<LaneLabel, Counter>,
    /// Messages of the stream that are not sunk yet.
    pub lag: Family<LaneLabel, Gauge>,
    /// Milliseconds since the oldest of them was stored in the stream.
    pub oldest_ms: Family<LaneLabel, Gauge>,
    /// See [`LaneState`].
    pub state: Family<LaneLabel, Gauge>,
    /// Messages that aged out of the stream before they were sunk.
    pub gaps: Family<LaneLabel, Counter>,
    /// Events of an open intent that are lost for the same reason.
    pub lost: Family<LaneLabel, Counter>,
    /// Rows that a killed server had lost and that were inserted again.
    pub repaired: Family<LaneLabel, Counter>,
    /// Rows that were found more than once.
    pub excess: Family<LaneLabel, Counter>,
    /// Time of an insert, seconds.
    pub insert_seconds: Histogram,
    /// Inserts that failed and were tried again.
    pub insert_failures: Counter,
    /// Ids that were looked up in ClickHouse.
    pub lookups: Counter,
    /// What the audits counted.
    pub audited: Family<AuditLabels, Gauge>,
    /// Ranges whose counts do not add up.
    pub differences: Family<LaneLabel, Gauge>,
    /// Records of violations stored.
    pub violations: Counter,
    /// Records of violations that could not be read, or whose tenant is gone.
    pub violations_dropped: Counter,
    /// Days summed up.
    pub rollups: Counter,
    /// Times that this did not succeed.
    pub rollup_failures: Counter,
    /// Bytes of ids in memory.
    pub dedup_bytes: Gauge,
    /// Lanes that had a pack in the last seconds.
    pub active_lanes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mp_sink");
        let metrics = Self {
            rows: Family::default(),
            duplicates: Family::default(),
            dead: Family::default(),
            lag: Family::default(),
            oldest_ms: Family::default(),
            state: Family::default(),
            gaps: Family::default(),
            lost: Family::default(),
            repaired: Family::default(),
            excess: Family::default(),
            insert_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            insert_failures: Counter::default(),
            lookups: Counter::default(),
            audited: Family::default(),
            differences: Family::default(),
            violations: Counter::default(),
            violations_dropped: Counter::default(),
            rollups: Counter::default(),
            rollup_failures: Counter::default(),
            dedup_bytes: Gauge::default(),
            active_lanes: Gauge::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register("rows", "Rows stored in ClickHouse", m.rows.clone());
        registry.register("duplicates", "Events removed: stored before", m.duplicates.clone());
        registry.register("dead", "Alert: events of packs that cannot be read", m.dead.clone());
        registry.register("lag_messages", "Messages not sunk yet", m.lag.clone());
        registry.register("oldest_unsunk_milliseconds", "Age of the oldest of them", m.oldest_ms.clone());
        let state = "0 another sink holds the lane, 1 sinking, 2 retrying (ClickHouse), 3 stuck (alert)";
        registry.register("lane_state", state, m.state.clone());
        registry.register(
            "lost_messages",
            "Alert: aged out of the stream before they were sunk",
            m.gaps.clone(),
        );
        registry.register("lost_events", "Alert: of an open intent, and gone", m.lost.clone());
        registry.register("repaired_rows", "Inserted again after a killed server", m.repaired.clone());
        registry.register("excess_rows", "Alert: found more than once", m.excess.clone());
        registry.register_with_unit("insert", "Time of an insert", Unit::Seconds, m.insert_seconds.clone());
        registry.register("insert_failures", "Inserts tried again", m.insert_failures.clone());
        registry.register("lookups", "Ids looked up in ClickHouse", m.lookups.clone());
        let audited = "What the audit counted, by kind: events, and for uncounted the messages behind it";
        registry.register("audited", audited, m.audited.clone());
        let differences = "Alert: ranges whose events are not all stored, repeats or dead letters";
        registry.register("differences", differences, m.differences.clone());
        registry.register("violations", "Records of violations stored", m.violations.clone());
        let dropped = "Records of violations that are unreadable, or whose tenant's table is gone";
        registry.register("violations_dropped", dropped, m.violations_dropped.clone());
        registry.register("rollups", "Days summed up", m.rollups.clone());
        registry.register("rollup_failures", "Days not summed up this time", m.rollup_failures.clone());
        registry.register("dedup_memory_bytes", "Ids of recent events", m.dedup_bytes.clone());
        registry.register("active_lanes", "Lanes with a pack in the last seconds", m.active_lanes.clone());
        Self { registry, ..metrics }
    }

    /// In the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
