//! Which tenant and key a secret speaks for: what a process holds of bucket `policy`.

use std::collections::HashMap;
use std::sync::Arc;

use event::TenantName;

use crate::apikey::KeyDigest;
use crate::snapshot::ApiKey;
use crate::tenant::TenantPolicy;

/// All tenants by name, and their keys by digest. Cheap to clone: entries are shared.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    tenants: HashMap<TenantName, Arc<TenantPolicy>>,
    keys: HashMap<KeyDigest, (TenantName, usize)>,
}

/// What became of a snapshot that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is in force now.
    Applied,
    /// It is older than, or the same as, the one in force.
    Stale {
        /// Generation in force.
        ours: u64,
    },
    /// It was written by a leader who had been replaced when the one in force was written.
    Outdated {
        /// Epoch in force.
        ours: u64,
    },
}

impl Directory {
    /// Takes a snapshot over unless a newer one of the same lineage is in force.
    pub fn offer(&mut self, policy: TenantPolicy) -> Offer {
        let name = policy.name().clone();
        if let Some(current) = self.tenants.get(&name) {
            let (ours, theirs) = (current.snapshot(), policy.snapshot());
            if ours.lineage == theirs.lineage && ours.generation >= theirs.generation {
                return Offer::Stale { ours: ours.generation };
            }
            if theirs.is_outdated_by(ours) {
                return Offer::Outdated { ours: ours.epoch };
            }
        }
        self.remove(&name);
        for (at, key) in policy.snapshot().keys.iter().enumerate() {
            self.keys.insert(key.digest, (name.clone(), at));
        }
        self.tenants.insert(name, Arc::new(policy));
        Offer::Applied
    }

    /// Forgets a tenant: its keys are unknown from now on.
    pub fn remove(&mut self, name: &TenantName) {
        if let Some(old) = self.tenants.remove(name) {
            for key in &old.snapshot().keys {
                if self.keys.get(&key.digest).is_some_and(|(owner, _)| owner == name) {
                    self.keys.remove(&key.digest);
                }
            }
        }
    }

    /// The tenant and key that a secret's digest belongs to.
    pub fn find(&self, digest: &KeyDigest) -> Option<(&Arc<TenantPolicy>, &ApiKey)> {
        let (name, at) = self.keys.get(digest)?;
        let policy = self.tenants.get(name)?;
        Some((policy, policy.snapshot().keys.get(*at)?))
    }

    /// One tenant.
    pub fn tenant(&self, name: &TenantName) -> Option<&Arc<TenantPolicy>> {
        self.tenants.get(name)
    }

    /// All tenants.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<TenantPolicy>> {
        self.tenants.values()
    }

    /// Number of tenants.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn policy(generation: u64, secret: &str) -> TenantPolicy {
        let mut snapshot = snapshot(vec![]);
        snapshot.generation = generation;
        snapshot.keys[0].digest = KeyDigest::of(secret);
        TenantPolicy::new(snapshot).unwrap()
    }

    #[test]
    fn older_snapshots_are_refused_and_old_keys_forgotten() {
        let mut directory = Directory::default();
        assert_eq!(directory.offer(policy(5, "new")), Offer::Applied);
        assert_eq!(directory.offer(policy(4, "old")), Offer::Stale { ours: 5 });
        assert_eq!(directory.offer(policy(5, "same")), Offer::Stale { ours: 5 });
        assert!(directory.find(&KeyDigest::of("new")).is_some());
        assert!(directory.find(&KeyDigest::of("old")).is_none());
        assert_eq!(directory.offer(policy(6, "newer")), Offer::Applied);
        assert!(directory.find(&KeyDigest::of("new")).is_none(), "a key that left the snapshot is revoked");
        directory.remove(&"acme".parse().unwrap());
        assert!(directory.is_empty() && directory.find(&KeyDigest::of("newer")).is_none());
    }

    #[test]
    fn a_leader_that_was_replaced_is_not_followed() {
        let written = |epoch, generation| {
            let mut snapshot = policy(generation, "app").snapshot().clone();
            snapshot.epoch = epoch;
            TenantPolicy::new(snapshot).unwrap()
        };
        let mut directory = Directory::default();
        for (epoch, generation, expected) in [
            (0, 1, Offer::Applied),
            (3, 2, Offer::Applied),
            (2, 3, Offer::Outdated { ours: 3 }),
            (3, 4, Offer::Applied),
            (4, 5, Offer::Applied),
            (4, 5, Offer::Stale { ours: 5 }),
            // An operator that knows no epochs was put back: better followed than a policy that stands still.
            (0, 6, Offer::Applied),
        ] {
            assert_eq!(directory.offer(written(epoch, generation)), expected, "epoch {epoch}");
        }
    }

    #[test]
    fn a_new_lineage_may_begin_at_any_generation() {
        let mut directory = Directory::default();
        directory.offer(policy(5, "a"));
        let mut fresh = snapshot(vec![]);
        fresh.lineage = "6b2e1a4c-0000-4000-8000-000000000002".into();
        assert_eq!(directory.offer(TenantPolicy::new(fresh).unwrap()), Offer::Applied);
    }
}
