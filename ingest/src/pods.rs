//! This pod among the others: heartbeats, self-fencing, the clock's offset, and how many pods are alive.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event::Incarnation;
use event::names::{PODS_BUCKET, POLICY_BUCKET};
use futures_util::StreamExt;
use jetstream::{Bucket, Client, WatchEvent};
use policy::heartbeat::{DROPPED_AFTER_MS, Heartbeat, INTERVAL_MS, SELF_FENCE_MS, SILENT_MAX_MS};
use tokio::sync::watch;

use crate::clock::{self, Clock, MAX_OFFSET_MS};
use crate::metrics::Metrics;
use crate::snapshot::Store;

/// Changes of policy that come within this time are told together.
const GATHER_MS: u64 = 25;

/// Who this pod is, and whether it may still speak for the policy it holds.
#[derive(Debug)]
pub struct Pod {
    /// This run.
    pub incarnation: Incarnation,
    /// Name, for people.
    pub name: String,
    started: Instant,
    /// Milliseconds after `started` at which the last acknowledged heartbeat was *sent*; zero before the first.
    last_beat_ms: AtomicU64,
    live: AtomicU64,
    /// Whether others have taken this process for dead: it ends, and its successor is another incarnation.
    dead: watch::Sender<bool>,
}

impl Pod {
    /// A pod that has not beaten yet: it is fenced.
    pub fn new(incarnation: Incarnation, name: String) -> Self {
        let (last_beat_ms, live) = (AtomicU64::new(0), AtomicU64::new(1));
        Self {
            incarnation,
            name,
            started: Instant::now(),
            last_beat_ms,
            live,
            dead: watch::Sender::new(false),
        }
    }

    /// This process was taken for dead, or must take itself for it: it admits nothing more, and ends.
    pub fn declare_dead(&self, why: &str) {
        if !self.dead.send_replace(true) {
            tracing::error!(why, "this process was taken for dead: it ends");
        }
    }

    /// Returns when this process was taken for dead.
    pub async fn declared_dead(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Whether this process was taken for dead.
    pub fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Whether the operator may have stopped waiting for this pod: then it must answer 503.
    pub fn is_fenced(&self) -> bool {
        let last = self.last_beat_ms.load(Ordering::Acquire);
        self.is_dead() || last == 0 || self.elapsed_ms().saturating_sub(last) > SELF_FENCE_MS
    }

    /// How long ago the last acknowledged heartbeat was sent; `None` before the first.
    pub fn beat_age_ms(&self) -> Option<u64> {
        let last = self.last_beat_ms.load(Ordering::Acquire);
        (last > 0).then(|| self.elapsed_ms().saturating_sub(last))
    }

    /// Pods alive, this one included.
    pub fn live_pods(&self) -> u64 {
        self.live.load(Ordering::Relaxed).max(1)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Beats until the process ends. The first beat follows the first complete policy.
pub async fn beat(
    client: Client,
    pod: Arc<Pod>,
    store: Arc<Store>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
) {
    let bucket = open(&client, PODS_BUCKET).await;
    let policy = open(&client, POLICY_BUCKET).await;
    tokio::spawn(count(bucket.clone(), pod.clone()));
    let (mut beat, mut drained_revision, mut last_server_ms) = (0, 0, None);
    let mut ticks = tokio::time::interval(Duration::from_millis(INTERVAL_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // A change of what is enforced is told at once, so that whoever waits for it need not wait for the next beat.
        tokio::select! {
            _ = ticks.tick() => {}
            () = store.changed() => tokio::time::sleep(Duration::from_millis(GATHER_MS)).await,
            () = store.drained_beyond(drained_revision) => {}
        }
        let Some(server_ms) = measure(&bucket, &clock, &metrics).await else { continue };
        // Whatever this process slept through, it also slept through its own death.
        if last_server_ms.is_some_and(|last| server_ms.saturating_sub(last) > SILENT_MAX_MS) {
            pod.declare_dead("it was silent for so long that nobody remembers it");
            return;
        }
        // In this order: a cap is said to be on its way back before the revision that lowers it is in force.
        drained_revision = store.drained_revision();
        let policies = store.load_full();
        if !policies.is_complete() || clock.offset_ms().abs() > MAX_OFFSET_MS {
            continue;
        }
        beat += 1;
        let heartbeat = Heartbeat {
            incarnation: pod.incarnation,
            pod: pod.name.clone(),
            applied_revision: policies.revision,
            drained_revision,
            refused: policies.refused.clone(),
            recalling: store.recalls(),
            pack_version: event::pack::VERSION,
            beat,
        };
        let sent_ms = pod.elapsed_ms().max(1);
        let value = serde_json::to_vec(&heartbeat).unwrap_or_default();
        // Held no longer: a heartbeat that waits is no reason not to be drained.
        drop(policies);
        match bucket.put(&pod.incarnation.to_string(), value.into()).await {
            Ok(_) if pod.is_fenced() && is_behind(&policy, &store).await => {
                tracing::info!("policy has gone on meanwhile: serving once it is applied");
            }
            Ok(_) => {
                pod.last_beat_ms.store(sent_ms, Ordering::Release);
                last_server_ms = Some(server_ms);
            }
            Err(error) => tracing::warn!(%error, "the heartbeat was not acknowledged"),
        }
    }
}

/// Whether policy was written that this pod has not applied. A pod that was not counted asks before it serves again: nobody
/// waited for it. What is written after it is counted is waited for.
async fn is_behind(policy: &Bucket, store: &Store) -> bool {
    match policy.last_revision().await {
        Ok(last) => store.load().revision < last,
        Err(error) => {
            tracing::warn!(%error, "the policy bucket does not answer");
            true
        }
    }
}

/// Compares the clock with the server's, which it returns.
async fn measure(bucket: &Bucket, clock: &Clock, metrics: &Metrics) -> Option<u64> {
    let sent_ms = clock::local_ms();
    let server_ms = bucket.server_time().await.ok()?;
    clock.observe(server_ms, sent_ms, clock::local_ms());
    metrics.clock_offset_ms.set(clock.offset_ms());
    if clock.offset_ms().abs() > MAX_OFFSET_MS {
        tracing::error!(offset_ms = clock.offset_ms(), "the clock is off: not ready until it is set right");
    }
    Some(server_ms)
}

/// Counts pods by when their last heartbeat arrived here; only slice sizes depend on it.
async fn count(bucket: Bucket, pod: Arc<Pod>) {
    let mut seen: HashMap<String, Instant> = HashMap::new();
    let mut watch = bucket.watch();
    while let Some(event) = watch.next().await {
        match event {
            WatchEvent::Put(entry) => {
                seen.insert(entry.key, Instant::now());
            }
            WatchEvent::Delete { key, .. } => {
                seen.remove(&key);
            }
            WatchEvent::Synced { .. } => {}
            WatchEvent::Reset => seen.clear(),
        }
        seen.retain(|_, at| at.elapsed() < Duration::from_millis(DROPPED_AFTER_MS));
        pod.live.store(seen.len() as u64, Ordering::Relaxed);
    }
}

async fn open(client: &Client, bucket: &str) -> Bucket {
    loop {
        match Bucket::open(client, bucket).await {
            Ok(bucket) => return bucket,
            Err(error) => {
                tracing::info!(bucket, %error, "waiting for a bucket: the operator creates it");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
