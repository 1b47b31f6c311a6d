//! The policy bucket: signed values, compare-and-set.

use event::TenantName;
use event::names::{POLICY_INDEX_KEY, POLICY_KEY_PREFIX};
use jetstream::{Bucket, Entry};
use parking_lot::RwLock;
use policy::snapshot::{Draft, Index, Sealed, Snapshot, SnapshotError, Trust};

use crate::errors::{Failure, System};

/// The bucket, and the keys that sign and verify what is in it.
pub struct Store {
    bucket: Bucket,
    vault: vault::Client,
    trust: RwLock<Trust>,
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
    pub async fn open(client: &jetstream::Client, vault: vault::Client) -> Result<Self, Failure> {
        let bucket = Bucket::open(client, event::names::POLICY_BUCKET).await?;
        let trust = Trust::new(vault.public_keys().await?);
        Ok(Self { bucket, vault, trust: RwLock::new(trust) })
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

    /// Signs and writes a tenant's snapshot over revision `expected`. Returns its revision.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put(&self, snapshot: &Snapshot, expected: u64) -> Result<u64, WriteError> {
        self.write(&snapshot.tenant.policy_key(), snapshot, expected).await
    }

    /// Signs and writes the index over revision `expected`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put_index(&self, index: &Index, expected: u64) -> Result<u64, WriteError> {
        self.write(POLICY_INDEX_KEY, index, expected).await
    }

    /// Deletes a tenant's snapshot at revision `expected`: its keys are unknown from then on.
    ///
    /// # Errors
    /// When NATS fails or the revision is another.
    pub async fn delete(&self, tenant: &TenantName, expected: u64) -> Result<u64, Failure> {
        Ok(self.bucket.delete(&tenant.policy_key(), expected).await?)
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
