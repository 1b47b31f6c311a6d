//! AccessPolicy: who may use what when. It becomes part of the tenant's snapshot; here it is only judged.

mod dereference;
mod status;
mod validate;

use std::sync::Arc;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::engine::queue::Action;
use crate::errors::Failure;

/// Looks at one AccessPolicy.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(policy) = ctx.caches.access.get(&key) else { return Ok(Action::Await) };
    let referred = dereference::dereference(&ctx, &policy);
    let verdict = validate::validate(&policy, &referred);
    let again = status::write(&ctx, &policy, &referred, &verdict).await?;
    Ok(again.map_or(Action::Await, Action::After))
}
