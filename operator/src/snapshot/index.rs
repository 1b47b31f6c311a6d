//! The index entry: it says that the bucket holds every tenant, so it is written last.

use std::time::Duration;

use policy::snapshot::Index;

use super::publish::withdraw;
use super::store::WriteError;
use crate::context::Context;
use crate::engine::ObjectKey;

/// Changes within this time become one write.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Time before a failed write is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// Writes the index whenever it changes, once every tenant was looked at.
pub async fn run(ctx: &Context) {
    let mut swept = false;
    loop {
        ctx.first_pass.index_wanted().await;
        tokio::time::sleep(DEBOUNCE).await;
        if !ctx.first_pass.is_complete() {
            // Every tenant that passes asks again.
            continue;
        }
        if let Err(error) = write(ctx, &mut swept).await {
            tracing::warn!(%error, "the index was not written; trying again");
            tokio::time::sleep(RETRY).await;
            ctx.first_pass.want_index();
        }
    }
}

async fn write(ctx: &Context, swept: &mut bool) -> Result<(), WriteError> {
    if !*swept {
        sweep(ctx).await?;
        *swept = true;
    }
    let stored = ctx.store.index().await?;
    let index = Index {
        installation: ctx.settings.installation.clone(),
        tenants: ctx.publications.list().len() as u64,
        ledgers: ctx.ledgers.get().ids,
        epoch: ctx.store.epoch(),
    };
    if !stored.value.as_ref().is_some_and(|stored| stored.says_the_same(&index)) {
        let revision = ctx.store.put_index(&index, &stored).await?;
        tracing::info!(revision, tenants = index.tenants, "index written");
    }
    Ok(())
}

/// Removes snapshots of tenants that went away without their finalizer: absence means removal.
async fn sweep(ctx: &Context) -> Result<(), WriteError> {
    for (name, stored) in ctx.store.all().await? {
        if stored.value.is_some() && !ctx.caches.tenants.contains(&ObjectKey::cluster(name.as_str())) {
            tracing::warn!(tenant = name.as_str(), "a snapshot of a tenant that does not exist");
            withdraw(ctx, &name, &stored).await?;
        }
    }
    Ok(())
}
