//! On a real server.

use std::sync::Arc;

use event::{Observed, Stamp, TenantName};
use vaultrs::api::transit::KeyType;
use vaultrs::api::transit::requests::{CreateKeyRequestBuilder, UpdateKeyConfigurationRequestBuilder};
use vaultrs::api::transit::responses::{ReadKeyData, ReadKeyResponse};
use vaultrs::client::VaultClient;
use vaultrs::{sys, transit};

use super::{KeyError, KeyState, KeyStep, TransitKey, TransitKeys, policy};
use crate::client::{Client, TRANSIT};
use crate::error::VaultError;

impl TransitKeys for Client {
    async fn observe(&self, tenant: &TenantName) -> Observed<KeyState> {
        match self.state(tenant).await {
            Ok(state) if state.key.is_none() && state.policy.is_none() => Observed::Absent,
            Ok(state) => Observed::Present(state),
            Err(error) => Observed::Unknown(error.to_string()),
        }
    }

    async fn execute(&self, step: &KeyStep) -> Result<(), KeyError> {
        match step {
            KeyStep::WritePolicy { tenant, from, to } => {
                let found = self.state(tenant).await?.stamp;
                if found.as_ref() != Some(to) && found != *from {
                    return Err(KeyError::StampMismatch { found });
                }
                Ok(self.write_policy(tenant, policy::render(tenant, to)).await?)
            }
            KeyStep::CreateKey { tenant, stamp } => {
                self.expect(tenant, stamp).await?;
                Ok(self.create_key(tenant).await?)
            }
            KeyStep::ForbidDeletion { tenant, stamp } => {
                self.expect(tenant, stamp).await?;
                Ok(self.allow_deletion(tenant, false).await?)
            }
        }
    }

    async fn destroy(&self, tenant: &TenantName, expected: &Stamp) -> Result<(), KeyError> {
        let state = self.state(tenant).await?;
        if state.key.is_none() && state.policy.is_none() {
            return Ok(());
        }
        if state.stamp.as_ref() != Some(expected) {
            return Err(KeyError::StampMismatch { found: state.stamp });
        }
        if state.key.is_some() {
            self.allow_deletion(tenant, true).await?;
            self.delete_key(tenant).await?;
        }
        // Last, so that a destruction that was interrupted finds its stamp again.
        Ok(self.delete_policy(tenant).await?)
    }
}

impl Client {
    /// The policy's stamp must be `stamp`.
    async fn expect(&self, tenant: &TenantName, stamp: &Stamp) -> Result<(), KeyError> {
        let found = self.state(tenant).await?.stamp;
        if found.as_ref() == Some(stamp) { Ok(()) } else { Err(KeyError::StampMismatch { found }) }
    }

    async fn state(&self, tenant: &TenantName) -> Result<KeyState, VaultError> {
        let name = tenant.transit_key();
        let read = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move { transit::key::read(&*client, TRANSIT, &name).await }
        };
        let key = absent_or(self.session.call(&format!("{TRANSIT}/keys/{name}"), read).await)?;
        let read = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move { sys::policy::read(&*client, &name).await }
        };
        let policy = absent_or(self.session.call(&format!("sys/policy/{name}"), read).await)?;
        let policy = policy.map(|policy| policy.rules);
        Ok(KeyState {
            tenant: tenant.clone(),
            key: key.map(|key| transit_key(&key)).transpose()?,
            stamp: policy.as_deref().and_then(policy::stamp),
            policy,
        })
    }

    async fn write_policy(&self, tenant: &TenantName, text: String) -> Result<(), VaultError> {
        let name = tenant.transit_key();
        let call = |client: Arc<VaultClient>| {
            let (name, text) = (name.clone(), text.clone());
            async move { sys::policy::set(&*client, &name, &text).await }
        };
        self.change(&format!("sys/policy/{name}"), call).await
    }

    async fn delete_policy(&self, tenant: &TenantName) -> Result<(), VaultError> {
        let name = tenant.transit_key();
        let call = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move { sys::policy::delete(&*client, &name).await }
        };
        self.change(&format!("sys/policy/{name}"), call).await
    }

    /// Harmless when the key is there: Vault keeps it.
    async fn create_key(&self, tenant: &TenantName) -> Result<(), VaultError> {
        let name = tenant.transit_key();
        let call = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move {
                let mut options = CreateKeyRequestBuilder::default();
                options
                    .key_type(KeyType::Aes256Gcm96)
                    .derived(false)
                    .exportable(false)
                    .allow_plaintext_backup(false);
                transit::key::create(&*client, TRANSIT, &name, Some(&mut options)).await
            }
        };
        self.change(&format!("{TRANSIT}/keys/{name}"), call).await
    }

    async fn allow_deletion(&self, tenant: &TenantName, allowed: bool) -> Result<(), VaultError> {
        let name = tenant.transit_key();
        let call = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move {
                let mut options = UpdateKeyConfigurationRequestBuilder::default();
                options.deletion_allowed(allowed);
                transit::key::update(&*client, TRANSIT, &name, Some(&mut options)).await
            }
        };
        self.change(&format!("{TRANSIT}/keys/{name}/config"), call).await
    }

    async fn delete_key(&self, tenant: &TenantName) -> Result<(), VaultError> {
        let name = tenant.transit_key();
        let call = |client: Arc<VaultClient>| {
            let name = name.clone();
            async move { transit::key::delete(&*client, TRANSIT, &name).await }
        };
        self.change(&format!("{TRANSIT}/keys/{name}"), call).await
    }
}

fn absent_or<T>(answer: Result<T, VaultError>) -> Result<Option<T>, VaultError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(VaultError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn transit_key(key: &ReadKeyResponse) -> Result<TransitKey, VaultError> {
    let unreadable = || VaultError::Invalid(format!("unreadable key {}", key.name));
    let versions: Option<Vec<u32>> = match &key.keys {
        ReadKeyData::Symmetric(keys) => keys.keys().map(|version| version.parse().ok()).collect(),
        ReadKeyData::Asymmetric(keys) => keys.keys().map(|version| version.parse().ok()).collect(),
    };
    let mut versions = versions.ok_or_else(unreadable)?;
    versions.sort_unstable();
    let kind = serde_json::to_value(key.key_type).ok();
    Ok(TransitKey {
        kind: kind.and_then(|kind| kind.as_str().map(str::to_owned)).ok_or_else(unreadable)?,
        versions,
        exportable: key.exportable || key.allow_plaintext_backup,
        deletion_allowed: key.deletion_allowed,
    })
}
