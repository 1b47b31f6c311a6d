//! Repeated events: each was charged where it was admitted and is stored once, so what the others took comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use event::ledger_key::LedgerKey;
use event::{Lane, TenantNumber};
use policy::tenant::QuotaKey;
use policy::window::Window;

use super::{book, records};
use crate::context::Context;
use crate::errors::Failure;

/// Keys that are remembered as settled; beyond them all are looked at again.
const REMEMBERED: usize = 100_000;

/// How much of each key has come back, as far as this process knows.
#[derive(Debug, Default)]
pub struct Repeats(HashMap<String, u64>);

impl Repeats {
    /// Gives back what the book shows and the records do not have yet.
    ///
    /// # Errors
    /// The first failure; the other lanes are settled nevertheless.
    pub async fn give_back(&mut self, ctx: &Context) -> Result<(), Failure> {
        let mut result = Ok(());
        for (lanes, tenants) in lanes(ctx) {
            if let Err(error) = self.of_lanes(ctx, &lanes, &tenants).await {
                result = Err(error);
            }
        }
        result
    }

    async fn of_lanes(
        &mut self,
        ctx: &Context,
        lanes: &[Lane],
        tenants: &BTreeSet<TenantNumber>,
    ) -> Result<(), Failure> {
        let mut totals: HashMap<String, u64> = HashMap::new();
        for lane in lanes {
            for (key, units) in book::repeated(ctx, lane, tenants).await? {
                *totals.entry(key).or_default() += units;
            }
        }
        for (key, total) in totals {
            if self.0.get(&key) == Some(&total) {
                continue;
            }
            let Some(quota) = LedgerKey::parse(&key).and_then(|key| QuotaKey::of_record(&key)) else {
                continue;
            };
            let bucket = records::bucket(ctx, quota.shard()).await?;
            let changed = records::change(&bucket, &key, |record| record.return_repeats(total)).await?;
            let Some((before, after)) = changed else {
                // All of it is back, or the record is gone.
                self.remember(key, total);
                continue;
            };
            ctx.metrics.repeats_returned(after.repeats - before.repeats);
            if after.repeats == total {
                self.remember(key, total);
            }
        }
        Ok(())
    }

    fn remember(&mut self, key: String, total: u64) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key, total);
    }
}

/// Lanes of tenants that have a quota which never starts anew: those that moved have several.
fn lanes(ctx: &Context) -> BTreeMap<Vec<Lane>, BTreeSet<TenantNumber>> {
    let mut lanes: BTreeMap<Vec<Lane>, BTreeSet<TenantNumber>> = BTreeMap::new();
    for (_, publication) in ctx.publications.list() {
        let snapshot = &publication.snapshot;
        if snapshot.limits.iter().any(|limit| limit.window == Window::Total) {
            lanes.entry(ctx.moves.lanes(snapshot)).or_default().insert(snapshot.number);
        }
    }
    lanes
}
