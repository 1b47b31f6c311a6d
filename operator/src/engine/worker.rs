//! Workers: they take keys from a queue and reconcile them, a bounded number at a time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tracing::{Instrument, info_span};

use super::ObjectKey;
use super::queue::{Action, Queue};
use crate::errors::Fault;
use crate::observe::ControllerMetrics;

/// Reconciles so far: each line of a log says which one it is from.
static RECONCILES: AtomicU64 = AtomicU64::new(1);

/// Starts `count` workers on `queue`. Each key is reconciled by `reconcile`; a fault decides itself what follows. A panic is an
/// object's own: it is told, and the object waits.
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
    queue.shared_by(count);
    for _ in 0..count {
        let (queue, metrics, reconcile) = (queue.clone(), metrics.clone(), reconcile.clone());
        tasks.spawn(async move {
            loop {
                let handout = queue.next().await;
                metrics.waited(handout.waited);
                let key = handout.key;
                let step = metrics.begin();
                let reconcile_id = RECONCILES.fetch_add(1, Ordering::Relaxed);
                let (controller, ObjectKey { namespace, name }) = (metrics.name(), &key);
                let span = info_span!("reconcile", controller, namespace, name, reconcile_id);
                // Nothing of ours is left half changed that a later look would trust: state is behind locks, and read anew.
                let result =
                    AssertUnwindSafe(reconcile(key.clone()).instrument(span.clone())).catch_unwind().await;
                let action = match &result {
                    Ok(Ok(action)) => *action,
                    Ok(Err(fault)) => fault.action(),
                    Err(_) => Action::Backoff,
                };
                let _told = span.enter();
                match &result {
                    Ok(Ok(_)) => step.finish(action),
                    Ok(Err(fault)) => {
                        let category = fault.category();
                        tracing::warn!(category, error = %fault, "reconcile failed");
                        step.fail(category);
                    }
                    Err(_) => {
                        tracing::error!("reconcile ended in a panic");
                        step.panicked();
                    }
                }
                queue.done(&key, action);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Failure;
    use crate::observe::Metrics;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_told_and_its_worker_goes_on() {
        let (queue, metrics, mut tasks) = (Arc::new(Queue::default()), Metrics::default(), JoinSet::new());
        let (told, mut ends) = tokio::sync::mpsc::channel(16);
        let reconcile = move |key: ObjectKey| {
            let told = told.clone();
            async move {
                assert!(key.name != "broken", "what a test breaks");
                told.send(key.name).await.unwrap();
                Ok::<_, Failure>(Action::Await)
            }
        };
        spawn(&mut tasks, 1, &queue, &metrics.controller("tenant", 1), reconcile);
        queue.add(ObjectKey::cluster("broken"));
        queue.add(ObjectKey::cluster("whole"));
        let end = tokio::time::timeout(Duration::from_secs(1), ends.recv()).await;
        assert_eq!(end.unwrap().as_deref(), Some("whole"));
        let text = metrics.encode();
        assert!(
            text.contains(r#"controller_runtime_reconcile_panics_total{controller="tenant"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"controller_runtime_active_workers{controller="tenant"} 0"#), "{text}");
    }
}
