//! Failures, and what follows from each.
//!
//! | category | meaning | what follows |
//! |---|---|---|
//! | conflict | somebody else wrote in between | look again at once |
//! | unavailable | a system does not answer or fails | growing delays |
//! | denied | we lack a right, or hold a wrong credential | growing delays, shown in a condition |
//! | defect | an answer that makes no sense | growing delays, shown in a condition |
//!
//! What is wrong with an *object* is no failure: it becomes a condition (see `conditions`).

use crate::engine::queue::Action;

/// A failure that decides itself what follows.
pub trait Fault: std::error::Error {
    /// One of the categories of the module, a metric label.
    fn category(&self) -> &'static str;
    /// When the object is looked at again.
    fn action(&self) -> Action;
}

/// A failed call to a system around us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Somebody else wrote in between.
    #[error("{system}: {detail}")]
    Conflict {
        /// Which system.
        system: System,
        /// Its words.
        detail: String,
    },
    /// No answer, or a failing system.
    #[error("{system}: {detail}")]
    Unavailable {
        /// Which system.
        system: System,
        /// Its words.
        detail: String,
    },
    /// We lack a right.
    #[error("{system}: {detail}")]
    Denied {
        /// Which system.
        system: System,
        /// Its words.
        detail: String,
    },
    /// Makes no sense.
    #[error("{system}: {detail}")]
    Defect {
        /// Which system.
        system: System,
        /// Its words.
        detail: String,
    },
}

/// A system around us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// The kube-apiserver.
    Kubernetes,
    /// NATS.
    Nats,
    /// ClickHouse.
    ClickHouse,
    /// Vault.
    Vault,
}

impl std::fmt::Display for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "Kubernetes",
            Self::Nats => "NATS",
            Self::ClickHouse => "ClickHouse",
            Self::Vault => "Vault",
        })
    }
}

impl Failure {
    /// A CamelCase reason for a condition.
    pub fn reason(&self) -> String {
        match self {
            Self::Conflict { .. } => "Conflict".to_owned(),
            Self::Unavailable { system, .. } => format!("{system}Unavailable"),
            Self::Denied { system, .. } => format!("{system}Denied"),
            Self::Defect { system, .. } => format!("{system}Failed"),
        }
    }

    /// A system that could not say what is there.
    pub fn unknown(system: System, detail: impl Into<String>) -> Self {
        Self::Unavailable { system, detail: detail.into() }
    }
}

impl Fault for Failure {
    fn category(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Unavailable { .. } => "unavailable",
            Self::Denied { .. } => "denied",
            Self::Defect { .. } => "defect",
        }
    }

    fn action(&self) -> Action {
        match self {
            Self::Conflict { .. } => Action::Again,
            Self::Unavailable { .. } | Self::Denied { .. } | Self::Defect { .. } => Action::Backoff,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let (system, detail) = (System::Kubernetes, error.to_string());
        match &error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { system, detail },
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Denied { system, detail },
            kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Self::Defect { system, detail }
            }
            _ => Self::Unavailable { system, detail },
        }
    }
}

/// The HTTP status of the answer, if the kube-apiserver answered.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

impl From<jetstream::StreamError> for Failure {
    fn from(error: jetstream::StreamError) -> Self {
        let (system, detail) = (System::Nats, error.to_string());
        match error {
            jetstream::StreamError::StampMismatch { .. } => Self::Conflict { system, detail },
            jetstream::StreamError::Unknown(_) => Self::Unavailable { system, detail },
            jetstream::StreamError::StorageReserved(_)
            | jetstream::StreamError::NotFound
            | jetstream::StreamError::Refused { .. } => Self::Defect { system, detail },
        }
    }
}

impl From<jetstream::KvError> for Failure {
    fn from(error: jetstream::KvError) -> Self {
        let (system, detail) = (System::Nats, error.to_string());
        match error {
            jetstream::KvError::Missing(_)
            | jetstream::KvError::InvalidKey(_)
            | jetstream::KvError::Refused(_) => Self::Defect { system, detail },
            jetstream::KvError::Unknown(_) => Self::Unavailable { system, detail },
        }
    }
}

impl From<jetstream::CasError> for Failure {
    fn from(error: jetstream::CasError) -> Self {
        let (system, detail) = (System::Nats, error.to_string());
        match error {
            jetstream::CasError::Conflict => Self::Conflict { system, detail },
            jetstream::CasError::Refused(_) => Self::Defect { system, detail },
            jetstream::CasError::Unknown(_) => Self::Unavailable { system, detail },
        }
    }
}

impl From<vault::VaultError> for Failure {
    fn from(error: vault::VaultError) -> Self {
        let (system, detail) = (System::Vault, error.to_string());
        match error {
            vault::VaultError::Unavailable(_) | vault::VaultError::Sealed => {
                Self::Unavailable { system, detail }
            }
            vault::VaultError::Denied { .. } => Self::Denied { system, detail },
            vault::VaultError::NotFound { .. } | vault::VaultError::Invalid(_) => {
                Self::Defect { system, detail }
            }
        }
    }
}

impl From<vault::KeyError> for Failure {
    fn from(error: vault::KeyError) -> Self {
        match error {
            vault::KeyError::StampMismatch { .. } => {
                Self::Conflict { system: System::Vault, detail: error.to_string() }
            }
            vault::KeyError::Vault(error) => error.into(),
        }
    }
}

impl From<clickhouse::databases::DatabaseError> for Failure {
    fn from(error: clickhouse::databases::DatabaseError) -> Self {
        match error {
            clickhouse::databases::DatabaseError::ClickHouse(error) => error.into(),
            other => Self::Conflict { system: System::ClickHouse, detail: other.to_string() },
        }
    }
}

impl From<clickhouse::ClickHouseError> for Failure {
    fn from(error: clickhouse::ClickHouseError) -> Self {
        let (system, detail) = (System::ClickHouse, error.to_string());
        match error {
            clickhouse::ClickHouseError::Denied { .. } => Self::Denied { system, detail },
            clickhouse::ClickHouseError::Unavailable(_)
            | clickhouse::ClickHouseError::Overloaded { .. }
            | clickhouse::ClickHouseError::Unknown(_) => Self::Unavailable { system, detail },
            clickhouse::ClickHouseError::Rejected { .. } | clickhouse::ClickHouseError::Decode(_) => {
                Self::Defect { system, detail }
            }
        }
    }
}
