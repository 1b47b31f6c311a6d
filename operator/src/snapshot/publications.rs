//! What stands in the policy bucket, as this process last read or wrote it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use policy::limit::Limit;
use policy::snapshot::{ApiKey, Snapshot};
use tokio::time::Instant;

use super::rules::PLAN;

/// One tenant's snapshot in the bucket.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Its revision in the bucket.
    pub revision: u64,
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// When this process wrote or first saw it.
    pub at: Instant,
    /// Revision since which each limit and key stands there as it does, by identity.
    since: HashMap<String, u64>,
}

impl Publication {
    /// Revision since which a limit or key stands in the snapshot as it does now.
    pub fn since(&self, identity: &str) -> Option<u64> {
        self.since.get(identity).copied()
    }

    /// Limits that are seeded, with the revision since which they are.
    pub fn seeding(&self) -> impl Iterator<Item = (&Limit, u64)> {
        let since = |limit: &Limit| self.since(&limit.identity).unwrap_or(self.revision);
        self.snapshot.limits.iter().filter(|limit| limit.seeding).map(move |limit| (limit, since(limit)))
    }

    /// Whether the snapshot was compiled from this generation of this plan, which has `limits` limits.
    pub fn follows(&self, plan: &str, generation: i64, limits: usize) -> bool {
        let of_plans = || self.snapshot.limits.iter().filter(|limit| limit.origin.kind == PLAN);
        of_plans().count() == limits
            && of_plans().all(|limit| limit.origin.name == plan && limit.origin.generation == generation)
    }
}

/// All publications, by tenant.
#[derive(Default)]
pub struct Publications {
    by_tenant: RwLock<HashMap<String, Arc<Publication>>>,
    /// Tenants with limits that are seeded.
    seeding: RwLock<BTreeSet<String>>,
}

impl Publications {
    /// One tenant's.
    pub fn get(&self, tenant: &str) -> Option<Arc<Publication>> {
        self.by_tenant.read().get(tenant).cloned()
    }

    /// All.
    pub fn list(&self) -> Vec<(String, Arc<Publication>)> {
        self.by_tenant
            .read()
            .iter()
            .map(|(tenant, publication)| (tenant.clone(), publication.clone()))
            .collect()
    }

    /// Those that have limits which are seeded.
    pub fn seeding(&self) -> Vec<Arc<Publication>> {
        let seeding = self.seeding.read().clone();
        seeding.iter().filter_map(|tenant| self.get(tenant)).collect()
    }

    /// Newest revision of all.
    pub fn newest(&self) -> Option<u64> {
        self.by_tenant.read().values().map(|publication| publication.revision).max()
    }

    /// Takes over what stands in the bucket now. Whether that is another revision than was known.
    pub fn put(&self, revision: u64, snapshot: Snapshot) -> bool {
        let tenant = snapshot.tenant.to_string();
        let mut by_tenant = self.by_tenant.write();
        let old = by_tenant.get(&tenant);
        if old.is_some_and(|old| old.revision == revision) {
            return false;
        }
        let since = since(&snapshot, revision, old.map(Arc::as_ref));
        let publication = Publication { revision, snapshot: Arc::new(snapshot), at: Instant::now(), since };
        let mut seeding = self.seeding.write();
        if publication.seeding().next().is_some() {
            seeding.insert(tenant.clone());
        } else {
            seeding.remove(&tenant);
        }
        by_tenant.insert(tenant, Arc::new(publication));
        true
    }

    /// Forgets a tenant whose entry was deleted.
    pub fn remove(&self, tenant: &str) -> Option<Arc<Publication>> {
        let mut by_tenant = self.by_tenant.write();
        self.seeding.write().remove(tenant);
        by_tenant.remove(tenant)
    }
}

fn since(snapshot: &Snapshot, revision: u64, old: Option<&Publication>) -> HashMap<String, u64> {
    let kept = |identity: &str, same: bool| -> u64 {
        old.filter(|_| same).and_then(|old| old.since(identity)).unwrap_or(revision)
    };
    let limits = snapshot.limits.iter().map(|limit| {
        let same = old.is_some_and(|old| old.snapshot.limits.contains(limit));
        (limit.identity.clone(), kept(&limit.identity, same))
    });
    let ids = snapshot.keys.iter().map(|key| key.id.as_str());
    let keys = ids.map(|id| {
        let same = old.is_some_and(|old| of(&old.snapshot, id).eq(of(snapshot, id)));
        (key_name(id), kept(&key_name(id), same))
    });
    let access = snapshot.access.iter().map(|policy| {
        let same = old.is_some_and(|old| old.snapshot.access.contains(policy));
        let name = access_name(&policy.identity);
        let since = kept(&name, same);
        (name, since)
    });
    limits.chain(keys).chain(access).collect()
}

fn of<'a>(snapshot: &'a Snapshot, id: &'a str) -> impl Iterator<Item = &'a ApiKey> {
    snapshot.keys.iter().filter(move |key| key.id == id)
}

/// See [`key_name`].
pub fn access_name(identity: &str) -> String {
    format!("access {identity}")
}

/// Limits and keys of one name are different things.
pub fn key_name(id: &str) -> String {
    format!("key {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;

    #[test]
    fn an_unchanged_limit_keeps_the_revision_it_appeared_with() {
        let publications = Publications::default();
        let first = snapshot_of(&[("plan.a", 1), ("plan.b", 1)]);
        assert!(publications.put(10, first.clone()));
        assert!(!publications.put(10, first));
        assert!(publications.put(11, snapshot_of(&[("plan.a", 1), ("plan.b", 2), ("plan.c", 1)])));
        let publication = publications.get("acme").unwrap();
        let since = |identity| publication.since(identity);
        assert_eq!((since("plan.a"), since("plan.b"), since("plan.c")), (Some(10), Some(11), Some(11)));
    }
}
