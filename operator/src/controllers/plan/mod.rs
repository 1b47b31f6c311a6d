//! Plan: what tenants get. It becomes part of their snapshots; here it is only judged and counted.

mod apply;
mod dereference;
mod status;
pub mod validate;

use std::sync::Arc;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::engine::queue::Action;
use crate::errors::Failure;

/// Keeps a Plan while tenants are on it.
pub const FINALIZER: &str = "meterplane.io/plan-in-use";

/// Looks at one Plan.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(plan) = ctx.caches.plans.get(&key) else { return Ok(Action::Await) };
    let use_of_it = dereference::dereference(&ctx, &plan);
    let verdict = validate::validate(&plan);
    let Some(plan) = apply::apply(&ctx, &plan, &use_of_it).await? else { return Ok(Action::Await) };
    status::write(&ctx, &plan, &verdict, &use_of_it).await?;
    Ok(Action::Await)
}
