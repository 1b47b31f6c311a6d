//! Signing of snapshots, and the tenants' pseudonym keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use event::TenantName;
use event::names::SIGNING_KEY;
use event::pseudonym::PseudonymKey;
use vaultrs::api::transit::HashAlgorithm;
use vaultrs::api::transit::requests::{GenerateHmacRequestBuilder, SignDataRequestBuilder};
use vaultrs::api::transit::responses::ReadKeyData;
use vaultrs::client::VaultClient;
use vaultrs::transit::{data, generate, key};

use crate::client::{Client, TRANSIT};
use crate::error::VaultError;

/// What the tenant's transit key is applied to; another text would be another pseudonym key.
const PSEUDONYM_INPUT: &[u8] = b"meterplane/pseudonym/v1";
/// Version of the transit key that pseudonyms come from: rotation must not change them.
const PSEUDONYM_KEY_VERSION: u64 = 1;

/// A signature by the platform's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Version of the key that signed.
    pub key_version: u32,
    /// Ed25519 signature of the bytes themselves (not of a hash of them).
    pub bytes: [u8; 64],
}

impl Client {
    /// Signs `bytes` with the platform's snapshot key.
    ///
    /// # Errors
    /// See [`VaultError`]; [`VaultError::NotFound`] when the key was never set up.
    pub async fn sign(&self, bytes: &[u8]) -> Result<Signature, VaultError> {
        let input = BASE64.encode(bytes);
        let path = format!("{TRANSIT}/sign/{SIGNING_KEY}");
        let call = |client: Arc<VaultClient>| {
            let input = input.clone();
            async move {
                let mut options = SignDataRequestBuilder::default();
                options.prehashed(false);
                data::sign(&*client, TRANSIT, SIGNING_KEY, &input, Some(&mut options)).await
            }
        };
        let answer = self.change(&path, call).await?;
        let (key_version, bytes) = versioned(&answer.signature).ok_or_else(|| unreadable(&path))?;
        Ok(Signature { key_version, bytes })
    }

    /// Public halves of the platform's snapshot key, a version each.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn public_keys(&self) -> Result<BTreeMap<u32, [u8; 32]>, VaultError> {
        let path = format!("{TRANSIT}/keys/{SIGNING_KEY}");
        let call = |client: Arc<VaultClient>| async move { key::read(&*client, TRANSIT, SIGNING_KEY).await };
        let ReadKeyData::Asymmetric(keys) = self.session.call(&path, call).await?.keys else {
            return Err(VaultError::Invalid(format!("{path} is not a signing key")));
        };
        keys.iter()
            .map(|(version, key)| Some((version.parse().ok()?, decode(&key.public_key)?)))
            .collect::<Option<_>>()
            .ok_or_else(|| VaultError::Invalid(format!("{path} is not an Ed25519 key")))
    }

    /// The tenant's pseudonym key, derived from its transit key.
    ///
    /// # Errors
    /// [`VaultError::NotFound`] when the tenant has no transit key (not yet, or shredded); this never creates one.
    pub async fn pseudonym_key(&self, tenant: &TenantName) -> Result<PseudonymKey, VaultError> {
        // The algorithm is named in the path, where the caller's Vault policy can see it.
        let name = format!("{}/sha2-256", tenant.transit_key());
        let path = format!("{TRANSIT}/hmac/{name}");
        let input = BASE64.encode(PSEUDONYM_INPUT);
        let call = |client: Arc<VaultClient>| {
            let (name, input) = (name.clone(), input.clone());
            async move {
                let mut options = GenerateHmacRequestBuilder::default();
                options.key_version(PSEUDONYM_KEY_VERSION).algorithm(HashAlgorithm::Sha2_256);
                generate::hmac(&*client, TRANSIT, &name, &input, Some(&mut options)).await
            }
        };
        let answer = self.session.call(&path, call).await?;
        match versioned(&answer.hmac) {
            Some((version, bytes)) if u64::from(version) == PSEUDONYM_KEY_VERSION => {
                Ok(PseudonymKey::new(bytes))
            }
            _ => Err(unreadable(&path)),
        }
    }
}

/// `vault:v<version>:<base64 of N bytes>`
fn versioned<const N: usize>(text: &str) -> Option<(u32, [u8; N])> {
    let (version, bytes) = text.strip_prefix("vault:v")?.split_once(':')?;
    Some((version.parse().ok()?, decode(bytes)?))
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn unreadable(path: &str) -> VaultError {
    VaultError::Invalid(format!("unreadable answer of {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_values_must_have_the_expected_length() {
        let text = format!("vault:v12:{}", BASE64.encode([7; 32]));
        assert_eq!(versioned::<32>(&text), Some((12, [7; 32])));
        assert_eq!(versioned::<64>(&text), None);
        for bad in ["", "vault:v1", "vault:vx:AA==", "v1:AA==", "vault:v1:?"] {
            assert_eq!(versioned::<1>(bad), None, "{bad}");
        }
    }
}
