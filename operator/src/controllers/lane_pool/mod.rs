//! LanePool: streams and tables that tenants share, a pair a shard.

mod apply;
mod build;
mod dereference;
mod shards;
mod status;
mod validate;

use std::sync::Arc;

use kube::ResourceExt;

pub use shards::Shards;

use crate::context::Context;
use crate::controllers::orders::{Mode, OnHold, Orders};
use crate::controllers::settle::Hindrance;
use crate::engine::ObjectKey;
use crate::engine::queue::{Action, spread};
use crate::errors::Failure;

/// Keeps a LanePool while tenants are in it, and until its shards are released.
pub const FINALIZER: &str = "meterplane.io/lane-pool";

/// Looks at one LanePool.
///
/// # Errors
/// The failure that kept it from its end; the status already says so.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(pool) = ctx.caches.pools.get(&key) else {
        ctx.shards.forget(&key.name);
        return Ok(Action::Await);
    };
    let used = dereference::tenants(&ctx, &pool);
    if pool.metadata.deletion_timestamp.is_some() {
        ctx.shards.forget(&key.name);
        if used.is_empty() {
            apply::release(&ctx, &pool).await?;
            return Ok(Action::Await);
        }
        status::write(&ctx, &pool, &Ok(0), used.len()).await?;
        return Ok(Action::Await);
    }
    let orders = Orders::of(pool.as_ref());
    let (placed, result) = match validate::validate(&pool) {
        Ok(()) if orders.mode == Mode::Paused => (Vec::new(), Err(OnHold::Paused.into())),
        Ok(()) => apply::apply(&ctx, &pool, &used).await,
        Err(why) => (Vec::new(), Err(Hindrance::Refused(why))),
    };
    let result = result.map(|()| placed.len() as u32);
    // What is in place takes tenants, whatever is in the way of the rest.
    if !placed.is_empty() && ctx.shards.put(&key.name, placed) {
        // Whoever waited for a shard is placed now.
        let waiting = ctx
            .caches
            .tenants
            .list()
            .into_iter()
            .filter(|tenant| ctx.publications.get(&tenant.name_any()).is_none());
        waiting.for_each(|tenant| ctx.queues.slice.add(ObjectKey::of(tenant.as_ref())));
    }
    status::write(&ctx, &pool, &result, used.len()).await?;
    match result {
        Err(Hindrance::Failed(failure)) => Err(failure),
        Err(Hindrance::OnHold(OnHold::Paused)) => Ok(Action::Await),
        _ => Ok(Action::After(ctx.settings.resync.mul_f64(0.8 + 0.4 * spread(&key, 0)))),
    }
}
