//! Which lanes dead pods may have written charges into: all that the tenants have had whose records know them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use event::ledger_key::LedgerKey;
use event::{Incarnation, Lane, TenantNumber};

use super::records::Orphan;
use crate::context::Context;
use crate::snapshot::publications::Publication;
use policy::snapshot::Snapshot;

/// What is to be settled in the lanes that its tenants have had: one, unless they moved.
#[derive(Debug, PartialEq, Eq)]
pub struct Ward {
    /// The lanes; the last is the present one.
    pub lanes: Vec<Lane>,
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
    /// By lanes.
    pub wards: Vec<Ward>,
    /// Lineages that no tenant has at present: their records wait.
    pub waits_for: BTreeSet<String>,
}

/// Lineages of the tenants that there are.
pub fn lineages(ctx: &Context) -> BTreeSet<String> {
    ctx.publications.list().into_iter().map(|(_, publication)| publication.snapshot.lineage.clone()).collect()
}

/// Sorts records by the lanes of their tenant, which `lanes` tells.
pub fn by_lanes(
    orphans: Vec<Orphan>,
    publications: &[(String, Arc<Publication>)],
    lanes: impl Fn(&Snapshot) -> Vec<Lane>,
) -> Wards {
    let places: HashMap<&str, (Vec<Lane>, TenantNumber)> = publications
        .iter()
        .map(|(_, publication)| &publication.snapshot)
        .map(|snapshot| (snapshot.lineage.as_str(), (lanes(snapshot), snapshot.number)))
        .collect();
    let mut by_lanes: BTreeMap<Vec<Lane>, Vec<(TenantNumber, Orphan)>> = BTreeMap::new();
    let mut waits_for = BTreeSet::new();
    for orphan in orphans {
        let Some(lineage) = LedgerKey::parse(&orphan.key).map(|key| key.lineage.to_owned()) else { continue };
        match places.get(lineage.as_str()) {
            Some((lanes, number)) => by_lanes.entry(lanes.clone()).or_default().push((*number, orphan)),
            None => {
                waits_for.insert(lineage);
            }
        }
    }
    let wards = by_lanes.into_iter().map(|(lanes, orphans)| Ward { lanes, orphans }).collect();
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
        let Wards { wards, waits_for } =
            by_lanes(orphans, &publications.list(), |snapshot| vec![snapshot.lane.clone()]);
        assert_eq!(waits_for, BTreeSet::from(["gone".to_owned()]));
        assert_eq!((wards.len(), &wards[0].lanes, wards[0].pods().len()), (1, &vec![lane], 3));
        assert!(wards[0].orphans.iter().all(|(found, _)| *found == number));
    }
}
