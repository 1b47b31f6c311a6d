//! What is said about a LanePool.

use crds::condition::{ACCEPTED, PROGRAMMED, READY};
use crds::{LanePool, LanePoolStatus};
use jiff::Timestamp;
use kube::Api;

use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::orders::{self, Orders};
use crate::controllers::settle::Hindrance;
use crate::controllers::write;
use crate::errors::Failure;

/// Writes the status if it differs.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(
    ctx: &Context,
    pool: &LanePool,
    result: &Result<u32, Hindrance>,
    tenants: usize,
) -> Result<(), Failure> {
    let status = compute(pool, result, tenants, ctx.settings.replicas, clock::now());
    let api: Api<LanePool> = Api::all(ctx.kube.clone());
    write::status(&api, &ctx.caches.pools, pool, pool.status.as_ref(), &status).await
}

fn compute(
    pool: &LanePool,
    result: &Result<u32, Hindrance>,
    tenants: usize,
    replicas: usize,
    now: Timestamp,
) -> LanePoolStatus {
    let old = pool.status.clone().unwrap_or_default();
    let generation = pool.metadata.generation;
    let mut statements = Statements::default();
    let mut shards = old.shards;
    match result {
        _ if pool.metadata.deletion_timestamp.is_some() => {
            statements.keep(ACCEPTED, &old.conditions).keep(PROGRAMMED, &old.conditions);
            let message = format!("{tenants} tenants are in this pool; it goes when none is");
            statements.reconciling(&Why::new("InUse", message));
        }
        Ok(placed) => {
            shards = Some(*placed);
            statements
                .yes(ACCEPTED, "Accepted", "the spec is valid and its shards are free")
                .yes(PROGRAMMED, "Programmed", "every shard has its stream and its tables")
                .yes(READY, "Ready", "the pool is as written");
        }
        Err(Hindrance::Refused(why)) => {
            statements.refused(why);
        }
        Err(Hindrance::Stalled(why)) => {
            statements.yes(ACCEPTED, "Accepted", "the spec is valid").stalled(why);
        }
        Err(Hindrance::Waiting(why)) => {
            statements.yes(ACCEPTED, "Accepted", "the spec is valid").reconciling(why);
        }
        Err(Hindrance::OnHold(hold)) => {
            statements.yes(ACCEPTED, "Accepted", "the spec is valid");
            orders::on_hold(&mut statements, hold, &old.conditions, (old.observed_generation, generation));
        }
        Err(Hindrance::Failed(failure)) => {
            let why = Why::new(failure.reason(), failure.to_string());
            statements.yes(ACCEPTED, "Accepted", "the spec is valid");
            // A failing system makes nothing untrue that was said about this generation.
            if old.observed_generation == generation {
                statements.keep(PROGRAMMED, &old.conditions).keep(READY, &old.conditions);
            }
            statements.reconciling(&why);
        }
    }
    let orders = Orders::of(pool);
    if pool.metadata.deletion_timestamp.is_none() {
        orders::state(&mut statements, orders.mode, result.as_ref().err(), &old.conditions);
    }
    LanePoolStatus {
        observed_generation: generation,
        last_handled_reconcile_at: orders.at,
        conditions: statements.conditions(&old.conditions, generation, now),
        shards,
        tenants: u32::try_from(tenants).ok(),
        replicas: u32::try_from(replicas).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::pool;
    use super::*;
    use crds::condition::{ConditionStatus, RECONCILING, STALLED, find};

    #[test]
    fn a_pool_says_what_is_in_place_and_what_is_in_its_way() {
        let at = Timestamp::UNIX_EPOCH;
        let status = compute(&pool("a", 0, 4), &Ok(4), 7, 3, at);
        assert_eq!((status.shards, status.tenants, status.replicas), (Some(4), Some(7), Some(3)));
        assert_eq!(find(&status.conditions, READY).unwrap().status, ConditionStatus::True);
        let stalled = Err(Hindrance::Stalled(Why::new("StorageReserved", "no room")));
        let status = compute(&pool("a", 0, 4), &stalled, 0, 1, at);
        assert_eq!(find(&status.conditions, STALLED).unwrap().reason, "StorageReserved");
        let mut deleted = pool("a", 0, 4);
        deleted.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        let status = compute(&deleted, &Ok(0), 7, 1, at);
        assert!(find(&status.conditions, RECONCILING).unwrap().message.starts_with("7 tenants"));
    }
}
