//! Which lanes dead pods may have written charges into: those of the tenants whose records know them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use event::ledger_key::LedgerKey;
use event::{Incarnation, Lane, TenantNumber};

use super::records::Orphan;
use crate::context::Context;
use crate::snapshot::publications::Publication;

/// What is to be settled in one lane.
#[derive(Debug, PartialEq, Eq)]
pub struct Ward {
    /// The lane.
    pub lane: Lane,
    /// Records, each with the number of its tenant.
    pub orphans: Vec<(TenantNumber, Orphan)>,
}

impl Ward {
    /// The dead pods that its records know.
    pub fn pods(&self) -> BTreeSet<Incarnation> {
        self.orphans.iter().flat_map(|(_, orphan)| orphan.pods.iter().copied()).collect()
    }
}

/// All that is to be settled.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Wards {
    /// By lane.
    pub wards: Vec<Ward>,
    /// Lineages that no tenant has at present: their records wait.
    pub waits_for: BTreeSet<String>,
}

/// Lineages of the tenants that there are.
pub fn lineages(ctx: &Context) -> BTreeSet<String> {
    ctx.publications.list().into_iter().map(|(_, publication)| publication.snapshot.lineage.clone()).collect()
}

/// Sorts records by the lane of their tenant.
pub fn by_lane(orphans: Vec<Orphan>, publications: &[(String, Arc<Publication>)]) -> Wards {
    let places: HashMap<&str, (&Lane, TenantNumber)> = publications
        .iter()
        .map(|(_, publication)| &publication.snapshot)
        .map(|snapshot| (snapshot.lineage.as_str(), (&snapshot.lane, snapshot.number)))
        .collect();
    let mut by_lane: BTreeMap<Lane, Vec<(TenantNumber, Orphan)>> = BTreeMap::new();
    let mut waits_for = BTreeSet::new();
    for orphan in orphans {
        let Some(lineage) = LedgerKey::parse(&orphan.key).map(|key| key.lineage.to_owned()) else { continue };
        match places.get(lineage.as_str()) {
            Some((lane, number)) => by_lane.entry((*lane).clone()).or_default().push((*number, orphan)),
            None => {
                waits_for.insert(lineage);
            }
        }
    }
    let wards = by_lane.into_iter().map(|(lane, orphans)| Ward { lane, orphans }).collect();
    Wards { wards, waits_for }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;
    use crate::snapshot::publications::Publications;

    #[test]
    fn records_are_settled_in_the_lane_of_their_tenant_or_wait() {
        let publications = Publications::default();
        let snapshot = snapshot_of(&[("plan.a", 1)]);
        let (lane, lineage, number) = (snapshot.lane.clone(), snapshot.lineage.clone(), snapshot.number);
        publications.put(1, snapshot);
        let orphan = |lineage: &str, pods: &[u128]| Orphan {
            shard: 0,
            key: format!("{lineage}.e.0.u.plan.a"),
            pods: pods.iter().map(|id| Incarnation(*id)).collect(),
        };
        let orphans = vec![orphan(&lineage, &[1, 2]), orphan("gone", &[1]), orphan(&lineage, &[2, 3])];
        let Wards { wards, waits_for } = by_lane(orphans, &publications.list());
        assert_eq!(waits_for, BTreeSet::from(["gone".to_owned()]));
        assert_eq!((wards.len(), &wards[0].lane, wards[0].pods().len()), (1, &lane, 3));
        assert!(wards[0].orphans.iter().all(|(found, _)| *found == number));
    }
}
