//! The login: one at a time, renewed before it ends, and once more when it is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use credentials::{Settings, Transport};
use event::Gate;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use vaultrs::client::{VaultClient, VaultClientSettings, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;

use crate::client::Config;
use crate::error::VaultError;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed login everybody is told the same for this long, so that a thousand waiting callers are one attempt.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);
/// A refused call logs in again at most this often: most refusals are deserved.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

/// How every program calls the address and the authorities of [`Config`].
const SETTINGS: Settings =
    Settings { address: "MP_VAULT_ADDR", ca_file: "MP_VAULT_CA_FILE", scheme: "https" };

pub(crate) struct Session {
    settings: VaultClientSettings,
    /// Every login's client sends through it.
    http: reqwest::Client,
    role: String,
    jwt_file: PathBuf,
    mount: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    login: Option<Login>,
    failure: Option<(Instant, VaultError)>,
    /// When a refusal last made us log in.
    refused: Option<Instant>,
    logins: u64,
}

/// A client with a token.
#[derive(Clone)]
struct Login {
    client: Arc<VaultClient>,
    number: u64,
    /// Two thirds of the token's life; `None` when it does not end.
    replace_at: Option<Instant>,
}

impl Session {
    pub fn new(config: Config) -> Result<Self, VaultError> {
        // reqwest wants one even for plain HTTP. Another part of the process may have installed it: both are ring's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = settings(&config.addr)?;
        let session = Self {
            http: http(&settings, config.ca_file.as_deref())?,
            settings,
            role: config.role,
            jwt_file: config.jwt_file,
            mount: config.mount,
            state: Mutex::default(),
        };
        session.client("")?;
        Ok(session)
    }

    /// Calls Vault at `path`, logged in.
    pub async fn call<T, F, Fut>(&self, path: &str, call: F) -> Result<T, VaultError>
    where
        F: Fn(Arc<VaultClient>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, ClientError>> + Send,
        T: Send,
    {
        self.call_behind(&Gate::default(), path, call).await
    }

    /// The same if `gate` is open when it is about to be sent: a login may take seconds.
    pub async fn call_behind<T, F, Fut>(&self, gate: &Gate, path: &str, call: F) -> Result<T, VaultError>
    where
        F: Fn(Arc<VaultClient>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, ClientError>> + Send,
        T: Send,
    {
        let pass = || match gate.is_open() {
            true => Ok(()),
            false => Err(VaultError::Unavailable(event::gate::CLOSED.to_owned())),
        };
        let login = self.login(None).await?;
        pass()?;
        let error = match quietly(call(login.client)).await {
            Ok(value) => return Ok(value),
            Err(error) => VaultError::of(&error, path),
        };
        if !matches!(error, VaultError::Denied { .. }) {
            return Err(error);
        }
        // The token may have been revoked, or its policies changed.
        let again = self.login(Some(login.number)).await?;
        if again.number == login.number {
            return Err(error);
        }
        pass()?;
        quietly(call(again.client)).await.map_err(|error| VaultError::of(&error, path))
    }

    /// The login; another one than `refused`, unless that was tried a moment ago. Whoever comes while somebody logs in
    /// waits for that login.
    async fn login(&self, refused: Option<u64>) -> Result<Login, VaultError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(login) = &state.login {
            let fresh = login.replace_at.is_none_or(|at| now < at);
            let again = refused == Some(login.number)
                && state.refused.is_none_or(|last| now.duration_since(last) >= REFUSAL_INTERVAL);
            if fresh && !again {
                return Ok(login.clone());
            }
        }
        if let Some((at, error)) = &state.failure
            && now.duration_since(*at) < FAILURE_HOLDS
        {
            return Err(error.clone());
        }
        if refused.is_some() {
            state.refused = Some(now);
        }
        match self.log_in(state.logins + 1).await {
            Ok(login) => {
                state.logins = login.number;
                state.failure = None;
                state.login = Some(login.clone());
                Ok(login)
            }
            Err(error) => {
                state.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn log_in(&self, number: u64) -> Result<Login, VaultError> {
        let jwt = tokio::fs::read_to_string(&self.jwt_file)
            .await
            .map_err(|error| VaultError::Invalid(format!("{}: {error}", self.jwt_file.display())))?;
        let anonymous = self.client("")?;
        let role = Some(self.role.clone());
        let login = vaultrs::auth::oidc::login(&anonymous, &self.mount, jwt.trim(), role);
        let auth = quietly(login).await.map_err(|error| self.login_refused(&error))?;
        let life = Duration::from_secs(auth.lease_duration);
        tracing::info!(role = self.role, life = ?life, "logged in to Vault");
        Ok(Login {
            client: Arc::new(self.client(&auth.client_token)?),
            number,
            replace_at: (!life.is_zero()).then(|| Instant::now() + life * 2 / 3),
        })
    }

    /// The JWT mount answers 400 to tokens and roles that it does not accept.
    fn login_refused(&self, error: &ClientError) -> VaultError {
        let path = format!("auth/{}/login", self.mount);
        match error {
            ClientError::APIError { code: 400 | 403, errors } => {
                tracing::warn!(role = self.role, reason = errors.join("; "), "Vault refuses the login");
                VaultError::Denied { path }
            }
            other => VaultError::of(other, &path),
        }
    }

    fn client(&self, token: &str) -> Result<VaultClient, VaultError> {
        // Made for a plain address, so that it does not begin with the system's authorities: the system may have none.
        let settings = VaultClientSettings { token: token.to_owned(), ..plain()? };
        let mut client = VaultClient::new(settings).map_err(|error| VaultError::of(&error, "client"))?;
        client.http.http = self.http.clone();
        client.http.base = self.settings.address.to_string();
        client.settings.address = self.settings.address.clone();
        Ok(client)
    }
}

/// The client library logs every 404 as an error; what matters is logged by whoever decides about it.
async fn quietly<T>(call: impl Future<Output = T>) -> T {
    call.with_subscriber(NoSubscriber::default()).await
}

/// Speaks HTTP, encrypted if the address says so.
fn http(settings: &VaultClientSettings, ca_file: Option<&Path>) -> Result<reqwest::Client, VaultError> {
    let transport = if settings.address.scheme() == "https" { Transport::Tls } else { Transport::Plain };
    let tls = SETTINGS.client(transport, ca_file).map_err(|error| VaultError::Invalid(error.to_string()))?;
    let client = reqwest::ClientBuilder::new().timeout(TIMEOUT);
    let client = match tls {
        Some(tls) => client.tls_backend_preconfigured(tls).https_only(true),
        None => client.tls_backend_rustls().tls_certs_only([]),
    };
    client.build().map_err(|error| VaultError::Invalid(error.to_string()))
}

/// Every setting is given: the library would take what is missing from the environment.
fn plain() -> Result<VaultClientSettings, VaultError> {
    VaultClientSettingsBuilder::default()
        .address("http://127.0.0.1")
        .ca_certs(Vec::new())
        .identity(None)
        .timeout(Some(TIMEOUT))
        .token("")
        .verify(true)
        .build()
        .map_err(|error| VaultError::Invalid(error.to_string()))
}

fn settings(addr: &str) -> Result<VaultClientSettings, VaultError> {
    let mut settings = plain()?;
    // Joining an absolute address replaces all of it, and tells what is wrong, where the builder would panic.
    let address = settings.address.join(addr);
    let address = address.map_err(|error| VaultError::Invalid(format!("{addr}: {error}")))?;
    if !matches!(address.scheme(), "http" | "https") || !addr.starts_with(address.scheme()) {
        return Err(VaultError::Invalid(format!("{addr}: not an http or https address")));
    }
    settings.address = address;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_without_a_panic() {
        for good in ["http://127.0.0.1:8200", "https://vault.example.org", "http://[::1]:8200/"] {
            assert!(settings(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "vault:8200",
            "127.0.0.1:8200",
            "/v1",
            "ftp://x",
            "http://",
            "http://1.2.3.999",
            "http://a:99999",
        ] {
            assert!(matches!(settings(bad), Err(VaultError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn authorities_for_a_plain_address_are_a_wrong_configuration() {
        let config = |addr: &str| Config {
            addr: addr.to_owned(),
            ca_file: Some("/no/ca.pem".into()),
            role: "r".to_owned(),
            jwt_file: "/no/such/file".into(),
            mount: "jwt".to_owned(),
        };
        let error = Session::new(config("http://vault:8200")).err().unwrap().to_string();
        assert!(error.contains("MP_VAULT_CA_FILE") && error.contains("MP_VAULT_ADDR"), "{error}");
        let error = Session::new(config("https://vault:8200")).err().unwrap().to_string();
        assert!(error.contains("MP_VAULT_CA_FILE: /no/ca.pem"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_token_file_is_a_wrong_configuration() {
        let config = Config {
            addr: "http://127.0.0.1:1".to_owned(),
            ca_file: None,
            role: "r".to_owned(),
            jwt_file: "/no/such/file".into(),
            mount: "jwt".to_owned(),
        };
        let session = Session::new(config).unwrap();
        let called = session.call("p", |client| async move { vaultrs::sys::health(&*client).await }).await;
        assert!(matches!(called, Err(VaultError::Invalid(_))));
    }
}
