//! What the lanes' audits say of each tenant: what `CountsReconciled` rests on.

use std::collections::{BTreeSet, HashMap};

use event::audit::Audit;
use event::names::AUDITS_BUCKET;
use event::{Lane, TenantNumber};
use futures_util::StreamExt;
use jetstream::{Bucket, WatchEvent};
use parking_lot::RwLock;

use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::{Failure, System};

/// The audits, by lane.
#[derive(Default)]
pub struct Audits(RwLock<HashMap<Lane, Audit>>);

/// How a tenant's counts stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// Nothing was counted yet.
    NotYet,
    /// Everything that was counted adds up; so many events only because they are dead.
    AddsUp {
        /// Events of packs that nobody could read.
        dead: u64,
    },
    /// It does not; a sentence says where.
    Differs(String),
}

impl Audits {
    /// How the counts of a tenant stand in its lane.
    pub fn of(&self, lane: &Lane, tenant: TenantNumber) -> Counted {
        match self.0.read().get(lane) {
            None => Counted::NotYet,
            Some(audit) if audit.is_stuck() && audit.difference(tenant).is_none() => Counted::NotYet,
            Some(audit) => audit.difference(tenant).map_or(Counted::AddsUp { dead: audit.dead(tenant) }, |difference| {
                let counts = difference.counts;
                Counted::Differs(format!(
                    "lane {lane}, messages {} to {}: {} events were packed, {} are stored, {} of them twice, {} were repeats, \
                     {} are dead",
                    difference.lo,
                    difference.hi,
                    counts.packed,
                    counts.stored,
                    counts.doubled,
                    counts.duplicates,
                    counts.dead
                ))
            }),
        }
    }

    /// How the counts of a tenant stand over all lanes that it has had. One that nobody has counted yet says nothing beside others.
    pub fn of_all(&self, lanes: &[Lane], tenant: TenantNumber) -> Counted {
        let known = self.0.read();
        let stuck = |lane: &&Lane| known.get(lane).is_some_and(Audit::is_stuck);
        let is_stuck = lanes.iter().any(|lane| stuck(&lane));
        drop(known);
        let all: Vec<Counted> = lanes.iter().map(|lane| self.of(lane, tenant)).collect();
        let dead = all.iter().filter_map(|counted| match counted {
            Counted::AddsUp { dead } => Some(*dead),
            _ => None,
        });
        let adds_up = dead.reduce(|sum, dead| sum + dead).filter(|_| !is_stuck);
        let adds_up = adds_up.map_or(Counted::NotYet, |dead| Counted::AddsUp { dead });
        all.into_iter().find(|counted| matches!(counted, Counted::Differs(_))).unwrap_or(adds_up)
    }

    /// Takes over an audit; tenants of whom something else is to be said, and whether that is all of them.
    fn put(&self, lane: &Lane, audit: Audit) -> (BTreeSet<TenantNumber>, bool) {
        let differing = |audit: &Audit| -> BTreeSet<(TenantNumber, u64, u64, String)> {
            let standing = audit.open.iter().filter(|difference| difference.stands);
            let said = standing.chain(&audit.letters);
            said.map(|d| (d.tenant, d.lo, d.hi, format!("{:?}", d.counts))).collect()
        };
        let now = differing(&audit);
        let stuck = audit.is_stuck();
        let old = self.0.write().insert(lane.clone(), audit);
        // Of all who are in a lane that is counted no further, something else is to be said.
        let first = old.as_ref().is_none_or(|old| old.is_stuck() != stuck);
        let before = old.as_ref().map(differing).unwrap_or_default();
        (now.symmetric_difference(&before).map(|(tenant, ..)| *tenant).collect(), first)
    }
}

/// Follows the audits for ever.
///
/// # Errors
/// When there is no bucket of audits.
pub async fn run(ctx: &Context) -> Result<(), Failure> {
    let bucket = Bucket::open(&ctx.nats, AUDITS_BUCKET).await?;
    let mut watch = bucket.watch();
    while let Some(event) = watch.next().await {
        match event {
            WatchEvent::Put(entry) => {
                if let (Ok(lane), Some(audit)) = (entry.key.parse::<Lane>(), Audit::decode(&entry.value)) {
                    let (changed, first) = ctx.audits.put(&lane, audit);
                    if first || !changed.is_empty() {
                        queue(ctx, &lane, |number| first || changed.contains(&number));
                    }
                }
            }
            WatchEvent::Delete { .. } | WatchEvent::Reset | WatchEvent::Synced { .. } => {}
        }
    }
    Err(Failure::unknown(System::Nats, "the watch on audits ended"))
}

/// Queues the tenants of a lane whose status may change.
fn queue(ctx: &Context, lane: &Lane, wanted: impl Fn(TenantNumber) -> bool) {
    for (tenant, publication) in ctx.publications.list() {
        let snapshot = &publication.snapshot;
        if wanted(snapshot.number) && ctx.moves.lanes(snapshot).contains(lane) {
            ctx.queues.tenant.add(ObjectKey::cluster(&tenant));
        }
    }
}

#[cfg(test)]
mod tests {
    use event::audit::Counts;

    use super::*;

    #[test]
    fn a_tenants_counts_differ_until_they_add_up() {
        let (audits, lane) = (Audits::default(), Lane::Pooled(3));
        let (one, two) = (TenantNumber(1), TenantNumber(2));
        assert_eq!(audits.of(&lane, one), Counted::NotYet);
        let counts = Counts { packed: 5, stored: 3, duplicates: 1, ..Counts::default() };
        let audit = Audit::first(1).close(9, 0, &[(one, counts)].into(), 0);
        assert_eq!(audits.put(&lane, audit.clone()), (BTreeSet::new(), true));
        assert_eq!(audits.of(&lane, one), Counted::AddsUp { dead: 0 }, "it may only be late");
        let open = audit.open[0].clone();
        let standing = audit.recount(&open, counts, 60_000, 60_000);
        assert_eq!(audits.put(&lane, standing.clone()), ([one].into(), false));
        assert!(matches!(audits.of(&lane, one), Counted::Differs(why) if why.contains("messages 1 to 9: 5")));
        assert_eq!(audits.of(&lane, two), Counted::AddsUp { dead: 0 });
        let both = [Lane::Pooled(4), lane.clone()];
        assert!(matches!(audits.of_all(&both, one), Counted::Differs(_)), "also where it was before");
        assert_eq!(
            (audits.of_all(&both, two), audits.of_all(&both[..1], two)),
            (Counted::AddsUp { dead: 0 }, Counted::NotYet)
        );
        let mended = standing.recount(&open, Counts { stored: 4, ..counts }, 61_000, 60_000);
        assert_eq!(audits.put(&lane, mended), ([one].into(), false));
        assert_eq!(audits.of(&lane, one), Counted::AddsUp { dead: 0 });
    }
}
