//! Configuration: flags, each of which is an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::webhook::Lifetimes;

/// The Meterplane operator.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Config {
    /// Log filter, for example info or operator=debug.
    #[arg(long, env = "MP_LOG", default_value = "info")]
    pub log: String,
    /// Form of log lines.
    #[arg(long, env = "MP_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MP_ADMIN_LISTEN")]
    pub admin_listen: SocketAddr,
    /// Namespace that the platform is installed in; nobody can claim it.
    #[arg(long, env = "MP_NAMESPACE", default_value = "meterplane-system")]
    pub namespace: String,
    /// Name of this pod, for people: part of the identity under which it takes part in the election.
    #[arg(long, env = "MP_POD_NAME", default_value = "operator")]
    pub pod_name: String,
    /// Id of this installation, stamped on everything it creates.
    #[arg(long, env = "MP_INSTALLATION")]
    pub installation: String,
    /// Public URL of ingest, written into the Secrets of API keys.
    #[arg(long, env = "MP_ENDPOINT")]
    pub endpoint: String,
    /// Seconds between two looks at the Secret of an API key; they are never listed or watched.
    #[arg(long, env = "MP_SECRET_POLL_SECONDS", default_value_t = 30)]
    pub secret_poll_seconds: u64,
    /// Seconds between two looks at a tenant's stream, database and key when nothing changes.
    #[arg(long, env = "MP_RESYNC_SECONDS", default_value_t = 300)]
    pub resync_seconds: u64,
    /// Seconds for which a deleted Tenant that retains its data waits for a system that does not answer.
    #[arg(long, env = "MP_DELETION_DEADLINE_SECONDS", default_value_t = 600)]
    pub deletion_deadline_seconds: u64,
    /// The admission webhook.
    #[command(flatten)]
    pub webhook: Webhook,
    /// NATS.
    #[command(flatten)]
    pub nats: Nats,
    /// ClickHouse.
    #[command(flatten)]
    pub clickhouse: ClickHouse,
    /// Vault.
    #[command(flatten)]
    pub vault: Vault,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The admission webhook.
#[derive(Debug, Clone, Args)]
pub struct Webhook {
    /// Address of the admission webhook, with TLS; without it there is none.
    #[arg(long = "webhook-listen", env = "MP_WEBHOOK_LISTEN", id = "webhook_listen")]
    pub listen: Option<SocketAddr>,
    /// Seconds for which the authority that signs the webhook's certificates is valid; the next is made after two thirds.
    #[arg(long = "webhook-authority-seconds", env = "MP_WEBHOOK_AUTHORITY_SECONDS", id = "webhook_authority_seconds",
        default_value_t = 31_536_000, value_parser = clap::value_parser!(u64).range(10..=315_360_000))]
    pub authority_seconds: u64,
    /// Seconds for which a certificate of the webhook is valid; the next is made after two thirds.
    #[arg(long = "webhook-certificate-seconds", env = "MP_WEBHOOK_CERTIFICATE_SECONDS", id = "webhook_certificate_seconds",
        default_value_t = 604_800, value_parser = clap::value_parser!(u64).range(5..=315_360_000))]
    pub certificate_seconds: u64,
}

impl Webhook {
    /// How long its certificates are valid.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            authority: Duration::from_secs(self.authority_seconds),
            certificate: Duration::from_secs(self.certificate_seconds),
        }
    }
}

/// Where NATS is, and what streams look like.
#[derive(Debug, Clone, Args)]
pub struct Nats {
    /// NATS, nats://host:port or tls://host:port; several separated by commas.
    #[arg(long = "nats-url", env = "MP_NATS_URL", id = "nats_url")]
    pub url: String,
    /// File of the authorities whose certificates are believed at NATS; without one, those of this system.
    #[arg(long = "nats-ca-file", env = "MP_NATS_CA_FILE", id = "nats_ca_file")]
    pub ca_file: Option<PathBuf>,
    /// User at NATS.
    #[arg(long = "nats-user", env = "MP_NATS_USER", id = "nats_user")]
    pub user: String,
    /// File with the password at NATS.
    #[arg(long = "nats-password-file", env = "MP_NATS_PASSWORD_FILE", id = "nats_password_file")]
    pub password_file: PathBuf,
    /// Copies of every stream.
    #[arg(long, env = "MP_REPLICAS", default_value_t = 1)]
    pub replicas: usize,
    /// Monitoring addresses of all NATS servers, http://host:port, separated by commas: they tell whether an accepted event is on
    /// disk.
    #[arg(long = "nats-monitor-urls", env = "MP_NATS_MONITOR_URLS", value_delimiter = ',')]
    pub monitor_urls: Vec<String>,
    /// Hours for which a lane keeps packs: longer than the longest outage behind it.
    #[arg(long, env = "MP_LANE_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..))]
    pub lane_hours: u64,
    /// MiB that a lane reserves at most.
    #[arg(long, env = "MP_LANE_MAX_MIB", default_value_t = 1024)]
    pub lane_max_mib: u64,
}

/// Where ClickHouse is.
#[derive(Debug, Clone, Args)]
pub struct ClickHouse {
    /// ClickHouse, http://host:port or https://host:port.
    #[arg(long = "clickhouse-url", env = "MP_CLICKHOUSE_URL", id = "clickhouse_url")]
    pub url: String,
    /// ClickHouse as tenants reach it, written into the Secrets of their query users; the address above unless it is another one.
    #[arg(long = "clickhouse-query-url", env = "MP_CLICKHOUSE_QUERY_URL", id = "clickhouse_query_url")]
    pub query_url: Option<String>,
    /// File of the authorities whose certificates are believed at ClickHouse; without one, those of this system.
    #[arg(long = "clickhouse-ca-file", env = "MP_CLICKHOUSE_CA_FILE", id = "clickhouse_ca_file")]
    pub ca_file: Option<PathBuf>,
    /// User at ClickHouse.
    #[arg(long = "clickhouse-user", env = "MP_CLICKHOUSE_USER", id = "clickhouse_user")]
    pub user: String,
    /// File with the password at ClickHouse.
    #[arg(
        long = "clickhouse-password-file",
        env = "MP_CLICKHOUSE_PASSWORD_FILE",
        id = "clickhouse_password_file"
    )]
    pub password_file: PathBuf,
}

/// Where Vault is.
#[derive(Debug, Clone, Args)]
pub struct Vault {
    /// Vault, http://host:port or https://host:port.
    #[arg(long = "vault-addr", env = "MP_VAULT_ADDR", id = "vault_addr")]
    pub addr: String,
    /// File of the authorities whose certificates are believed at Vault; without one, those of this system.
    #[arg(long = "vault-ca-file", env = "MP_VAULT_CA_FILE", id = "vault_ca_file")]
    pub ca_file: Option<PathBuf>,
    /// Role at Vault's auth mount jwt.
    #[arg(long = "vault-role", env = "MP_VAULT_ROLE", id = "vault_role")]
    pub role: String,
    /// File with the service account token for Vault; read again at each login.
    #[arg(long = "vault-jwt-file", env = "MP_VAULT_JWT_FILE", id = "vault_jwt_file")]
    pub jwt_file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_has_a_variable() {
        Config::command().debug_assert();
        for arg in Config::command()
            .get_arguments()
            .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
        {
            let env = arg.get_env().unwrap().to_str().unwrap().to_owned();
            assert_eq!(env, format!("MP_{}", arg.get_long().unwrap().to_uppercase().replace('-', "_")));
        }
    }
}
