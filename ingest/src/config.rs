//! Configuration: flags or environment, parsed once.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use event::names::FENCE_SLOTS;

/// Accepts usage events, decides, and publishes them to the tenants' lanes.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "ingest",
    version,
    after_help = "`ingest --openapi` prints the API's OpenAPI document and needs nothing else."
)]
pub struct Config {
    /// Address of the public API.
    #[arg(long, env = "MP_LISTEN")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MP_ADMIN_LISTEN")]
    pub admin_listen: SocketAddr,
    /// NATS, nats://host:port or tls://host:port; several separated by commas.
    #[arg(long, env = "MP_NATS_URL")]
    pub nats_url: String,
    /// File of the authorities whose certificates are believed at NATS; without one, those of this system.
    #[arg(long, env = "MP_NATS_CA_FILE")]
    pub nats_ca_file: Option<PathBuf>,
    /// NATS user.
    #[arg(long, env = "MP_NATS_USER")]
    pub nats_user: String,
    /// File that holds the NATS user's password.
    #[arg(long, env = "MP_NATS_PASSWORD_FILE")]
    pub nats_password_file: PathBuf,
    /// Vault, http://host:port or https://host:port.
    #[arg(long, env = "MP_VAULT_ADDR")]
    pub vault_addr: String,
    /// File of the authorities whose certificates are believed at Vault; without one, those of this system.
    #[arg(long, env = "MP_VAULT_CA_FILE")]
    pub vault_ca_file: Option<PathBuf>,
    /// Role at Vault's JWT auth mount.
    #[arg(long, env = "MP_VAULT_ROLE")]
    pub vault_role: String,
    /// File that holds the service account token for Vault.
    #[arg(long, env = "MP_VAULT_JWT_FILE")]
    pub vault_jwt_file: PathBuf,
    /// File with the public keys that snapshots are trusted by.
    #[arg(long, env = "MP_TRUST_FILE")]
    pub trust_file: PathBuf,
    /// Name of this pod, for people.
    #[arg(long, env = "MP_POD_NAME", default_value = "ingest")]
    pub pod_name: String,
    /// Packs of one lane that may await their acknowledgement at once.
    #[arg(long, env = "MP_PACKS_IN_FLIGHT", default_value_t = FENCE_SLOTS,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(FENCE_SLOTS)))]
    pub packs_in_flight: u8,
    /// Quota keys (users, mostly) whose slices are kept in memory, about half a kilobyte each; the longest unused go back to
    /// the ledger first.
    #[arg(long, env = "MP_QUOTA_KEYS", default_value_t = 200_000)]
    pub quota_keys: usize,
    /// What to log, in the syntax of `tracing`'s EnvFilter.
    #[arg(long, env = "MP_LOG", default_value = "info")]
    pub log: String,
    /// `text` or `json`.
    #[arg(long, env = "MP_LOG_FORMAT", default_value = "text")]
    pub log_format: String,
}
