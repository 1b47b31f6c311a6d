//! Transit keys in memory, for tests of whoever plans them.

use std::collections::BTreeMap;

use event::{Observed, Stamp, TenantName};
use parking_lot::Mutex;

use super::plan::KIND;
use super::{KeyError, KeyState, KeyStep, TransitKey, TransitKeys, policy};
use crate::error::VaultError;

/// The fake.
#[derive(Debug, Default)]
pub struct FakeTransitKeys {
    vault: Mutex<Vault>,
}

#[derive(Debug, Default)]
struct Vault {
    keys: BTreeMap<TenantName, KeyState>,
    sealed: bool,
    writes: usize,
}

impl FakeTransitKeys {
    /// An empty Vault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is sealed, and answers nothing.
    pub fn set_sealed(&self, sealed: bool) {
        self.vault.lock().sealed = sealed;
    }

    /// Changes a key or its policy behind its owner's back.
    pub fn change(&self, tenant: &TenantName, change: impl FnOnce(&mut KeyState)) {
        if let Some(state) = self.vault.lock().keys.get_mut(tenant) {
            change(state);
        }
    }

    /// Loses a key and its policy.
    pub fn lose(&self, tenant: &TenantName) {
        self.vault.lock().keys.remove(tenant);
    }

    /// How many times something was written.
    pub fn writes(&self) -> usize {
        self.vault.lock().writes
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vault) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let mut vault = self.vault.lock();
        if vault.sealed { Err(VaultError::Sealed.into()) } else { act(&mut vault) }
    }
}

impl Vault {
    fn write_policy(
        &mut self,
        tenant: &TenantName,
        from: Option<&Stamp>,
        to: &Stamp,
    ) -> Result<(), KeyError> {
        let found = self.keys.get(tenant).and_then(|state| state.stamp.clone());
        if found.as_ref() != Some(to) && found.as_ref() != from {
            return Err(KeyError::StampMismatch { found });
        }
        let state = self.keys.entry(tenant.clone()).or_insert_with(|| KeyState {
            tenant: tenant.clone(),
            key: None,
            policy: None,
            stamp: None,
        });
        state.policy = Some(policy::render(tenant, to));
        state.stamp = Some(to.clone());
        self.writes += 1;
        Ok(())
    }

    fn stamped(&mut self, tenant: &TenantName, stamp: &Stamp) -> Result<&mut KeyState, KeyError> {
        match self.keys.get_mut(tenant) {
            Some(state) if state.stamp.as_ref() == Some(stamp) => {
                self.writes += 1;
                Ok(state)
            }
            other => Err(KeyError::StampMismatch { found: other.and_then(|state| state.stamp.clone()) }),
        }
    }
}

impl TransitKeys for FakeTransitKeys {
    async fn observe(&self, tenant: &TenantName) -> Observed<KeyState> {
        match self.with(|vault| Ok(vault.keys.get(tenant).cloned())) {
            Ok(Some(state)) => Observed::Present(state),
            Ok(None) => Observed::Absent,
            Err(error) => Observed::Unknown(error.to_string()),
        }
    }

    async fn execute(&self, step: &KeyStep) -> Result<(), KeyError> {
        self.with(|vault| match step {
            KeyStep::WritePolicy { tenant, from, to } => vault.write_policy(tenant, from.as_ref(), to),
            KeyStep::CreateKey { tenant, stamp } => {
                let state = vault.stamped(tenant, stamp)?;
                state.key.get_or_insert_with(|| TransitKey {
                    kind: KIND.to_owned(),
                    versions: vec![1],
                    exportable: false,
                    deletion_allowed: false,
                });
                Ok(())
            }
            KeyStep::ForbidDeletion { tenant, stamp } => {
                if let Some(key) = &mut vault.stamped(tenant, stamp)?.key {
                    key.deletion_allowed = false;
                }
                Ok(())
            }
        })
    }

    async fn destroy(&self, tenant: &TenantName, expected: &Stamp) -> Result<(), KeyError> {
        self.with(|vault| {
            if vault.keys.contains_key(tenant) {
                vault.stamped(tenant, expected)?;
                vault.keys.remove(tenant);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        super::super::contract::run(&FakeTransitKeys::new()).await;
    }

    #[tokio::test]
    async fn a_sealed_vault_is_unknown_never_absent() {
        let fake = FakeTransitKeys::new();
        fake.set_sealed(true);
        let tenant = "acme".parse().unwrap();
        assert!(matches!(fake.observe(&tenant).await, Observed::Unknown(_)));
    }
}
