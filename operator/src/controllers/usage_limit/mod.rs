//! UsageLimit: a tenant's own, stricter limit. It becomes a rule of the tenant's snapshot; here it is only judged.

mod dereference;
mod status;
mod validate;

use std::sync::Arc;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::engine::queue::Action;
use crate::errors::Failure;

/// Looks at one UsageLimit.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(limit) = ctx.caches.limits.get(&key) else { return Ok(Action::Await) };
    let referred = dereference::dereference(&ctx, &limit);
    let verdict = validate::validate(&limit, &referred);
    let again = status::write(&ctx, &limit, &referred, &verdict).await?;
    Ok(again.map_or(Action::Await, Action::After))
}
