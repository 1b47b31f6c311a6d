//! Follows the pods' heartbeats and queues every object whose `Enforced` they change.

use std::time::Duration;

use event::Incarnation;
use event::names::PODS_BUCKET;
use futures_util::StreamExt;
use jetstream::{Bucket, Entry, WatchEvent};
use policy::heartbeat::Heartbeat;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::Failure;
use crate::fleet::Summary;

/// How often silence is noticed.
const TICK: Duration = Duration::from_secs(1);

/// Follows for ever.
///
/// # Errors
/// When there is no bucket of heartbeats.
pub async fn run(ctx: &Context) -> Result<(), Failure> {
    let bucket = Bucket::open(&ctx.nats, PODS_BUCKET).await?;
    let mut beats = bucket.watch();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Summary::default();
    loop {
        tokio::select! {
            event = beats.next() => match event {
                Some(event) => take(ctx, event),
                None => return Err(Failure::unknown(crate::errors::System::Nats, "the watch on heartbeats ended")),
            },
            _ = tick.tick() => {}
        }
        let summary = ctx.fleet.summary(Instant::now());
        if summary != last {
            ctx.metrics.pods("live", summary.live);
            ctx.metrics.pods("lagging", summary.lagging);
            queue_changed(ctx, &last, &summary);
            last = summary;
        }
    }
}

fn take(ctx: &Context, event: WatchEvent) {
    match event {
        WatchEvent::Put(entry) => heard(ctx, &entry),
        WatchEvent::Delete { key, .. } => {
            if let Ok(incarnation) = key.parse::<Incarnation>() {
                ctx.fleet.left(incarnation);
            }
        }
        WatchEvent::Reset => ctx.fleet.reset(),
        WatchEvent::Synced { .. } => ctx.fleet.mark_synced(),
    }
}

fn heard(ctx: &Context, entry: &Entry) {
    match serde_json::from_slice::<Heartbeat>(&entry.value) {
        Ok(heartbeat) => {
            let now_ms = u64::try_from(clock::now().as_millisecond()).unwrap_or_default();
            let age = Duration::from_millis(now_ms.saturating_sub(entry.created_ms));
            ctx.fleet.heard(heartbeat, age, Instant::now());
        }
        Err(error) => tracing::warn!(key = entry.key, %error, "a heartbeat that cannot be read"),
    }
}

fn queue_changed(ctx: &Context, old: &Summary, new: &Summary) {
    for (tenant, publication) in ctx.publications.list() {
        if new.differs_for(old, &publication.snapshot.tenant, publication.revision) {
            ctx.queues.tenant.add(ObjectKey::cluster(&tenant));
            ctx.queue_namespaces(&publication.snapshot.namespaces);
        }
    }
}
