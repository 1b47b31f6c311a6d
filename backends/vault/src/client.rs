//! The client: who we are to Vault.

use std::path::PathBuf;
use std::sync::Arc;

use event::Gate;
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;

use crate::error::VaultError;
use crate::session::Session;

/// Mount of the transit engine.
pub(crate) const TRANSIT: &str = "transit";

/// Name of the JWT auth mount, unless it is configured otherwise.
pub const DEFAULT_MOUNT: &str = "jwt";

/// Where Vault is, and as whom to log in.
#[derive(Debug, Clone)]
pub struct Config {
    /// `http://host:port` or `https://host:port`.
    pub addr: String,
    /// File of the authorities whose certificates are believed over https, read anew when it changes; `None`: those of this system.
    pub ca_file: Option<PathBuf>,
    /// Role at the JWT auth mount.
    pub role: String,
    /// File with the service account token; it is read anew at every login, because the kubelet rotates it.
    pub jwt_file: PathBuf,
    /// Name of the JWT auth mount, usually [`DEFAULT_MOUNT`].
    pub mount: String,
}

/// A client that keeps itself logged in; clones share the login.
#[derive(Clone)]
pub struct Client {
    pub(crate) session: Arc<Session>,
    gate: Gate,
}

impl Client {
    /// A client; it logs in at its first call.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when the address is not a URL, or does not fit the authorities.
    pub fn new(config: Config) -> Result<Self, VaultError> {
        Ok(Self { session: Arc::new(Session::new(config)?), gate: Gate::default() })
    }

    /// The same login, which changes keys and policies and signs only while `gate` is open.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// A call that changes something, or speaks for the platform.
    pub(crate) async fn change<T, F, Fut>(&self, path: &str, call: F) -> Result<T, VaultError>
    where
        F: Fn(Arc<VaultClient>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, ClientError>> + Send,
        T: Send,
    {
        self.session.call_behind(&self.gate, path, call).await
    }

    /// Whether Vault answers and our login is good.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn check(&self) -> Result<(), VaultError> {
        self.session
            .call(
                "auth/token/lookup-self",
                |client| async move { vaultrs::token::lookup_self(&*client).await },
            )
            .await
            .map(drop)
    }
}
