//! What is in force, behind an atomic pointer: requests read it without a lock, the watch replaces it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use event::TenantName;
use policy::directory::{Directory, Offer};
use policy::heartbeat::Refused;
use policy::snapshot::{Index, Snapshot, SnapshotError, Trust};
use policy::tenant::TenantPolicy;

/// Everything a request needs of policy; immutable once published.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Tenants and keys.
    pub directory: Directory,
    /// The signed index; without it the bucket may be incomplete.
    pub index: Option<Index>,
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
        self.index = Some(trust.open(sealed)?);
        Ok(())
    }
}

/// The published policies.
#[derive(Debug, Default)]
pub struct Store(ArcSwap<Policies>);

impl Store {
    /// What is in force now.
    pub fn load(&self) -> arc_swap::Guard<Arc<Policies>> {
        self.0.load()
    }

    /// What is in force now, to keep.
    pub fn load_full(&self) -> Arc<Policies> {
        self.0.load_full()
    }

    /// Puts new policies in force.
    pub fn publish(&self, policies: Policies) {
        self.0.store(Arc::new(policies));
    }
}
