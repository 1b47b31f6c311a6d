//! Whether a server holds a query user in: it is tried, with the user's own password, before anybody gets it.

use event::names::EVENTS_VIEW;

use crate::error::{ClickHouseError, code};
use crate::query::{Client, Query};

/// A wall that does not stand on this server, whatever the user was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// It reads what others do.
    System,
    /// It reads files of the server.
    Files,
    /// It reaches other servers.
    Network,
    /// It changes its own limits.
    Settings,
}

impl Breach {
    /// What is open, and how it is closed: for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::System => {
                "reads system tables: set access_control_improvements.select_from_system_db_requires_grant to true"
            }
            Self::Files => {
                "reads any file of the server by the function file(): only clickhouse-server confines it, to user_files_path"
            }
            Self::Network => "reaches other servers by url() without a grant",
            Self::Settings => "changes its own settings",
        }
    }
}

/// A statement that must be refused, by one of these codes.
struct Attempt {
    breach: Breach,
    sql: &'static str,
    refused: &'static [u32],
}

const ATTEMPTS: [Attempt; 4] = [
    Attempt {
        breach: Breach::System,
        sql: "SELECT count() FROM system.processes",
        refused: &[code::ACCESS_DENIED],
    },
    Attempt {
        breach: Breach::Files,
        // Every path that leads out is refused before the file is looked for.
        sql: "SELECT length(file('/etc/hostname'))",
        refused: &[code::DATABASE_ACCESS_DENIED, code::ACCESS_DENIED],
    },
    Attempt {
        breach: Breach::Network,
        sql: "SELECT count() FROM url('http://127.0.0.1:1/', 'LineAsString', 'line String')",
        refused: &[code::ACCESS_DENIED],
    },
    Attempt {
        breach: Breach::Settings,
        sql: "SELECT 1 SETTINGS max_execution_time = 0",
        refused: &[code::READONLY],
    },
];

/// Tries the walls as the user that `client` speaks for, whose database this is. `None`: its own view answers, and all the rest is
/// refused.
///
/// # Errors
/// When its own view does not answer, or the server fails otherwise: nothing is known then.
pub async fn trial(client: &Client, database: &str) -> Result<Option<Breach>, ClickHouseError> {
    let run = |sql: String| async move { Query::new(sql).without_settings().run(client).await };
    run(format!("SELECT count() FROM (SELECT 1 FROM {database}.{EVENTS_VIEW} LIMIT 1)")).await?;
    for Attempt { breach, sql, refused } in ATTEMPTS {
        match run(sql.to_owned()).await {
            Err(error) if error.code().is_some_and(|code| refused.contains(&code)) => {}
            Err(error) if error.is_transient() => return Err(error),
            // An answer, or an error that comes from behind the wall.
            Ok(()) | Err(_) => return Ok(Some(breach)),
        }
    }
    Ok(None)
}
