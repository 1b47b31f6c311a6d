//! Workers: they take keys from a queue and reconcile them, a bounded number at a time.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::ObjectKey;
use super::queue::{Action, Queue};
use crate::errors::Fault;
use crate::observe::ControllerMetrics;

/// Starts `count` workers on `queue`. Each key is reconciled by `reconcile`; a fault decides itself what follows.
pub fn spawn<F, R, E>(
    tasks: &mut JoinSet<()>,
    count: usize,
    queue: &Arc<Queue>,
    metrics: &ControllerMetrics,
    reconcile: F,
) where
    F: Fn(ObjectKey) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Action, E>> + Send,
    E: Fault + Send,
{
    for _ in 0..count {
        let (queue, metrics, reconcile) = (queue.clone(), metrics.clone(), reconcile.clone());
        tasks.spawn(async move {
            loop {
                let key = queue.next().await;
                let step = metrics.begin();
                let result = reconcile(key.clone()).await;
                let action = match &result {
                    Ok(action) => *action,
                    Err(fault) => fault.action(),
                };
                match &result {
                    Ok(_) => step.finish(action),
                    Err(fault) => {
                        let (controller, category) = (metrics.name(), fault.category());
                        tracing::warn!(controller, object = %key, category, error = %fault, "reconcile failed");
                        step.fail(action, category);
                    }
                }
                queue.done(&key, action);
            }
        });
    }
}
