//! What dead pods held of quotas that never start anew, and what repeated events took of them, comes back.
//!
//! ```text
//! a pod is gone -> which records know it (scan) -> fence it off in their lanes, wait until the sinks have passed (fences)
//!               -> what it charged to each record, to the unit (book) -> records, by compare-and-set (records)
//! ```
//! Every step may be repeated, by this process or by another one, and changes nothing the second time. `docs/adr/0012`.

mod book;
mod fences;
mod records;
mod repeats;
mod vigil;
mod wards;

use std::collections::BTreeSet;
use std::time::Duration;

use event::Incarnation;
use event::names::PODS_BUCKET;
use futures_util::{StreamExt, stream};
use jetstream::Bucket;
use tokio::time::Instant;

use crate::context::Context;
use crate::errors::Failure;
use crate::passage;
use repeats::Repeats;
use vigil::Vigil;
use wards::{Ward, Wards};

/// How often heartbeats are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a pod that is missed has left to be heard again: longer than a pod takes to find NATS when that was away.
const CONFIRM: Duration = Duration::from_secs(10);
/// How often the book is read for repeated events.
const REPEATS_EVERY: Duration = Duration::from_secs(15);
/// Lanes that are settled at once.
const LANES: usize = 8;

/// Reaps for ever.
pub async fn run(ctx: &Context) {
    let (mut vigil, mut repeats) = (Vigil::new(Instant::now()), Repeats::default());
    let mut repeats_at = Instant::now() + REPEATS_EVERY;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(live) = told(live(ctx).await, "heartbeats could not be read") else { continue };
        vigil.look(live, &wards::lineages(ctx), Instant::now());
        if vigil.is_due(Instant::now()) {
            let waits_for = told(reap(ctx).await, "dead pods are not reaped yet");
            vigil.looked(waits_for, Instant::now());
        }
        if Instant::now() >= repeats_at {
            told(repeats.give_back(ctx).await, "repeated events did not give back their units yet");
            repeats_at = Instant::now() + REPEATS_EVERY;
        }
    }
}

fn told<T>(result: Result<T, Failure>, what: &str) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "{what}")).ok()
}

/// Pods that beat within the last 30 s ([`policy::heartbeat::DEAD_AFTER_MS`]), by the server's clock: that is how long it keeps
/// a heartbeat.
async fn live(ctx: &Context) -> Result<BTreeSet<Incarnation>, Failure> {
    let keys = Bucket::open(&ctx.nats, PODS_BUCKET).await?.keys().await?;
    Ok(keys.iter().filter_map(|key| key.parse().ok()).collect())
}

/// Reaps every pod that a record knows and nobody hears; returns the lineages whose lane is not known.
async fn reap(ctx: &Context) -> Result<BTreeSet<String>, Failure> {
    let live_before = live(ctx).await?;
    let mut orphans = records::orphans(ctx, &live_before).await?;
    if orphans.is_empty() {
        return Ok(BTreeSet::new());
    }
    tokio::time::sleep(CONFIRM).await;
    let live_now = live(ctx).await?;
    orphans.retain_mut(|orphan| {
        orphan.pods.retain(|pod| !live_now.contains(pod));
        !orphan.pods.is_empty()
    });
    let Wards { wards, waits_for } =
        wards::by_lanes(orphans, &ctx.publications.list(), |snapshot| ctx.moves.lanes(snapshot));
    let settled = stream::iter(wards).map(|ward| settle(ctx, ward)).buffer_unordered(LANES);
    // One that fails keeps no other back.
    let settled: Vec<Result<(), Failure>> = settled.collect().await;
    settled.into_iter().collect::<Result<(), Failure>>()?;
    Ok(waits_for)
}

/// Settles the dead pods of a ward.
async fn settle(ctx: &Context, ward: Ward) -> Result<(), Failure> {
    for (at, lane) in ward.lanes.iter().enumerate() {
        // Into a lane that was left and is gone nobody writes any more.
        if at + 1 == ward.lanes.len() || passage::exists(&ctx.nats, lane).await? {
            fences::raise(ctx, lane, &ward.pods()).await?;
        }
    }
    let charged = book::charged(ctx, &ward).await?;
    let (lanes, pods, records) = (format!("{:?}", ward.lanes), ward.pods().len(), ward.orphans.len());
    let reclaimed = records::reap(ctx, ward, &charged).await?;
    tracing::info!(lanes, pods, records, reclaimed, "dead pods are settled");
    ctx.metrics.reaped(pods, reclaimed);
    Ok(())
}
