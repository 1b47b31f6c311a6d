//! Metrics, under the names that dashboards for Kubernetes controllers expect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::engine::Queue;
use crate::engine::queue::Action;
use crate::webhook;
use crate::webhook::metrics::WebhookMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    controller: &'static str,
    category: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

/// Buckets of controller-runtime, in seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// All metrics of the process; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Outcome, Counter>,
    errors: Family<Category, Counter>,
    terminal: Family<Controller, Counter>,
    panics: Family<Controller, Counter>,
    waits: Family<Name, Histogram>,
    works: Family<Name, Histogram>,
    unfinished: Family<Name, Gauge<f64, AtomicU64>>,
    longest: Family<Name, Gauge<f64, AtomicU64>>,
    slowed: Family<Name, Gauge>,
    storms: Family<Name, Counter>,
    seconds: Family<Controller, Histogram>,
    active: Family<Controller, Gauge>,
    workers: Family<Controller, Gauge>,
    depth: Family<Name, Gauge>,
    adds: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    unreadable: Family<Name, Gauge>,
    snapshots: Family<Name, Counter>,
    pods: Family<Name, Gauge>,
    leader: Gauge,
    epoch: Gauge,
    lost_ledgers: Gauge,
    reaped_pods: Counter,
    reclaimed_units: Family<Name, Counter>,
    repairs: Family<Name, Counter>,
    paused: Family<Name, Gauge>,
    /// Those of the webhook.
    pub webhook: WebhookMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let histogram = (|| Histogram::new(SECONDS)) as fn() -> Histogram;
        let seconds = Family::new_with_constructor(histogram);
        let metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            terminal: Family::default(),
            panics: Family::default(),
            waits: Family::new_with_constructor(histogram),
            works: Family::new_with_constructor(histogram),
            unfinished: Family::default(),
            longest: Family::default(),
            slowed: Family::default(),
            storms: Family::default(),
            seconds,
            active: Family::default(),
            workers: Family::default(),
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            unreadable: Family::default(),
            snapshots: Family::default(),
            pods: Family::default(),
            leader: Gauge::default(),
            epoch: Gauge::default(),
            lost_ledgers: Gauge::default(),
            reaped_pods: Counter::default(),
            reclaimed_units: Family::default(),
            repairs: Family::default(),
            paused: Family::default(),
            webhook: WebhookMetrics::default(),
        };
        let m = &metrics;
        register_controllers(&mut registry, m);
        register_queues(&mut registry, m);
        register_own(&mut registry, m);
        webhook::metrics::register(&mut registry, &m.webhook);
        Self { registry: Arc::new(registry), ..metrics }
    }
}

/// Under the names of controller-runtime.
fn register_controllers(registry: &mut Registry, m: &Metrics) {
    let runtime = "controller_runtime";
    registry.register(format!("{runtime}_reconcile"), "Reconciles by result", m.reconciles.clone());
    registry.register(
        format!("{runtime}_reconcile_errors"),
        "Failed reconciles by category",
        m.errors.clone(),
    );
    registry.register(
        format!("{runtime}_reconcile_time_seconds"),
        "Length of a reconcile",
        m.seconds.clone(),
    );
    registry.register(format!("{runtime}_active_workers"), "Workers at work", m.active.clone());
    registry.register(format!("{runtime}_max_concurrent_reconciles"), "Workers", m.workers.clone());
    registry.register(
        format!("{runtime}_terminal_reconcile_errors"),
        "Failed reconciles that a repetition alone does not mend",
        m.terminal.clone(),
    );
    registry.register(format!("{runtime}_reconcile_panics"), "Reconciles that panicked", m.panics.clone());
}

/// What only we have.
fn register_own(registry: &mut Registry, m: &Metrics) {
    registry.register(
        "meterplane_unreadable_objects",
        "Stored objects that this build cannot read; their last accepted form stays in force",
        m.unreadable.clone(),
    );
    registry.register(
        "meterplane_snapshot_writes",
        "Policy snapshots by what became of them",
        m.snapshots.clone(),
    );
    registry.register("meterplane_leader", "1: this process leads, 0: it stands by", m.leader.clone());
    registry.register(
        "meterplane_leader_epoch",
        "Epoch under which this process leads, 0 while it does not",
        m.epoch.clone(),
    );
    registry.register(
        "meterplane_lost_ledgers",
        "Buckets of quota records that are gone: their limits refuse until they are reseeded",
        m.lost_ledgers.clone(),
    );
    registry.register(
        "meterplane_reaped_pods",
        "Dead pods that were settled, once for each lane that they charged totals in",
        m.reaped_pods.clone(),
    );
    registry.register(
        "meterplane_reclaimed_units",
        "Units of quotas that never start anew which came back, by what had taken them",
        m.reclaimed_units.clone(),
    );
    registry.register(
        "meterplane_drift_repairs",
        "Differences of streams, databases and keys that were in place from what is written, put right, by kind of their owner",
        m.repairs.clone(),
    );
    registry.register(
        "meterplane_resources_paused",
        "Objects that annotation meterplane.io/reconcile keeps from being changed outside of Kubernetes, by kind",
        m.paused.clone(),
    );
    registry.register("meterplane_ingest_pods", "Ingest pods by state", m.pods.clone());
}

/// Under the names of client-go's work queues.
fn register_queues(registry: &mut Registry, m: &Metrics) {
    registry.register("workqueue_depth", "Objects waiting for a worker", m.depth.clone());
    registry.register("workqueue_adds", "Objects ever queued", m.adds.clone());
    registry.register("workqueue_retries", "Objects ever queued again after a failure", m.retries.clone());
    registry.register("workqueue_queue_duration_seconds", "Time ready and without a worker", m.waits.clone());
    registry.register("workqueue_work_duration_seconds", "Time with a worker", m.works.clone());
    registry.register(
        "workqueue_unfinished_work_seconds",
        "Time that workers have been at what they have, in sum",
        m.unfinished.clone(),
    );
    registry.register(
        "workqueue_longest_running_processor_seconds",
        "Time that the slowest worker has been at what it has",
        m.longest.clone(),
    );
    registry.register(
        "meterplane_slowed_objects",
        "Objects that were looked at so often that they are slowed; the log names them",
        m.slowed.clone(),
    );
    registry.register(
        "meterplane_reconcile_storms",
        "Times that an object began to be slowed",
        m.storms.clone(),
    );
}

impl Metrics {
    /// The metrics of one controller with `workers` workers.
    pub fn controller(&self, name: &'static str, workers: usize) -> ControllerMetrics {
        let controller = Controller { controller: name };
        self.workers.get_or_create(&controller).set(workers as i64);
        // There from the start, so that a rate over them sees the first.
        drop(self.panics.get_or_create(&controller));
        drop(self.terminal.get_or_create(&controller));
        ControllerMetrics { name, all: self.clone() }
    }

    /// Notes a queue's numbers.
    pub fn queue(&self, name: &'static str, queue: &Queue) {
        let (depth, name) = (queue.depth(), Name { name });
        self.depth.get_or_create(&name).set(depth.ready as i64);
        store(&self.adds.get_or_create(&name), depth.added);
        store(&self.retries.get_or_create(&name), depth.retried);
        store(&self.storms.get_or_create(&name), depth.storms);
        self.slowed.get_or_create(&name).set(depth.slowed as i64);
        self.unfinished.get_or_create(&name).set(depth.unfinished.as_secs_f64());
        self.longest.get_or_create(&name).set(depth.longest.as_secs_f64());
    }

    /// Notes how many objects of a kind cannot be read.
    pub fn unreadable(&self, kind: &'static str, count: usize) {
        self.unreadable.get_or_create(&Name { name: kind }).set(count as i64);
    }

    /// Counts differences that were found of what an owner of this kind had in place, and are put right.
    pub fn repaired(&self, kind: &'static str, differences: usize) {
        self.repairs.get_or_create(&Name { name: kind }).inc_by(differences as u64);
    }

    /// Notes how many objects of a kind are paused or observed.
    pub fn paused(&self, kind: &'static str, count: usize) {
        self.paused.get_or_create(&Name { name: kind }).set(count as i64);
    }

    /// Counts what became of a snapshot: written, unchanged, deleted.
    pub fn snapshot(&self, outcome: &'static str) {
        self.snapshots.get_or_create(&Name { name: outcome }).inc();
    }

    /// Notes how many pods are in a state: live, lagging.
    pub fn pods(&self, state: &'static str, count: usize) {
        self.pods.get_or_create(&Name { name: state }).set(count as i64);
    }

    /// Notes whether this process leads, and under which epoch.
    pub fn leads(&self, epoch: Option<u64>) {
        self.leader.set(i64::from(epoch.is_some()));
        self.epoch.set(epoch.and_then(|epoch| i64::try_from(epoch).ok()).unwrap_or_default());
    }

    /// Notes how many quota ledgers are lost.
    pub fn lost_ledgers(&self, count: usize) {
        self.lost_ledgers.set(count as i64);
    }

    /// Counts dead pods that were settled in a lane, and the units that came back.
    pub fn reaped(&self, pods: usize, units: u64) {
        self.reaped_pods.inc_by(pods as u64);
        self.reclaimed_units.get_or_create(&Name { name: "dead pods" }).inc_by(units);
    }

    /// Counts units of repeated events that came back.
    pub fn repeats_returned(&self, units: u64) {
        self.reclaimed_units.get_or_create(&Name { name: "repeated events" }).inc_by(units);
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail; were it to, an empty page says so.
        if text::encode(&mut out, &self.registry).is_err() {
            out.clear();
        }
        out
    }
}

fn store(counter: &Counter, value: u64) {
    let inner: &AtomicU64 = counter.inner();
    inner.store(value, Ordering::Relaxed);
}

/// The metrics of one controller.
#[derive(Clone)]
pub struct ControllerMetrics {
    name: &'static str,
    all: Metrics,
}

impl ControllerMetrics {
    /// Name of the controller.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A key was ready for so long.
    pub fn waited(&self, waited: Duration) {
        self.all.waits.get_or_create(&Name { name: self.name }).observe(waited.as_secs_f64());
    }

    /// Begins a reconcile.
    pub fn begin(&self) -> Step {
        self.all.active.get_or_create(&Controller { controller: self.name }).inc();
        Step { metrics: self.clone(), begun: Instant::now(), result: "abandoned" }
    }
}

/// A reconcile under way; dropped without an end it counts as abandoned.
#[must_use]
pub struct Step {
    metrics: ControllerMetrics,
    begun: Instant,
    result: &'static str,
}

impl Step {
    /// It ended well.
    pub fn finish(mut self, action: Action) {
        self.result = match action {
            Action::Await => "success",
            Action::After(_) => "requeue_after",
            Action::Again | Action::Backoff => "requeue",
        };
    }

    /// It failed.
    pub fn fail(mut self, category: &'static str) {
        self.result = "error";
        let controller = self.metrics.name;
        if matches!(category, "denied" | "defect") {
            self.metrics.all.terminal.get_or_create(&Controller { controller }).inc();
        }
        self.metrics.all.errors.get_or_create(&Category { controller, category }).inc();
    }

    /// It panicked.
    pub fn panicked(mut self) {
        self.result = "error";
        self.metrics.all.panics.get_or_create(&Controller { controller: self.metrics.name }).inc();
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let (controller, all) = (self.metrics.name, &self.metrics.all);
        all.active.get_or_create(&Controller { controller }).dec();
        all.reconciles.get_or_create(&Outcome { controller, result: self.result }).inc();
        let took = self.begun.elapsed().as_secs_f64();
        all.seconds.get_or_create(&Controller { controller }).observe(took);
        all.works.get_or_create(&Name { name: controller }).observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_are_counted_by_result_even_when_abandoned() {
        let metrics = Metrics::default();
        let tenant = metrics.controller("tenant", 4);
        tenant.begin().finish(Action::Await);
        tenant.begin().fail("denied");
        drop(tenant.begin());
        let text = metrics.encode();
        for line in [
            r#"controller_runtime_reconcile_total{controller="tenant",result="success"} 1"#,
            r#"controller_runtime_reconcile_total{controller="tenant",result="abandoned"} 1"#,
            r#"controller_runtime_reconcile_errors_total{controller="tenant",category="denied"} 1"#,
            r#"controller_runtime_terminal_reconcile_errors_total{controller="tenant"} 1"#,
            r#"controller_runtime_reconcile_panics_total{controller="tenant"} 0"#,
            r#"controller_runtime_active_workers{controller="tenant"} 0"#,
            r#"controller_runtime_max_concurrent_reconciles{controller="tenant"} 4"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
