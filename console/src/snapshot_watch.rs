//! Policy as this process holds it: follows bucket `policy` and takes over what is signed by a trusted key.
//!
//! ```text
//! Put -> open -> TenantPolicy -> Directory.offer      Delete -> remove      Reset -> begin anew, not ready
//! ```
//! A snapshot signed with a key that is not trusted *yet* is kept and tried again: a rotated trust file reaches a mount
//! up to a minute after the first snapshot that needs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use event::TenantName;
use event::names::{POLICY_BUCKET, POLICY_INDEX_KEY, POLICY_KEY_PREFIX};
use futures_util::{FutureExt, StreamExt};
use jetstream::{Bucket, Client, Entry, WatchEvent};
use policy::directory::{Directory, Offer};
use policy::snapshot::{Index, Snapshot, SnapshotError, Trust};
use policy::tenant::TenantPolicy;

use crate::metrics::Metrics;

/// Most changes published together: bounds how long a change waits behind others.
const BATCH: usize = 256;
/// How often an absent bucket or a not yet trusted key is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything a request needs of policy; immutable once published.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Tenants and keys.
    pub directory: Directory,
    /// The signed index: without it the bucket may be incomplete.
    pub index: Option<Index>,
    /// The watch has delivered the whole bucket once.
    pub synced: bool,
}

impl Policies {
    /// Whether a key that is not in the directory is known not to exist.
    pub fn is_complete(&self) -> bool {
        self.synced && self.index.is_some()
    }

    /// Takes an entry over; the older one stays in force when it is refused.
    fn put(&mut self, key: &str, sealed: &[u8], trust: &Trust) -> Result<(), Refused> {
        if key == POLICY_INDEX_KEY {
            self.index = Some(trust.open(sealed)?);
            return Ok(());
        }
        let Some(tenant) = tenant_of(key) else { return Err(Refused::Key) };
        let snapshot: Snapshot = trust.open(sealed)?;
        if snapshot.tenant != tenant {
            return Err(Refused::OtherTenant(snapshot.tenant));
        }
        let generation = snapshot.generation;
        let policy = TenantPolicy::new(snapshot).map_err(|error| Refused::Unusable(error.to_string()))?;
        match self.directory.offer(policy) {
            // The same generation again is a repeated delivery, not a step back.
            Offer::Stale { ours } if ours > generation => Err(Refused::Stale { ours, generation }),
            Offer::Outdated { ours } => Err(Refused::Outdated { ours }),
            Offer::Applied | Offer::Stale { .. } => Ok(()),
        }
    }

    fn delete(&mut self, key: &str) {
        if key == POLICY_INDEX_KEY {
            self.index = None;
        } else if let Some(tenant) = tenant_of(key) {
            self.directory.remove(&tenant);
        }
    }
}

fn tenant_of(key: &str) -> Option<TenantName> {
    key.strip_prefix(POLICY_KEY_PREFIX)?.parse().ok()
}

/// Why an entry is not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not sealed, not trusted or not readable.
    #[error(transparent)]
    Sealed(#[from] SnapshotError),
    /// Not a key that the bucket should hold.
    #[error("the key names neither a tenant nor the index")]
    Key,
    /// A tenant's snapshot under another one's key.
    #[error("it holds the snapshot of {0}")]
    OtherTenant(TenantName),
    /// Signed, and not usable by this build.
    #[error("{0}")]
    Unusable(String),
    /// Older than what is in force.
    #[error("generation {generation} is older than {ours}")]
    Stale {
        /// Generation in force.
        ours: u64,
        /// Generation offered.
        generation: u64,
    },
    /// Written by a leader who had been replaced when the one in force was.
    #[error("its writer does not lead any more: epoch {ours} is in force")]
    Outdated {
        /// Epoch in force.
        ours: u64,
    },
}

impl Refused {
    /// Label of the metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::Sealed(SnapshotError::UnknownKey(_)) => "unknown_key",
            Self::Sealed(SnapshotError::BadSignature) => "bad_signature",
            Self::Sealed(_) => "unreadable",
            Self::Key => "unknown_entry",
            Self::OtherTenant(_) => "other_tenant",
            Self::Unusable(_) => "unusable",
            Self::Stale { .. } => "stale",
            Self::Outdated { .. } => "outdated",
        }
    }
}

/// The published policies.
#[derive(Debug, Default)]
pub struct Store(ArcSwap<Policies>);

impl Store {
    /// What is in force now.
    pub fn load(&self) -> Arc<Policies> {
        self.0.load_full()
    }

    /// Puts policies in force.
    pub fn publish(&self, policies: Policies) {
        self.0.store(Arc::new(policies));
    }
}

/// Runs until the process ends.
pub async fn follow(client: Client, trust_file: PathBuf, store: Arc<Store>, metrics: Arc<Metrics>) {
    let bucket = open(&client).await;
    let mut follower = Follower {
        trust_file,
        trust: Trust::default(),
        policies: Policies::default(),
        untrusted: BTreeMap::new(),
        metrics,
    };
    follower.read_trust().await;
    let mut watch = bucket.watch();
    loop {
        let waiting = !follower.untrusted.is_empty();
        tokio::select! {
            next = watch.next() => {
                let Some(event) = next else { return };
                follower.process(event).await;
                for _ in 1..BATCH {
                    let Some(Some(event)) = watch.next().now_or_never() else { break };
                    follower.process(event).await;
                }
            }
            () = tokio::time::sleep(RETRY), if waiting => follower.retry_untrusted().await,
        }
        follower.publish(&store);
    }
}

async fn open(client: &Client) -> Bucket {
    loop {
        match Bucket::open(client, POLICY_BUCKET).await {
            Ok(bucket) => return bucket,
            Err(error) => tracing::info!(%error, "waiting for the policy bucket: the operator creates it"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The state of the watch.
struct Follower {
    trust_file: PathBuf,
    trust: Trust,
    policies: Policies,
    /// The newest entry of each key that waits for the trust file.
    untrusted: BTreeMap<String, Entry>,
    metrics: Arc<Metrics>,
}

impl Follower {
    async fn process(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Put(entry) => self.put(entry).await,
            WatchEvent::Delete { key, .. } => {
                self.untrusted.remove(&key);
                self.policies.delete(&key);
            }
            WatchEvent::Synced { revision } => {
                if !self.policies.synced {
                    tracing::info!(revision, tenants = self.policies.directory.len(), "policies loaded");
                }
                self.policies.synced = true;
            }
            WatchEvent::Reset => {
                tracing::warn!("the policy bucket was replaced: not ready until it is complete again");
                self.untrusted.clear();
                self.policies = Policies::default();
            }
        }
    }

    async fn put(&mut self, entry: Entry) {
        self.untrusted.remove(&entry.key);
        let mut result = self.policies.put(&entry.key, &entry.value, &self.trust);
        if let Err(Refused::Sealed(SnapshotError::UnknownKey(_))) = result {
            self.read_trust().await;
            result = self.policies.put(&entry.key, &entry.value, &self.trust);
        }
        let Err(refused) = result else { return };
        self.metrics.count_refused(refused.reason());
        tracing::error!(key = entry.key, revision = entry.revision, %refused, "a policy entry was refused; the older one stays in force");
        if let Refused::Sealed(SnapshotError::UnknownKey(_)) = refused {
            self.untrusted.insert(entry.key.clone(), entry);
        }
    }

    async fn retry_untrusted(&mut self) {
        self.read_trust().await;
        let (policies, trust) = (&mut self.policies, &self.trust);
        self.untrusted.retain(|key, entry| match policies.put(key, &entry.value, trust) {
            Err(Refused::Sealed(SnapshotError::UnknownKey(_))) => true,
            outcome => {
                tracing::info!(key, taken_over = outcome.is_ok(), "the trust file now knows the entry's key");
                false
            }
        });
    }

    async fn read_trust(&mut self) {
        match read_trust(&self.trust_file).await {
            Ok(trust) => self.trust = trust,
            Err(error) => {
                tracing::error!(path = %self.trust_file.display(), error, "the trust file cannot be read");
            }
        }
    }

    fn publish(&self, store: &Store) {
        let count = i64::try_from(self.policies.directory.len()).unwrap_or(i64::MAX);
        self.metrics.tenants.set(count);
        // Until the first sync nobody may use it, so it is not copied for every batch of a large bucket.
        if self.policies.synced || store.load().synced {
            store.publish(self.policies.clone());
        }
    }
}

async fn read_trust(path: &Path) -> Result<Trust, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    Trust::from_json(&text)
}

#[cfg(test)]
#[path = "snapshot_watch_tests.rs"]
mod tests;
