//! What is in force, behind an atomic pointer: requests read it without a lock, the watch replaces it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use event::TenantName;
use parking_lot::Mutex;
use policy::directory::{Directory, Offer};
use policy::heartbeat::{Recalling, Refused};
use policy::ledger_ids::LedgerIds;
use policy::snapshot::{Index, Snapshot, SnapshotError, Trust};
use policy::tenant::TenantPolicy;
use tokio::sync::Notify;

use super::replaced::Replaced;

/// How often it is looked whether what was decided by older policies has ended.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Everything a request needs of policy; immutable once published.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Tenants and keys.
    pub directory: Directory,
    /// The signed index; without it the bucket may be incomplete.
    pub index: Option<Index>,
    /// Ids of the ledger buckets, as the index names them.
    pub ledgers: Arc<LedgerIds>,
    /// The watch has delivered the whole bucket once.
    pub synced: bool,
    /// Highest revision up to which every entry was processed.
    pub revision: u64,
    /// Entries that were not taken over; the older ones stay in force.
    pub refused: Vec<Refused>,
}

impl Policies {
    /// Whether an unknown key may be answered 401: only a complete bucket can say that it does not exist.
    pub fn is_complete(&self) -> bool {
        self.synced && self.index.is_some()
    }

    /// Takes a tenant's entry over, or remembers why not.
    ///
    /// # Errors
    /// [`SnapshotError::UnknownKey`]: the trust file may have been renewed since; offer it again.
    pub fn put(
        &mut self,
        tenant: &TenantName,
        sealed: &[u8],
        revision: u64,
        trust: &Trust,
    ) -> Result<(), SnapshotError> {
        self.refused.retain(|refused| refused.tenant != *tenant);
        let opened = trust.open::<Snapshot>(sealed);
        let offered =
            opened.as_ref().map_err(ToString::to_string).and_then(|snapshot| self.offer(tenant, snapshot));
        if let Err(reason) = offered {
            self.refused.push(Refused { tenant: tenant.clone(), revision, reason });
        }
        match opened {
            Err(error @ SnapshotError::UnknownKey(_)) => Err(error),
            _ => Ok(()),
        }
    }

    fn offer(&mut self, tenant: &TenantName, snapshot: &Snapshot) -> Result<(), String> {
        if snapshot.tenant != *tenant {
            return Err(format!("the entry holds the snapshot of {}", snapshot.tenant));
        }
        let policy = TenantPolicy::new(snapshot.clone()).map_err(|error| error.to_string())?;
        match self.directory.offer(policy) {
            // The same generation again is a repeated delivery, not a step back.
            Offer::Stale { ours } if ours > snapshot.generation => {
                Err(format!("generation {} is older than {ours}", snapshot.generation))
            }
            Offer::Outdated { ours } => Err(format!(
                "epoch {} is older than {ours}: its writer does not lead any more",
                snapshot.epoch
            )),
            Offer::Applied | Offer::Stale { .. } => Ok(()),
        }
    }

    /// Forgets a tenant.
    pub fn remove(&mut self, tenant: &TenantName) {
        self.refused.retain(|refused| refused.tenant != *tenant);
        self.directory.remove(tenant);
    }

    /// Takes the index over.
    ///
    /// # Errors
    /// When it is not signed by a trusted key.
    pub fn put_index(&mut self, sealed: &[u8], trust: &Trust) -> Result<(), SnapshotError> {
        let index: Index = trust.open(sealed)?;
        self.ledgers = Arc::new(LedgerIds::new(&index));
        self.index = Some(index);
        Ok(())
    }
}

/// The published policies.
#[derive(Debug, Default)]
pub struct Store {
    policies: ArcSwap<Policies>,
    /// Policies that are not in force any more, for as long as somebody decides or sends by them.
    replaced: Mutex<Replaced<Policies>>,
    /// Revisions in force of which units of a higher cap are still on their way back.
    recalling: Mutex<BTreeMap<TenantName, u64>>,
    changed: Notify,
}

impl Store {
    /// What is in force now.
    pub fn load(&self) -> arc_swap::Guard<Arc<Policies>> {
        self.policies.load()
    }

    /// What is in force now, to keep.
    pub fn load_full(&self) -> Arc<Policies> {
        self.policies.load_full()
    }

    /// Puts new policies in force.
    pub fn publish(&self, policies: Policies) {
        let revision = policies.revision;
        // In one step, so that they stand in the list in the order in which they were replaced.
        let mut replaced = self.replaced.lock();
        let old = self.policies.swap(Arc::new(policies));
        replaced.push(revision, &old);
        drop(replaced);
        self.changed.notify_one();
    }

    /// Highest revision such that nothing is under way which an older one decided: requests and packs hold their policies.
    pub fn drained_revision(&self) -> u64 {
        self.replaced.lock().drained()
    }

    /// Returns when [`Self::drained_revision`] is not `told` any more.
    pub async fn drained_beyond(&self, told: u64) {
        while self.drained_revision() == told {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// From now on, until [`Self::recalled`], heartbeats say that units are on their way back.
    pub fn recalling(&self, tenant: TenantName, revision: u64) {
        self.recalling.lock().insert(tenant, revision);
    }

    /// Every unit of a higher cap than the one that `revision` brought is back.
    pub fn recalled(&self, tenant: &TenantName, revision: u64) {
        let mut recalling = self.recalling.lock();
        if recalling.get(tenant).is_some_and(|newest| *newest <= revision) {
            recalling.remove(tenant);
        }
        self.changed.notify_one();
    }

    /// What heartbeats say of it.
    pub fn recalls(&self) -> Vec<Recalling> {
        let recalling = self.recalling.lock();
        recalling
            .iter()
            .map(|(tenant, revision)| Recalling { tenant: tenant.clone(), revision: *revision })
            .collect()
    }

    /// Returns after the next change of what a heartbeat says, or at once after one that nobody waited for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
