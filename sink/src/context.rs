//! What all lanes of the process share.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{Incarnation, Lane};
use jetstream::Bucket;
use tokio::sync::{Semaphore, watch};

use crate::budget::Budget;
use crate::dedup::MemoryBudget;
use crate::holders::Holders;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::rollups::Settled;
use crate::seats::Directory;

/// Shared by all lanes.
pub struct Context {
    /// The connection to NATS.
    pub nats: jetstream::Client,
    /// The intents.
    pub intents: Bucket,
    /// For reading from ClickHouse.
    pub reader: clickhouse::Client,
    /// This process's lease.
    pub lease: Lease,
    /// The others'.
    pub holders: Holders,
    /// Who decides about tenants that have moved.
    pub seats: Directory,
    /// When to insert.
    pub budget: Budget,
    /// For ids.
    pub memory: Arc<MemoryBudget>,
    /// For messages, in MiB.
    pub buffers: Arc<Semaphore>,
    /// For how long a repeated event is recognised.
    pub horizon_days: u32,
    /// Metrics.
    pub metrics: Metrics,
    /// Lanes that this process holds.
    pub held: Mutex<Vec<Lane>>,
    /// Messages in which events are missing from the tables, as the audit says.
    pub gaps: Mutex<HashMap<Lane, Vec<(u64, u64)>>>,
    /// How far the lanes that this process holds are settled.
    pub settled: Mutex<HashMap<Lane, Settled>>,
    /// Lanes were listed at least once.
    pub discovered: AtomicBool,
    /// Turns true when the process shall end.
    pub shutdown: watch::Receiver<bool>,
}

impl Context {
    /// Whether the process shall end.
    pub fn is_shutting_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Whether a lane falls to `me` among the sinks that can take it.
    pub fn falls_to(&self, lane: &Lane, me: Incarnation) -> bool {
        self.holders.falls_to(lane, me, self.seats.is_named(lane))
    }

    /// How far the lanes that this process holds are settled.
    pub fn settled(&self) -> MutexGuard<'_, HashMap<Lane, Settled>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages of a lane in which events are missing.
    pub fn gaps_of(&self, lane: &Lane) -> Vec<(u64, u64)> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).get(lane).cloned().unwrap_or_default()
    }

    /// Sleeps, or returns early when the process shall end.
    pub async fn pause(&self, duration: std::time::Duration) {
        let mut shutdown = self.shutdown.clone();
        // An error means that whoever would say so is gone, which is the end as well.
        let _ = tokio::time::timeout(duration, shutdown.wait_for(|ends| *ends)).await;
    }
}
