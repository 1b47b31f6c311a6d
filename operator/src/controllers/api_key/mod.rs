//! ApiKey: a key in a Secret, its digest in the tenant's snapshot.
//!
//! The Secret is the source of truth: digests stand on it, so status can be lost. Crash order: Secret, status, snapshot;
//! a Secret without a status is read back, never minted again. Secrets are read by name, never listed or watched.

mod apply;
mod build;
mod dereference;
mod secret;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::context::Context;
use crate::engine::ObjectKey;
use crate::engine::queue::{Action, spread};
use crate::errors::Failure;
use build::Step;
use validate::Verdict;

/// Looks at one ApiKey.
///
/// # Errors
/// When the kube-apiserver fails; the status says so.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(object) = ctx.caches.keys.get(&key) else {
        ctx.records.forget(&key);
        return Ok(Action::Await);
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let now = clock::now();
    let mut referred = dereference::dereference(&ctx, &object);
    let verdict = validate::validate(&object, &referred);
    let mut held = None;
    let mut next = None;
    let mut verdict = verdict;
    if verdict == Verdict::Accepted && build::needs_secret(&object, now) {
        let settled = async {
            let found = dereference::secret(&ctx, &object).await?;
            let step = build::build(&object, &found, &ctx.settings.endpoint, now);
            apply::apply(&ctx, &object, step).await
        };
        match settled.await {
            Ok(Step::Held { held: key, next: due }) => {
                next = due;
                held = Some(*key);
            }
            Ok(Step::Blocked(why)) => verdict = Verdict::Stalled(why),
            Ok(Step::Wait(why)) => verdict = Verdict::Waiting(why),
            Ok(Step::Write { .. }) => return Ok(Action::Again),
            Err(failure) => {
                status::failed(&ctx, &object, &failure).await?;
                return Err(failure);
            }
        }
    }
    referred.refresh(&ctx, &object, held.as_ref(), now);
    let again = status::write(&ctx, &object, &referred, &verdict, held.as_ref(), now).await?;
    // Last: the status exists before anybody can use the key.
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let news = held.as_ref().is_some_and(|held| ctx.records.note(&key, uid, held.entries()));
    if let Some(tenant) = referred.tenant.filter(|_| news || !referred.programmed) {
        ctx.queues.tenant.add(ObjectKey::cluster(&tenant));
    }
    let poll = held.is_some().then(|| ctx.settings.secret_poll.mul_f64(0.8 + 0.4 * spread(&key, 0)));
    let expires = object.spec.expires.filter(|end| *end > now);
    let due = [next, expires].into_iter().flatten().min().map(|due| {
        Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO) + Duration::from_millis(100)
    });
    let soonest = [poll, due, again].into_iter().flatten().min();
    Ok(soonest.map_or(Action::Await, Action::After))
}
