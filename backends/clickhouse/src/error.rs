//! What a failed request means to the one who has to decide what to do next.

/// Exception codes of ClickHouse on which somebody decides.
pub mod code {
    /// The table does not exist.
    pub const UNKNOWN_TABLE: u32 = 60;
    /// The database does not exist.
    pub const UNKNOWN_DATABASE: u32 = 81;
    /// The query took longer than `max_execution_time`.
    pub const TIMEOUT_EXCEEDED: u32 = 159;
    /// A setting or statement that the user's profile forbids.
    pub const READONLY: u32 = 164;
    /// Something that lies outside of what the server opens to queries, such as a file.
    pub const DATABASE_ACCESS_DENIED: u32 = 291;
    /// Too many inserts for the merges to follow.
    pub const TOO_MANY_PARTS: u32 = 252;
    /// The user lacks a grant.
    pub const ACCESS_DENIED: u32 = 497;
    /// There is nowhere to store users, roles and grants (clickhouse-local, chdb).
    pub const NO_ACCESS_STORAGE: u32 = 514;
    /// Wrong user or password.
    pub const AUTHENTICATION_FAILED: u32 = 516;
}

/// Why a request to ClickHouse did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClickHouseError {
    /// No connection: nothing was sent, nothing happened. Try again later.
    #[error("ClickHouse is not reachable: {0}")]
    Unavailable(String),
    /// Wrong credentials or a missing grant: a person has to act.
    #[error("ClickHouse denies it: {message} ({code})")]
    Denied {
        /// Exception code.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The statement or the data do not fit; the same request will be rejected again until something else changes.
    #[error("ClickHouse rejects it: {message} ({code})")]
    Rejected {
        /// Exception code.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The server is there but cannot serve this now: too many parts or queries, memory, disk, or the time limit of the
    /// query. Try again later, more slowly.
    #[error("ClickHouse is overloaded: {message} ({code})")]
    Overloaded {
        /// Exception code.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The request was sent and its answer was lost: it may have happened, or may still happen.
    #[error("unknown outcome: {0}")]
    Unknown(String),
    /// The answer is not of the expected shape: query and Rust type disagree.
    #[error("unreadable answer: {0}")]
    Decode(String),
}

impl ClickHouseError {
    /// Classifies an exception by its code.
    pub fn from_exception(code: u32, message: String) -> Self {
        match code {
            // READONLY, DATABASE_ACCESS_DENIED, users and passwords.
            164 | 192 | 193 | 194 | 291 | 497 | 516 => Self::Denied { code, message },
            // Time, memory, disk, parts, queries, threads, read-only table, server shutting down, Keeper, I/O.
            159 | 160 | 202 | 203 | 209 | 210 | 241 | 242 | 243 | 252 | 425 | 439 | 745 | 999 | 1000
            | 1001 => Self::Overloaded { code, message },
            // UNKNOWN_STATUS_OF_INSERT, ABORTED, QUERY_WAS_CANCELLED: it may have happened in part.
            236 | 319 | 394 => Self::Unknown(format!("{message} ({code})")),
            _ => Self::Rejected { code, message },
        }
    }

    /// The exception code, if the server gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Denied { code, .. } | Self::Rejected { code, .. } | Self::Overloaded { code, .. } => {
                Some(*code)
            }
            Self::Unavailable(_) | Self::Unknown(_) | Self::Decode(_) => None,
        }
    }

    /// The database or table does not exist (any more, or yet).
    pub fn is_missing(&self) -> bool {
        matches!(self.code(), Some(code::UNKNOWN_TABLE | code::UNKNOWN_DATABASE))
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Overloaded { .. } | Self::Unknown(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_classified_by_code() {
        let class = |code| ClickHouseError::from_exception(code, String::new());
        assert!(matches!(class(code::AUTHENTICATION_FAILED), ClickHouseError::Denied { .. }));
        assert!(matches!(class(code::TOO_MANY_PARTS), ClickHouseError::Overloaded { .. }));
        assert!(matches!(class(117), ClickHouseError::Rejected { .. }), "incorrect data");
        assert!(matches!(class(319), ClickHouseError::Unknown(_)));
        assert!(class(code::UNKNOWN_TABLE).is_missing() && !class(code::UNKNOWN_TABLE).is_transient());
        assert!(class(code::TIMEOUT_EXCEEDED).is_transient());
    }
}
