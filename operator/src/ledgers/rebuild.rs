//! Makes lost quota ledgers anew from what is stored.
//!
//! ```text
//! index without them: pods refuse what they count
//!   -> every pod has drained it: nothing that they charged is under way
//!   -> each lane's end is noted, and its sink has passed it: what they charged is stored
//!   -> new buckets, with a record for each sum of charges of the current periods
//! index with their new ids
//! ```
//! The index says where this is: an operator that is interrupted begins again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use event::names::{LEDGER_SHARDS, ledger_bucket};
use event::{Lane, Position};
use jetstream::{Bucket, LedgerWindow};
use policy::limit::{CountFrom, Limit};
use policy::tally::Used;
use policy::window::Window;
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::errors::{Failure, System};
use crate::installation::recreate_ledger;
use crate::passage;
use crate::seeding::history::{self, Stored};
use crate::seeding::records::{self, Restored};
use crate::snapshot::publications::Publication;

/// Windows whose charges are stored for as long as they matter.
const REBUILT: [(Window, LedgerWindow, u32); 3] = [
    (Window::Hour, LedgerWindow::Hour, 1),
    (Window::Day, LedgerWindow::Day, 2),
    (Window::Month, LedgerWindow::Month, 32),
];
/// An operation on a record that was begun ends within this, whatever becomes of it.
const OPERATION: Duration = Duration::from_secs(3);
/// How long a sink may take to pass the end of its lane in one go.
const SINK_PATIENCE: Duration = Duration::from_secs(30);

/// A lost ledger that is made anew.
struct Anew {
    bucket: Bucket,
    id: String,
}

/// Makes those of `lost` anew that can be. The id of each: it may be named from now on.
///
/// # Errors
/// What has to be waited for, or fails: begin again.
pub async fn rebuild(ctx: &Context, lost: &BTreeSet<String>) -> Result<BTreeMap<String, String>, Failure> {
    let all =
        REBUILT.into_iter().flat_map(|(window, kind, _)| (0..LEDGER_SHARDS).map(move |s| (window, kind, s)));
    let lost: Vec<_> =
        all.filter(|(window, _, shard)| lost.contains(&ledger_bucket(window.label(), *shard))).collect();
    if lost.is_empty() {
        return Ok(BTreeMap::new());
    }
    drained(ctx, &lost.iter().map(|(window, _, shard)| ledger_bucket(window.label(), *shard)).collect())
        .await?;
    let mut anew: HashMap<(Window, u8), Anew> = HashMap::new();
    for (window, kind, shard) in lost {
        let name = ledger_bucket(window.label(), shard);
        let settings = &ctx.settings;
        let id = recreate_ledger(&ctx.nats, &settings.installation, settings.replicas, (kind, shard)).await?;
        anew.insert((window, shard), Anew { bucket: Bucket::open(&ctx.nats, &name).await?, id });
    }
    let mut marks: HashMap<Lane, Option<Position>> = HashMap::new();
    for (_, publication) in ctx.publications.list() {
        restore(ctx, &publication, &anew, &mut marks).await?;
    }
    Ok(anew.into_values().map(|anew| (anew.bucket.name().to_owned(), anew.id)).collect())
}

/// Whether nothing is under way any more that was charged to these ledgers.
async fn drained(ctx: &Context, lost: &BTreeSet<String>) -> Result<(), Failure> {
    let stored = ctx.store.index().await?;
    let named = stored.value.is_none_or(|index| lost.iter().any(|name| index.ledgers.contains_key(name)));
    if named {
        ctx.first_pass.want_index();
        return Err(Failure::unknown(System::Nats, "the index still names it"));
    }
    let undrained = ctx.fleet.undrained(stored.revision, Instant::now());
    if !undrained.is_empty() {
        let why = format!("requests that charged it may be under way in {}", undrained.join(", "));
        return Err(Failure::unknown(System::Nats, why));
    }
    tokio::time::sleep(OPERATION).await;
    Ok(())
}

/// Writes what a tenant's limits have used into the ledgers that are made anew.
async fn restore(
    ctx: &Context,
    publication: &Publication,
    anew: &HashMap<(Window, u8), Anew>,
    marks: &mut HashMap<Lane, Option<Position>>,
) -> Result<(), Failure> {
    let snapshot = &publication.snapshot;
    let is_lost = |limit: &&Limit| anew.keys().any(|(window, _)| *window == limit.window);
    let limits: Vec<&Limit> = snapshot.limits.iter().filter(is_lost).collect();
    if limits.is_empty() {
        return Ok(());
    }
    let lanes = ctx.moves.lanes(snapshot);
    let mut ends = Vec::new();
    for lane in &lanes {
        if !marks.contains_key(lane) {
            let passed = passage::all_passed(&ctx.nats, std::slice::from_ref(lane), SINK_PATIENCE).await?;
            marks.insert(lane.clone(), passed.first().map(|(_, end)| *end));
        }
        ends.extend(marks.get(lane).copied().flatten().map(|end| (lane.clone(), end)));
    }
    // A lane that was left may be gone, and its rows not.
    if ends.is_empty() && lanes.len() == 1 {
        return Ok(());
    }
    for limit in limits {
        let stored = Stored { snapshot, limit, ends: &ends };
        let now_ms = clock::now().as_millisecond();
        let charged = history::charged(&ctx.events, &stored, now_ms).await?;
        let before = match limit.count_from {
            CountFrom::Period => history::uncharged(&ctx.events, &stored, now_ms).await?,
            CountFrom::Creation => Vec::new(),
        };
        warn_of_retention(publication, limit);
        for (shard, records) in by_shard(charged, before) {
            if let Some(anew) = anew.get(&(limit.window, shard)) {
                records::restore(&anew.bucket, &anew.id, records).await?;
            }
        }
    }
    Ok(())
}

fn warn_of_retention(publication: &Publication, limit: &Limit) {
    let (tenant, retention_days) =
        (publication.snapshot.tenant.as_str(), publication.snapshot.retention_days);
    let days = REBUILT.iter().find(|(window, _, _)| *window == limit.window).map_or(0, |(_, _, days)| *days);
    if retention_days > 0 && retention_days < days {
        tracing::error!(
            tenant,
            limit = limit.identity,
            retention_days,
            "events of the limit's period are gone: what they used is not in the rebuilt ledger"
        );
    }
}

fn by_shard(charged: Vec<Used>, before: Vec<Used>) -> HashMap<u8, Vec<Restored>> {
    let mut sums: HashMap<(u8, String), (u64, u64)> = HashMap::new();
    for used in charged {
        sums.entry((used.shard, used.record_key)).or_default().0 += used.units;
    }
    for used in before {
        sums.entry((used.shard, used.record_key)).or_default().1 += used.units;
    }
    let mut by_shard: HashMap<u8, Vec<Restored>> = HashMap::new();
    for ((shard, record_key), (charged, before)) in sums {
        by_shard.entry(shard).or_default().push(Restored { record_key, charged, before });
    }
    by_shard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_what_was_charged_and_what_was_used_before() {
        let used = |key: &str, shard, units| Used { record_key: key.into(), shard, units };
        let charged = vec![used("a", 0, 5), used("b", 1, 2)];
        let mut sums = by_shard(charged, vec![used("a", 0, 70), used("c", 1, 1)]);
        let restored = |key: &str, charged, before| Restored { record_key: key.into(), charged, before };
        sums.values_mut().for_each(|records| records.sort_by(|a, b| a.record_key.cmp(&b.record_key)));
        assert_eq!(sums[&0], [restored("a", 5, 70)]);
        assert_eq!(sums[&1], [restored("b", 2, 0), restored("c", 0, 1)]);
    }
}
