//! Removes a tenant's rows from the pools it shared, for good.

use std::time::Duration;

use clickhouse::databases::Databases;
use event::names::{AUDITS_BUCKET, forgotten_key};
use event::{Lane, TenantNumber};
use jetstream::Bucket;
use tokio::time::Instant;

use crate::context::Context;
use crate::errors::{Failure, System};
use crate::passage;

/// How long one round waits for a lane's sink.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the rows from every pool among `lanes`. The tenant's snapshot went with revision `withdrawn`: once no pod decides by an
/// older one, and the sinks have passed what was admitted by it, no row of it comes any more. May be repeated.
///
/// # Errors
/// What has to be waited for, or fails.
pub async fn forget(
    ctx: &Context,
    lanes: &[Lane],
    tenant: TenantNumber,
    withdrawn: u64,
) -> Result<(), Failure> {
    let pools: Vec<&Lane> = lanes.iter().filter(|lane| matches!(lane, Lane::Pooled(_))).collect();
    if pools.is_empty() {
        return Ok(());
    }
    let undrained = ctx.fleet.undrained(withdrawn, Instant::now());
    if !undrained.is_empty() {
        let detail = format!("requests of the tenant may be under way in {}", undrained.join(", "));
        return Err(Failure::unknown(System::Nats, detail));
    }
    // Before the rows go: what is missing of them from then on is not to be put back from the stream.
    let audits = Bucket::open(&ctx.nats, AUDITS_BUCKET).await?;
    audits.put(&forgotten_key(tenant), Vec::new().into()).await?;
    for lane in pools {
        if let Some(mark) = passage::mark(&ctx.nats, lane).await? {
            passage::passed(&ctx.nats, lane, mark, PATIENCE).await?;
        }
        ctx.clickhouse.forget(&lane.database(), tenant).await?;
    }
    Ok(())
}
