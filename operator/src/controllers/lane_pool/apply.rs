//! Makes a pool's shards what they should be, and lets them go.

use crds::LanePool;
use event::{Ownership, Stamp};
use kube::{Api, ResourceExt};

use super::FINALIZER;
use super::build::build;
use super::dereference::dereference;
use super::validate::{elder, shards};
use crate::conditions::Why;
use crate::context::Context;
use crate::controllers::drift;
use crate::controllers::orders::{Mode, OnHold, Orders};
use crate::controllers::ownership::{Found, Owner, claim};
use crate::controllers::settle::{self, Hindrance, Permission};
use crate::controllers::tenant::build::lane_settings;
use crate::controllers::write;
use crate::errors::Failure;

/// What the names on stamps of pools begin with.
const STAMP_PREFIX: &str = "_pool.";

/// Name on the stamps of a pool's objects; no tenant can be called like it.
fn stamped(pool: &LanePool) -> String {
    format!("{STAMP_PREFIX}{}", pool.name_any())
}

/// Creates and repairs every shard, as far as it can; `used` are those with tenants, whose loss is told. Returns those that are
/// in place, and what is in the way of the first that is not.
pub async fn apply(ctx: &Context, pool: &LanePool, used: &[u16]) -> (Vec<u16>, Result<(), Hindrance>) {
    let (mut placed, mut result) = (Vec::new(), Ok(()));
    for number in shards(pool) {
        match shard(ctx, pool, number, used.contains(&number)).await {
            Ok(()) => placed.push(number),
            Err(hindrance) => result = result.and(Err(hindrance)),
        }
    }
    (placed, result)
}

async fn shard(ctx: &Context, pool: &LanePool, number: u16, used: bool) -> Result<(), Hindrance> {
    let (name, stamped, uid) = (pool.name_any(), stamped(pool), pool.uid().unwrap_or_default());
    let adoption = pool.spec.adoption;
    let installation = ctx.settings.installation.as_str();
    let owner = Owner { installation, kind: "lanepool", name: &name, stamped: &stamped, uid: &uid, adoption };
    let shard = dereference(&ctx.nats, &ctx.clickhouse, number).await;
    let found = shard.found()?;
    let theirs = found.iter().find_map(|(_, found)| another(found, &stamped)).map(str::to_owned);
    let first = || elder(pool, number, &ctx.caches.pools.list());
    if let Some(other) = theirs.or_else(|| if is_ours(&found, &stamped) { None } else { first() }) {
        let message = format!("spec.shards: shard {number} belongs to LanePool {other}");
        return Err(Hindrance::Refused(Why::new("ShardsConflict", message)));
    }
    let found: Vec<_> = found.iter().map(|(what, found)| (what.as_str(), found.clone())).collect();
    let claim = claim(&owner, &found).map_err(Hindrance::Refused)?;
    let settings = lane_settings(&ctx.settings, pool.spec.storage.value());
    let (stream, database) = build(number, settings, &claim.stamp);
    let must_exist = used && adoption != crds::tenant::Adoption::Force;
    let mut drift = drift::database(&database, &shard.database);
    drift.extend(drift::stream(&stream, &shard.stream, must_exist));
    if Orders::of(pool).mode == Mode::Observe {
        return if drift.is_empty() { Ok(()) } else { Err(OnHold::Drifted(drift.join("; ")).into()) };
    }
    if used && !drift.is_empty() {
        tracing::warn!(pool = name, differences = drift.join("; "), "repairing");
        ctx.metrics.repaired("LanePool", drift.len());
    }
    // From here on we own something, so from here on a deletion has to be waited for; never before.
    let api: Api<LanePool> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.caches.pools, pool, FINALIZER, true).await?;
    let permission = Permission { adopt: claim.adopt, must_exist };
    // Tables first: the sink takes a lane up as soon as its stream is there.
    settle::database(&ctx.clickhouse, &database, shard.database, permission).await?;
    settle::stream(&ctx.nats, &stream, shard.stream, permission).await
}

/// The other pool that a shard's stamp names.
fn another<'a>(found: &'a Found, own: &str) -> Option<&'a str> {
    let Found::Present(Some(stamp)) = found else { return None };
    stamp.tenant.strip_prefix(STAMP_PREFIX).filter(|_| stamp.tenant != own)
}

/// Whether a stamp of the pool is on a part of the shard.
fn is_ours(found: &[(String, Found)], own: &str) -> bool {
    found.iter().any(|(_, found)| matches!(found, Found::Present(Some(stamp)) if stamp.tenant == own))
}

/// Marks every shard as given back, then lets the pool go: rows of tenants that were there before stay.
///
/// # Errors
/// When a system fails.
pub async fn release(ctx: &Context, pool: &LanePool) -> Result<(), Failure> {
    let (stamped, uid) = (stamped(pool), pool.uid().unwrap_or_default());
    let ours = |stamp: &Stamp| stamp.ownership(&ctx.settings.installation, &stamped, &uid) == Ownership::Ours;
    for number in shards(pool) {
        let shard = dereference(&ctx.nats, &ctx.clickhouse, number).await;
        shard.found()?;
        let found = (&shard.stream, &shard.database);
        settle::release((&ctx.nats, &ctx.clickhouse), found, ours).await?;
    }
    let api: Api<LanePool> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.caches.pools, pool, FINALIZER, false).await
}
