//! The quota ledgers while the operator runs: those of rates are gone with the memory of NATS and are made anew; one of quotas
//! that is gone, or went back, is told, and rebuilt from what is stored.

mod memory;
mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event::names::{LEDGER_SHARDS, ledger_bucket};
use parking_lot::Mutex;
use policy::window::Window;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::Failure;
use crate::installation::{Ledgers, ensure_ledgers};

use memory::Memory;

/// How soon a bucket that is gone is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How many looks in a row must find that a ledger went back before it is lost: a server that has just begun to lead may be
/// behind for a moment.
const LOOKS_BACK: u32 = 5;

/// The ledgers as they were last seen.
pub struct Known(Mutex<Ledgers>);

impl Known {
    /// As found at the start.
    pub fn new(ledgers: Ledgers) -> Self {
        tell(&ledgers);
        Self(Mutex::new(ledgers))
    }

    /// As last seen.
    pub fn get(&self) -> Ledgers {
        self.0.lock().clone()
    }

    /// A lost ledger of this window, if there is one.
    pub fn lost(&self, window: Window) -> Option<String> {
        let ledgers = self.0.lock();
        let mut names = (0..LEDGER_SHARDS).map(|shard| ledger_bucket(window.label(), shard));
        names.find(|name| ledgers.lost.contains(name))
    }
}

/// Looks at the ledgers for ever; whatever changes goes into the index.
pub async fn run(ctx: Arc<Context>) {
    let mut memory = Memory::load(&ctx).await;
    let mut behind = Behind::default();
    let mut rebuilding: Option<JoinHandle<Result<BTreeMap<String, String>, Failure>>> = None;
    loop {
        let known = ctx.ledgers.get();
        let settings = &ctx.settings;
        match ensure_ledgers(&ctx.nats, &settings.installation, settings.replicas, Some(&known.ids)).await {
            Ok(mut seen) => {
                behind.judge(&mut seen, &mut memory);
                take_over(&ctx, seen);
            }
            Err(error) => tracing::debug!(%error, "the quota ledgers could not be looked at"),
        }
        let lost = ctx.ledgers.get().lost;
        ctx.metrics.lost_ledgers(lost.len());
        if let Some(done) = rebuilding.take_if(|rebuilding| rebuilding.is_finished()) {
            match done.await {
                Ok(Ok(ids)) => put_in_force(&ctx, ids, &mut memory),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a lost quota ledger is not rebuilt yet: its limits refuse");
                }
                Err(error) => tracing::error!(%error, "rebuilding ended in a panic"),
            }
        } else if rebuilding.is_none() && !lost.is_empty() {
            let ctx = ctx.clone();
            rebuilding = Some(tokio::spawn(async move { rebuild::rebuild(&ctx, &lost).await }));
        }
        memory.save(&ctx, Instant::now()).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Names the ledgers that were made anew.
fn put_in_force(ctx: &Context, anew: BTreeMap<String, String>, memory: &mut Memory) {
    let mut seen = ctx.ledgers.get();
    for (bucket, id) in anew {
        tracing::warn!(bucket, "a lost quota ledger is rebuilt from what is stored");
        memory.forget(&bucket);
        seen.lost.remove(&bucket);
        seen.ids.insert(bucket, id);
    }
    take_over(ctx, seen);
}

fn take_over(ctx: &Context, seen: Ledgers) {
    let known = std::mem::replace(&mut *ctx.ledgers.0.lock(), seen.clone());
    if seen.lost != known.lost {
        tell(&seen);
        queue(ctx, seen.lost.symmetric_difference(&known.lost).cloned().collect());
    }
    if seen.ids != known.ids {
        ctx.first_pass.want_index();
    }
}

/// Queues every object that tells of these ledgers.
fn queue(ctx: &Context, buckets: BTreeSet<String>) {
    let names = |window: Window| (0..LEDGER_SHARDS).map(move |shard| ledger_bucket(window.label(), shard));
    for (tenant, publication) in ctx.publications.list() {
        let limits = &publication.snapshot.limits;
        if limits.iter().any(|limit| names(limit.window).any(|name| buckets.contains(&name))) {
            ctx.queues.tenant.add(ObjectKey::cluster(&tenant));
            ctx.queue_namespaces(&publication.snapshot.namespaces);
        }
    }
}

fn tell(ledgers: &Ledgers) {
    for bucket in &ledgers.lost {
        tracing::error!(bucket, "a quota ledger is lost: its limits refuse until it is rebuilt");
    }
}

/// Ledgers that carry the right id and have fewer writes than they had.
#[derive(Debug, Default)]
struct Behind(BTreeMap<String, u32>);

impl Behind {
    /// Declares those lost that were behind what is remembered for several looks; remembers the others.
    fn judge(&mut self, seen: &mut Ledgers, memory: &mut Memory) {
        for (bucket, sequence) in seen.sequences.clone() {
            let Some(id) = seen.ids.get(&bucket).cloned() else { continue };
            if memory.remember(&bucket, &id, sequence) {
                self.0.remove(&bucket);
                continue;
            }
            let looks = self.0.entry(bucket.clone()).or_default();
            *looks += 1;
            if *looks >= LOOKS_BACK {
                seen.ids.remove(&bucket);
                seen.lost.insert(bucket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequence: u64) -> Ledgers {
        let mut ledgers = Ledgers::default();
        ledgers.ids.insert("ledger-day-0".into(), "a".into());
        ledgers.sequences.insert("ledger-day-0".into(), sequence);
        ledgers
    }

    #[test]
    fn a_ledger_that_went_back_is_lost_unless_it_catches_up() {
        let (mut behind, mut memory) = (Behind::default(), Memory::default());
        let mut lost_at = |sequences: &[u64]| {
            let mut lost = Vec::new();
            for sequence in sequences {
                let mut ledgers = seen(*sequence);
                behind.judge(&mut ledgers, &mut memory);
                lost.push(!ledgers.lost.is_empty() && ledgers.ids.is_empty());
            }
            lost
        };
        assert_eq!(lost_at(&[7, 9, 8, 8, 9, 8]), [false; 6]);
        assert_eq!(lost_at(&[8, 8, 8, 8]), [false, false, false, true]);
    }
}
