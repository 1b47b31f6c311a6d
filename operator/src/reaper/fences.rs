//! Fencing pods off from a lane, and waiting until everything that they had stored before is in the tables.

use std::collections::BTreeSet;
use std::time::Duration;

use event::names::FENCE_SLOTS;
use event::{Incarnation, Lane};
use futures_util::{StreamExt, TryStreamExt, stream};
use jetstream::fence;

use crate::context::Context;
use crate::errors::{Failure, System};
use crate::passage;

/// How long one tombstone waits for its acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often one is sent: a pack that is on its way holds it up for as long.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);
/// Tombstones under way at once.
const AT_ONCE: usize = 32;
/// How long a sink may be behind before the whole is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns when nothing of `pods` can be stored in the lane any more, and everything of them that is has passed its sink.
///
/// # Errors
/// When NATS fails, or the sink does not get there.
pub async fn raise(ctx: &Context, lane: &Lane, pods: &BTreeSet<Incarnation>) -> Result<(), Failure> {
    let stream = lane.stream();
    let subjects: Vec<String> = pods
        .iter()
        .flat_map(|pod| (0..FENCE_SLOTS).map(move |slot| lane.fence_subject(*pod, slot)))
        .collect();
    stream::iter(subjects)
        .map(|subject| one(ctx, &stream, subject))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    // Behind the last acknowledgement: what slipped in before a tombstone stands below this mark.
    match passage::mark(&ctx.nats, lane).await? {
        Some(mark) => passage::passed(&ctx.nats, lane, mark, PATIENCE).await,
        None => Ok(()),
    }
}

async fn one(ctx: &Context, stream: &str, subject: String) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        match fence::raise(&ctx.nats, stream, &subject, ACK_TIMEOUT).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => {
                return Err(Failure::unknown(System::Nats, format!("{subject}: {error}")));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
