//! The stream that a tenant of its own lane left behind: it reserves storage, so it goes when nothing can need it any more.

use event::audit::Audit;
use event::names::{AUDITS_BUCKET, INTENTS_BUCKET};
use event::seat::Seat;
use event::{Lane, Observed, Ownership, Position, TenantNumber};
use jetstream::{Bucket, Streams};
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
    let Some(tenant) = ctx.caches.tenants.get(&ObjectKey::cluster(seat.tenant.as_str())) else {
        return Ok(());
    };
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
    let epoch = i64::try_from(stream.created_ms).unwrap_or(i64::MAX);
    let end = Position { epoch, sequence: stream.last_seq };
    if !is_done(stream.messages, end, sunk, audit.as_ref()) {
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

/// Whether everything that a stream with this `end` ever held is in the tables and counted, and nothing is in it.
fn is_done(messages: u64, end: Position, sunk: Option<Position>, audit: Option<&Audit>) -> bool {
    let counted = audit
        .is_some_and(|audit| (audit.epoch, audit.upto) == (end.epoch, end.sequence) && audit.open.is_empty());
    messages == 0 && (end.sequence == 0 || (sunk.is_some_and(|sunk| sunk.has_passed(&end)) && counted))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_stream_goes_when_it_is_sunk_counted_and_empty() {
        let at = |sequence| Position { epoch: 7, sequence };
        let counted = |upto| Audit::first(7).close(upto, 0, &BTreeMap::new(), 0);
        assert!(is_done(0, at(9), Some(at(9)), Some(&counted(9))));
        assert!(is_done(0, at(0), None, None), "nobody ever wrote there");
        assert!(!is_done(1, at(9), Some(at(9)), Some(&counted(9))), "what is in it may have to be put back");
        assert!(!is_done(0, at(9), Some(at(8)), Some(&counted(9))));
        assert!(!is_done(0, at(9), Some(at(9)), Some(&counted(8))) && !is_done(0, at(9), Some(at(9)), None));
    }
}
