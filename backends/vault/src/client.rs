//! The client: who we are to Vault.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use event::TenantName;
use event::pseudonym::PseudonymKey;

use crate::error::VaultError;
use crate::platform::Signature;

/// Where Vault is, and as whom to log in.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://host:port` or `https://host:port`.
    pub addr: String,
    /// Role at the JWT auth mount.
    pub role: String,
    /// File with the service account token; it is read anew at every login, because the kubelet rotates it.
    pub jwt_file: PathBuf,
    /// Name of the JWT auth mount.
    pub mount: String,
}

/// Name of the JWT auth mount, unless it is configured otherwise.
pub const DEFAULT_MOUNT: &str = "jwt";

/// A client that keeps itself logged in; clones share the login.
#[derive(Clone)]
pub struct Client {
    session: Arc<crate::session::Session>,
}

impl Client {
    /// A client; it logs in at its first call.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when the address is not a URL.
    pub fn new(config: Config) -> Result<Self, VaultError> {
        let _ = config;
        todo!()
    }
    /// Whether Vault answers and we can log in.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn check(&self) -> Result<(), VaultError> {
        todo!()
    }
    /// Signs `bytes` with the platform's snapshot key.
    ///
    /// # Errors
    /// See [`VaultError`]; [`VaultError::NotFound`] when the key was never set up.
    pub async fn sign(&self, bytes: &[u8]) -> Result<Signature, VaultError> {
        let _ = bytes;
        todo!()
    }
    /// Public halves of the platform's snapshot key, a version each.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn public_keys(&self) -> Result<BTreeMap<u32, [u8; 32]>, VaultError> {
        todo!()
    }
    /// The tenant's pseudonym key, derived from its transit key.
    ///
    /// # Errors
    /// [`VaultError::NotFound`] when the tenant has no transit key (not yet, or shredded); this never creates one.
    pub async fn pseudonym_key(&self, tenant: &TenantName) -> Result<PseudonymKey, VaultError> {
        let _ = tenant;
        todo!()
    }
}
