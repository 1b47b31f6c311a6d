//! Which lanes there are, and a task for each.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use event::Lane;
use event::names::LANE_STREAM_PREFIX;
use jetstream::{StreamError, Streams};
use tokio::task::JoinHandle;

use crate::clock::now_ms;
use crate::context::Context;
use crate::lane::{self, Status};
use crate::metrics::LaneLabel;

/// How often lanes are listed.
const DISCOVER: Duration = Duration::from_secs(1);
/// How many listings apart the streams' ends are read.
const LAG_EVERY: u64 = 5;
/// How long a lane may take to finish its intent when the process ends.
pub const FINISH: Duration = Duration::from_secs(8);

struct Task {
    handle: JoinHandle<()>,
    status: Arc<Status>,
}

/// Keeps a task for every lane until the process ends; returns whether all of them have ended.
pub async fn run(context: Arc<Context>) -> bool {
    let mut tasks: HashMap<Lane, Task> = HashMap::new();
    let mut turn: u64 = 0;
    while !context.is_shutting_down() {
        match list(&context).await {
            Ok(lanes) => {
                for lane in lanes {
                    tasks.entry(lane).or_insert_with_key(|lane| start(&context, lane));
                }
                context.discovered.store(true, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "lanes were not listed"),
        }
        tasks.retain(|lane, task| keep(&context, lane, task));
        let held = tasks.iter().filter(|(_, task)| task.status.held.load(Ordering::Relaxed));
        *context.held.lock().unwrap_or_else(PoisonError::into_inner) =
            held.map(|(lane, _)| lane.clone()).collect();
        if turn.is_multiple_of(LAG_EVERY) {
            measure(&context, &tasks).await;
        }
        turn += 1;
        context.pause(DISCOVER).await;
    }
    let mut all = true;
    let deadline = tokio::time::Instant::now() + FINISH;
    for task in tasks.into_values() {
        all &= tokio::time::timeout_at(deadline, task.handle).await.is_ok();
    }
    all
}

fn start(context: &Arc<Context>, lane: &Lane) -> Task {
    let status = Arc::new(Status::default());
    let handle = tokio::spawn(lane::run(context.clone(), lane.clone(), status.clone()));
    Task { handle, status }
}

/// Whether the lane's task goes on; one that ended is forgotten, and started anew if its stream is listed again.
fn keep(context: &Context, lane: &Lane, task: &Task) -> bool {
    let label = LaneLabel { lane: lane.to_string() };
    let metrics = &context.metrics;
    if task.handle.is_finished() {
        metrics.state.remove(&label);
        metrics.lag.remove(&label);
        metrics.oldest_ms.remove(&label);
        return false;
    }
    let oldest = task.status.oldest_ms.load(Ordering::Relaxed);
    let age = if oldest == 0 { 0 } else { now_ms().saturating_sub(oldest) };
    metrics.oldest_ms.get_or_create(&label).set(i64::try_from(age).unwrap_or(i64::MAX));
    true
}

/// Reads how far each held lane is behind its stream.
async fn measure(context: &Context, tasks: &HashMap<Lane, Task>) {
    for (lane, task) in tasks.iter().filter(|(_, task)| task.status.held.load(Ordering::Relaxed)) {
        if context.is_shutting_down() {
            return;
        }
        if let Ok(last) = context.nats.last_sequence(&lane.stream()).await {
            let lag = last.saturating_sub(task.status.hi.load(Ordering::Relaxed));
            let label = LaneLabel { lane: lane.to_string() };
            context.metrics.lag.get_or_create(&label).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
    }
}

async fn list(context: &Context) -> Result<Vec<Lane>, StreamError> {
    let names = context.nats.list_names(LANE_STREAM_PREFIX).await?;
    Ok(names.iter().filter_map(|name| Lane::from_stream(name)).collect())
}
