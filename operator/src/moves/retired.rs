//! The stream that a tenant of its own lane left behind: it reserves storage, so it goes when nothing can need it any more.

use event::audit::Audit;
use event::names::{AUDITS_BUCKET, INTENTS_BUCKET};
use event::seat::Seat;
use event::{Lane, Observed, Ownership, Position, TenantNumber};
use jetstream::{Bucket, StreamState, Streams};
use kube::ResourceExt;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::{Failure, System};
use crate::passage;

/// Deletes the stream of a tenant that lives in a pool now, once it is sunk, counted and empty. Its rows stay, and leave by their
/// retention.
///
/// # Errors
/// When a system fails.
pub async fn look(ctx: &Context, number: TenantNumber, seat: &Seat) -> Result<(), Failure> {
    let lane = Lane::Dedicated(seat.tenant.clone());
    let left = seat.moving.is_none() && *seat.home() != lane && seat.lanes.contains(&lane) && seat.at != lane;
    if !left {
        return Ok(());
    }
    let stream = match ctx.nats.observe(&lane.stream()).await {
        Observed::Present(stream) => stream,
        Observed::Absent => return Ok(()),
        Observed::Unknown(reason) => return Err(Failure::unknown(System::Nats, reason)),
    };
    let Some(tenant) = ctx.tenants.get(&ObjectKey::cluster(seat.tenant.as_str())) else { return Ok(()) };
    let uid = tenant.uid().unwrap_or_default();
    let ours = stream.stamp.clone().filter(|stamp| {
        stamp.ownership(&ctx.settings.installation, seat.tenant.as_str(), &uid) == Ownership::Ours
    });
    let Some(stamp) = ours else { return Ok(()) };
    let intents = Bucket::open(&ctx.nats, INTENTS_BUCKET).await?;
    let sunk = passage::position(&intents, &lane).await?;
    let audits = Bucket::open(&ctx.nats, AUDITS_BUCKET).await?;
    let audit = audits.get(&lane.to_string()).await?.filter(|entry| !entry.deleted);
    let audit = audit.and_then(|entry| Audit::decode(&entry.value));
    if !is_done(&stream, sunk, audit.as_ref()) {
        return Ok(());
    }
    ctx.nats.delete(&stream.name, &stamp).await?;
    tracing::info!(
        tenant = seat.tenant.as_str(),
        number = number.0,
        stream = stream.name,
        "left, sunk and empty: deleted"
    );
    Ok(())
}

/// Whether everything that the stream ever held is in the tables and counted, and nothing is in it.
fn is_done(stream: &StreamState, sunk: Option<Position>, audit: Option<&Audit>) -> bool {
    let end =
        Position { epoch: i64::try_from(stream.created_ms).unwrap_or(i64::MAX), sequence: stream.last_seq };
    let counted = audit
        .is_some_and(|audit| (audit.epoch, audit.upto) == (end.epoch, end.sequence) && audit.open.is_empty());
    stream.messages == 0 && (end.sequence == 0 || sunk.is_some_and(|sunk| sunk.has_passed(&end)) && counted)
}
