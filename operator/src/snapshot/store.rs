//! The policy bucket: signed values, compare-and-set.

use std::sync::Arc;

use event::TenantName;
use event::names::{POLICY_INDEX_KEY, POLICY_KEY_PREFIX};
use jetstream::{Bucket, Entry};
use parking_lot::RwLock;
use policy::snapshot::{Draft, Index, Sealed, Snapshot, SnapshotError, Trust};

use crate::errors::{Failure, System};
use crate::leadership::Term;

/// The bucket, and the keys that sign and verify what is in it.
pub struct Store {
    bucket: Bucket,
    vault: vault::Client,
    trust: RwLock<Trust>,
    term: Arc<Term>,
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The revision that a write must expect; 0 for a key that was never written.
    pub revision: u64,
    /// The value, if there is one that is signed by us and readable.
    pub value: Option<T>,
}

/// Why a value was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Larger than a pod accepts.
    #[error(transparent)]
    TooLarge(SnapshotError),
    /// A system failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Store {
    /// Opens the bucket and fetches the public keys.
    ///
    /// # Errors
    /// When NATS or Vault fails.
    pub async fn open(
        client: &jetstream::Client,
        vault: vault::Client,
        term: Arc<Term>,
    ) -> Result<Self, Failure> {
        let bucket = Bucket::open(client, event::names::POLICY_BUCKET).await?;
        let trust = Trust::new(vault.public_keys().await?);
        Ok(Self { bucket, vault, trust: RwLock::new(trust), term })
    }

    /// The tenant's snapshot.
    ///
    /// # Errors
    /// When NATS or Vault fails.
    pub async fn get(&self, tenant: &TenantName) -> Result<Stored<Snapshot>, Failure> {
        self.read(&tenant.policy_key()).await
    }

    /// The index.
    ///
    /// # Errors
    /// When NATS or Vault fails.
    pub async fn index(&self) -> Result<Stored<Index>, Failure> {
        self.read(POLICY_INDEX_KEY).await
    }

    /// Every tenant's snapshot.
    ///
    /// # Errors
    /// When NATS or Vault fails.
    pub async fn all(&self) -> Result<Vec<(TenantName, Stored<Snapshot>)>, Failure> {
        let mut all = Vec::new();
        for entry in self.bucket.entries().await? {
            let name = entry.key.strip_prefix(POLICY_KEY_PREFIX).and_then(|name| name.parse().ok());
            if let Some(name) = name {
                all.push((name, self.opened(Some(entry)).await?));
            }
        }
        Ok(all)
    }

    /// The epoch under which this process writes.
    pub fn epoch(&self) -> u64 {
        self.term.epoch()
    }

    /// Signs and writes a tenant's snapshot over what was read. Returns its revision.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put(&self, snapshot: &Snapshot, over: &Stored<Snapshot>) -> Result<u64, WriteError> {
        self.succeeds(over.value.as_ref().map(|stored| stored.epoch))?;
        self.write(&snapshot.tenant.policy_key(), snapshot, over.revision).await
    }

    /// Signs and writes the index over what was read.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put_index(&self, index: &Index, over: &Stored<Index>) -> Result<u64, WriteError> {
        self.succeeds(over.value.as_ref().map(|stored| stored.epoch))?;
        self.write(POLICY_INDEX_KEY, index, over.revision).await
    }

    /// Deletes a tenant's snapshot as it was read: its keys are unknown from then on.
    ///
    /// # Errors
    /// When NATS fails or the revision is another.
    pub async fn delete(&self, tenant: &TenantName, over: &Stored<Snapshot>) -> Result<u64, Failure> {
        self.succeeds(over.value.as_ref().map(|stored| stored.epoch))?;
        Ok(self.bucket.delete(&tenant.policy_key(), over.revision).await?)
    }

    /// Nothing is written over what a later leader wrote; that there is one ends this one.
    fn succeeds(&self, stored: Option<u64>) -> Result<(), Failure> {
        let (ours, theirs) = (self.epoch(), stored.unwrap_or_default());
        if theirs <= ours {
            return Ok(());
        }
        self.term.close();
        let detail = format!("written by the leader of epoch {theirs}; this process led with {ours}");
        Err(Failure::Conflict { system: System::Nats, detail })
    }

    async fn read<T: Sealed>(&self, key: &str) -> Result<Stored<T>, Failure> {
        let entry = self.bucket.get(key).await?;
        self.opened(entry).await
    }

    async fn opened<T: Sealed>(&self, entry: Option<Entry>) -> Result<Stored<T>, Failure> {
        let Some(entry) = entry else { return Ok(Stored { revision: 0, value: None }) };
        if entry.deleted {
            return Ok(Stored { revision: entry.revision, value: None });
        }
        let mut opened = self.trust.read().open(&entry.value);
        if matches!(opened, Err(SnapshotError::UnknownKey(_))) {
            // The signing key was rotated since we last asked.
            let trust = Trust::new(self.vault.public_keys().await?);
            opened = trust.open(&entry.value);
            *self.trust.write() = trust;
        }
        match opened {
            Ok(value) => Ok(Stored { revision: entry.revision, value: Some(value) }),
            Err(error) => {
                tracing::error!(key = entry.key, revision = entry.revision, %error, "an entry of the policy bucket is not ours or not readable; it will be replaced");
                Ok(Stored { revision: entry.revision, value: None })
            }
        }
    }

    async fn write<T: Sealed>(&self, key: &str, value: &T, expected: u64) -> Result<u64, WriteError> {
        let draft = Draft::new(value).map_err(|error| match error {
            SnapshotError::TooLarge(_) => WriteError::TooLarge(error),
            other => Failure::Defect { system: System::Nats, detail: other.to_string() }.into(),
        })?;
        let signature = self.vault.sign(&draft.to_sign()).await.map_err(Failure::from)?;
        let sealed = draft.seal(signature.key_version, &signature.bytes);
        Ok(self.bucket.update(key, sealed.into(), expected).await.map_err(Failure::from)?)
    }
}
