//! Configuration: flags or environment, parsed once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

/// Vault's JWT auth mount.
pub const VAULT_MOUNT: &str = "jwt";

/// Serves the dashboards of every tenant.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "console",
    version,
    after_help = "`console --openapi` prints the API's OpenAPI document and needs nothing else."
)]
pub struct Config {
    /// Address of the API.
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
    /// ClickHouse's HTTP interface, http://host:port or https://host:port.
    #[arg(long, env = "MP_CLICKHOUSE_URL")]
    pub clickhouse_url: String,
    /// File of the authorities whose certificates are believed at ClickHouse; without one, those of this system.
    #[arg(long, env = "MP_CLICKHOUSE_CA_FILE")]
    pub clickhouse_ca_file: Option<PathBuf>,
    /// ClickHouse user.
    #[arg(long, env = "MP_CLICKHOUSE_USER")]
    pub clickhouse_user: String,
    /// File that holds the ClickHouse user's password.
    #[arg(long, env = "MP_CLICKHOUSE_PASSWORD_FILE")]
    pub clickhouse_password_file: PathBuf,
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
    /// Days after its end for which events of a day may arrive, as the sinks are told.
    #[arg(long, env = "MP_LATE_DAYS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub late_days: u32,
    /// What to log, in the syntax of `tracing`'s EnvFilter.
    #[arg(long, env = "MP_LOG", default_value = "info")]
    pub log: String,
    /// `text` or `json`.
    #[arg(long, env = "MP_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json".to_owned()),
        }
    }
}
