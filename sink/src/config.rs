//! Configuration: flags or environment, parsed once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::rollups::{Rules, Settings};

/// Looks at a lane in the time after which its sums are built again.
const LOOKS: u32 = 12;

/// Moves the lanes' events from JetStream to ClickHouse, each exactly once.
#[derive(Debug, Clone, Parser)]
#[command(name = "sink", version)]
pub struct Config {
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
    /// Name of this pod, for people.
    #[arg(long, env = "MP_POD_NAME", default_value = "sink")]
    pub pod_name: String,
    /// Inserts a second that this sink may ask of ClickHouse; with more active lanes each flushes less often.
    #[arg(long, env = "MP_INSERTS_PER_SECOND", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub inserts_per_second: u32,
    /// Inserts that may run at once.
    #[arg(long, env = "MP_INSERTS_AT_ONCE", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub inserts_at_once: u16,
    /// Memory for the ids of recent events, over all lanes; beyond it ClickHouse is asked.
    #[arg(long, env = "MP_DEDUP_MEMORY_MIB", default_value_t = 512)]
    pub dedup_memory_mib: u32,
    /// Days for which a repeated event is recognised: the window of event times and one day more.
    #[arg(long, env = "MP_DEDUP_HORIZON_DAYS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub dedup_horizon_days: u32,
    /// Memory for messages that wait for an insert, over all lanes, beyond one read a lane.
    #[arg(long, env = "MP_BUFFER_MIB", default_value_t = 256)]
    pub buffer_mib: u32,
    /// Seconds for which a lane's counts may differ before that is told.
    #[arg(long, env = "MP_AUDIT_GRACE_SECONDS", default_value_t = 60)]
    pub audit_grace_seconds: u32,
    /// Days after its end for which events of a day may arrive: the window of event times, and how long a lane keeps packs. The
    /// console must be told the same.
    #[arg(long, env = "MP_LATE_DAYS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub late_days: u32,
    /// Seconds for which rows are in the tables before they are summed up: longer than a power cut can take them back.
    #[arg(long, env = "MP_ROLLUP_AGE_SECONDS", default_value_t = 600)]
    pub rollup_age_seconds: u32,
    /// Seconds after which a day's sums are built again when anything is newer; much is summed up sooner.
    #[arg(long, env = "MP_ROLLUP_EVERY_SECONDS", default_value_t = 3_600)]
    pub rollup_every_seconds: u32,
    /// What to log, in the syntax of `tracing`'s EnvFilter.
    #[arg(long, env = "MP_LOG", default_value = "info")]
    pub log: String,
    /// `text` or `json`.
    #[arg(long, env = "MP_LOG_FORMAT", default_value = "text")]
    pub log_format: String,
}

impl Config {
    /// When to build rollups.
    pub fn rollups(&self) -> Settings {
        let every = Duration::from_secs(self.rollup_every_seconds.into());
        Settings {
            rules: Rules {
                late_days: self.late_days,
                every_ms: i64::from(self.rollup_every_seconds) * 1_000,
            },
            age: Duration::from_secs(self.rollup_age_seconds.into()),
            pause: (every / LOOKS).clamp(Duration::from_secs(1), Duration::from_secs(300)),
        }
    }
}
