//! Violations: stream `VIOLATIONS` -> the lane's `violations_raw`, each record exactly once.
//!
//! ```text
//! take the record ─ replay what is open ─> read ─> intent [lo, hi] (compare-and-set) ─> a block a lane, by token
//! ```
//! One record for all tenants, by the rules of a lane's (`intent`, `lease`): its holder alone inserts, an open intent is
//! repeated under the same tokens, and after a doubt the rows are counted and the missing ones inserted. Nothing is removed
//! here: the stream's duplicate window has made repeated publishes one.

mod blocks;
mod store;

use std::sync::Arc;
use std::time::Duration;

use event::Incarnation;
use event::names::VIOLATIONS_STREAM;
use jetstream::lane_reader::stream_created_ms;
use jetstream::{LaneMessage, LaneReader, ReadError};
use tokio::time::Instant;

use crate::context::Context;
use crate::port::Stop;
use store::Store;

/// How often rows are inserted at most, unless a batch is full.
const CYCLE: Duration = Duration::from_secs(1);
/// Messages and bytes of a batch.
const BATCH: (usize, usize) = (5_000, 4 << 20);
/// How long the first message of a batch is waited for in one go.
const IDLE_WAIT: Duration = Duration::from_secs(20);
/// Pause before the record of another sink is looked at again, and after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause of a stream that is stuck.
const STUCK_AGAIN: Duration = Duration::from_secs(10);

/// Works until the process ends.
pub async fn run(context: Arc<Context>) {
    while !context.is_shutting_down() {
        let Some(me) = context.lease.current() else {
            context.pause(AGAIN).await;
            continue;
        };
        match hold(&context, me).await {
            Stop::Lost(reason) => {
                tracing::debug!(reason, "violations are not held");
                context.pause(AGAIN).await;
            }
            Stop::Stuck(reason) => {
                tracing::error!(reason, "violations are stuck; nothing was skipped");
                context.pause(STUCK_AGAIN).await;
            }
            Stop::ShuttingDown => return,
        }
    }
}

/// Takes the stream and sinks it until that ends.
async fn hold(context: &Arc<Context>, me: Incarnation) -> Stop {
    let epoch = match stream_created_ms(&context.nats, VIOLATIONS_STREAM).await {
        Ok(created_ms) => i64::try_from(created_ms).unwrap_or(i64::MAX),
        Err(error) => return Stop::Lost(error.to_string()),
    };
    let mut store = match Store::take(context, me, epoch).await {
        Ok(store) => store,
        Err(stop) => return stop,
    };
    let reader = LaneReader::open(&context.nats, VIOLATIONS_STREAM, store.next_seq()).await;
    let mut reader = match reader {
        Ok(reader) if i64::try_from(reader.created_ms()) == Ok(epoch) => reader,
        Ok(_) => return Stop::Lost("the stream is another".to_owned()),
        Err(error) => return Stop::Lost(error.to_string()),
    };
    loop {
        let step = async {
            let messages = gather(context, me, &mut reader).await?;
            if messages.is_empty() { Ok(()) } else { store.flush(&messages).await }
        };
        if let Err(stop) = step.await {
            // Closed, the next holder has nothing to repeat.
            return store.close().await.err().unwrap_or(stop);
        }
    }
}

/// The next messages: what arrives within a cycle of the first one. None when nothing came.
async fn gather(
    context: &Context,
    me: Incarnation,
    reader: &mut LaneReader,
) -> Result<Vec<LaneMessage>, Stop> {
    let mut messages = read(context, me, reader, BATCH, IDLE_WAIT).await?;
    let Some(first) = messages.first() else { return Ok(messages) };
    tracing::trace!(seq = first.seq, "violations arrive");
    let due = Instant::now() + CYCLE;
    loop {
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        let room = (BATCH.0.saturating_sub(messages.len()), BATCH.1.saturating_sub(bytes));
        let wait = due.saturating_duration_since(Instant::now());
        if room.0 == 0 || room.1 == 0 || wait.is_zero() || context.is_shutting_down() {
            return Ok(messages);
        }
        messages.extend(read(context, me, reader, room, wait).await?);
    }
}

async fn read(
    context: &Context,
    me: Incarnation,
    reader: &mut LaneReader,
    (messages, bytes): (usize, usize),
    wait: Duration,
) -> Result<Vec<LaneMessage>, Stop> {
    if context.is_shutting_down() {
        return Err(Stop::ShuttingDown);
    }
    if context.lease.is_over(me) {
        return Err(Stop::Lost("another sink took it".to_owned()));
    }
    let mut shutdown = context.shutdown.clone();
    let read = tokio::select! {
        read = reader.next(messages, bytes, wait) => read,
        _ = shutdown.wait_for(|ends| *ends) => return Ok(Vec::new()),
    };
    match read {
        Ok(messages) => Ok(messages),
        Err(ReadError::Gap { first_seq }) => {
            // The stream drops its oldest when it is full or they are old.
            let lost = first_seq.saturating_sub(reader.position());
            tracing::error!(lost, first_seq, "violations were dropped by the stream before they were stored");
            context.metrics.violations_dropped.inc_by(lost);
            reader.seek(first_seq);
            Ok(Vec::new())
        }
        Err(ReadError::Unavailable(reason)) => {
            tracing::debug!(reason, "the stream of violations does not answer");
            context.pause(AGAIN).await;
            Ok(Vec::new())
        }
        Err(error @ (ReadError::Missing | ReadError::Recreated { .. })) => Err(Stop::Lost(error.to_string())),
        Err(error @ (ReadError::Refused(_) | ReadError::Beyond { .. })) => {
            Err(Stop::Stuck(error.to_string()))
        }
    }
}
