//! Follows bucket `policy`: every change delivered is processed, batched, and published at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use event::TenantName;
use event::names::{POLICY_BUCKET, POLICY_INDEX_KEY, POLICY_KEY_PREFIX};
use futures_util::{FutureExt, StreamExt};
use jetstream::{Bucket, Client, Entry, WatchEvent};
use policy::snapshot::{SnapshotError, Trust};

use super::{Policies, Store};
use crate::metrics::Metrics;
use crate::quota::{Quotas, lowered};

/// Most changes published together: bounds how long a change waits behind others.
const BATCH: usize = 256;

/// Keeps the store up to date.
pub struct Follower {
    /// Where policies are published.
    pub store: Arc<Store>,
    /// Whoever holds units of caps that are lowered.
    pub quotas: Arc<Quotas>,
    /// What is told of it.
    pub metrics: Arc<Metrics>,
}

impl Follower {
    /// Runs until the process ends.
    pub async fn follow(self, client: Client, trust_file: PathBuf) {
        let bucket = open(&client).await;
        let mut keys = TrustFile { path: trust_file, trust: Trust::default() };
        keys.reload().await;
        let mut watch = bucket.watch();
        let mut next = Policies::default();
        while let Some(event) = watch.next().await {
            let mut changed = BTreeSet::new();
            changed.extend(keys.process(&mut next, event).await);
            for _ in 1..BATCH {
                match watch.next().now_or_never() {
                    Some(Some(event)) => changed.extend(keys.process(&mut next, event).await),
                    _ => break,
                }
            }
            self.put_in_force(next.clone(), &changed);
        }
    }

    /// Publishes; caps that are lowered are said to be on their way before the revision that lowers them is.
    fn put_in_force(&self, next: Policies, changed: &BTreeSet<TenantName>) {
        self.metrics.policy_revision.set(i64::try_from(next.revision).unwrap_or(i64::MAX));
        self.metrics.tenants.set(i64::try_from(next.directory.len()).unwrap_or(i64::MAX));
        self.metrics.snapshots_refused.set(i64::try_from(next.refused.len()).unwrap_or(i64::MAX));
        let (old, revision) = (self.store.load_full(), next.revision);
        let mut returns = Vec::new();
        for tenant in changed {
            let (Some(old), Some(new)) = (old.directory.tenant(tenant), next.directory.tenant(tenant)) else {
                continue;
            };
            let rules = lowered(old, new);
            if !rules.is_empty() {
                self.store.recalling(tenant.clone(), revision);
                returns.push((new.clone(), rules));
            }
        }
        self.quotas.name_ledgers(next.ledgers.clone());
        self.store.publish(next);
        for (policy, rules) in returns {
            let (store, quotas) = (self.store.clone(), self.quotas.clone());
            tokio::spawn(async move {
                quotas.return_lowered(&policy, &rules).await;
                store.recalled(policy.name(), revision);
            });
        }
    }
}

async fn open(client: &Client) -> Bucket {
    loop {
        match Bucket::open(client, POLICY_BUCKET).await {
            Ok(bucket) => return bucket,
            Err(error) => tracing::info!(%error, "waiting for the policy bucket: the operator creates it"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The mounted public keys; read again when a snapshot names a version that is not among them.
struct TrustFile {
    path: PathBuf,
    trust: Trust,
}

impl TrustFile {
    async fn reload(&mut self) {
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|error| error.to_string());
        match text.and_then(|text| Trust::from_json(&text)) {
            Ok(trust) => self.trust = trust,
            Err(error) => {
                tracing::error!(path = %self.path.display(), error, "the trust file cannot be read");
            }
        }
    }

    /// Takes an event over; the tenant it is about.
    async fn process(&mut self, policies: &mut Policies, event: WatchEvent) -> Option<TenantName> {
        match event {
            WatchEvent::Put(entry) => {
                self.put(policies, &entry).await;
                return tenant_of(&entry.key);
            }
            WatchEvent::Delete { key, revision } => {
                if let Some(tenant) = tenant_of(&key) {
                    policies.remove(&tenant);
                } else if key == POLICY_INDEX_KEY {
                    policies.index = None;
                }
                policies.revision = policies.revision.max(revision);
            }
            WatchEvent::Synced { revision } => {
                policies.synced = true;
                policies.revision = policies.revision.max(revision);
            }
            WatchEvent::Reset => *policies = Policies::default(),
        }
        None
    }

    async fn put(&mut self, policies: &mut Policies, entry: &Entry) {
        if self.take_over(policies, entry).is_err() {
            self.reload().await;
            if let Err(error) = self.take_over(policies, entry) {
                tracing::error!(key = entry.key, %error, "an entry of the policy bucket is not trusted");
            }
        }
        policies.revision = policies.revision.max(entry.revision);
    }

    fn take_over(&self, policies: &mut Policies, entry: &Entry) -> Result<(), SnapshotError> {
        if entry.key == POLICY_INDEX_KEY {
            return policies.put_index(&entry.value, &self.trust);
        }
        let Some(tenant) = tenant_of(&entry.key) else { return Ok(()) };
        policies.put(&tenant, &entry.value, entry.revision, &self.trust)?;
        if let Some(refused) = policies.refused.iter().find(|refused| refused.tenant == tenant) {
            tracing::error!(%tenant, reason = refused.reason, "a snapshot was refused; the older one stays in force");
        }
        Ok(())
    }
}

fn tenant_of(key: &str) -> Option<TenantName> {
    key.strip_prefix(POLICY_KEY_PREFIX)?.parse().ok()
}
