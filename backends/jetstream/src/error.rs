//! What a failed request means: a definite no, or nothing at all.
//!
//! | answer | meaning |
//! |---|---|
//! | error with a JetStream code | definite: the server read the request and refused it |
//! | 10077 (store failed) that names no limit | unknown: an older server may have written part of it |
//! | 503 without a code (no responders) | definite: the message reached nobody |
//! | timeout, lost connection, unreadable answer | unknown: it may have been stored |
//! | missing rights | unknown: NATS reports them apart from the request, which then times out |

use async_nats::client::{RequestError, RequestErrorKind};

/// JetStream error codes on which somebody decides.
pub mod code {
    /// The account's limits do not allow it.
    pub const ACCOUNT_RESOURCES: u64 = 10002;
    /// No such consumer.
    pub const CONSUMER_NOT_FOUND: u64 = 10014;
    /// Out of memory or storage; also reported for a whole server.
    pub const INSUFFICIENT_RESOURCES: u64 = 10023;
    /// Less memory than a memory stream reserves.
    pub const MEMORY_RESOURCES: u64 = 10028;
    /// Less storage than the stream reserves by its `max_bytes`.
    pub const STORAGE_RESOURCES: u64 = 10047;
    /// The message is larger than the stream allows.
    pub const MESSAGE_TOO_LARGE: u64 = 10054;
    /// A stream of that name exists with other settings.
    pub const STREAM_NAME_IN_USE: u64 = 10058;
    /// No such stream.
    pub const STREAM_NOT_FOUND: u64 = 10059;
    /// The expected last sequence is not the last one.
    pub const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// The store refused: full, or too large.
    pub const STORE_FAILED: u64 = 10077;
    /// The stream would be larger than the account allows for one stream.
    pub const STREAM_TOO_LARGE: u64 = 10122;
    /// Another write with an expectation on the same subject is under way (replicated streams).
    pub const EXPECTATION_IN_PROCESS: u64 = 10164;
    /// The stream's queue of unprocessed messages is full.
    pub const TOO_MANY_REQUESTS: u64 = 10167;
    /// Not JetStream's: nobody listens on the subject (no such stream, or it has no leader now).
    pub const NO_RESPONDERS: u64 = 503;
}

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A definite no: nothing was changed or stored.
    #[error("refused: {text} ({code})")]
    Refused {
        /// See [`code`].
        code: u64,
        /// The server's words.
        text: String,
    },
    /// Nothing is known: it may have happened, or may still happen.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

impl Fault {
    /// The code of a definite no.
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unknown(_) => None,
        }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::NoResponders => {
                Self::Refused { code: code::NO_RESPONDERS, text: "nobody listens on the subject".to_owned() }
            }
            RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                // Refused by the client before it sent anything.
                Self::Refused { code: code::MESSAGE_TOO_LARGE, text: error.to_string() }
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Self::Unknown(error.to_string()),
        }
    }
}

impl From<async_nats::jetstream::Error> for Fault {
    fn from(error: async_nats::jetstream::Error) -> Self {
        let (code, text) = (error.error_code().0, error.to_string());
        if code == code::STORE_FAILED && !names_a_limit(&text) {
            return Self::Unknown(text);
        }
        Self::Refused { code, text }
    }
}

/// The texts of the server's `ErrMaxMsgs`, `ErrMaxBytes`, `ErrMaxMsgsPerSubject` and `ErrMsgTooLarge`.
fn names_a_limit(text: &str) -> bool {
    ["maximum messages", "maximum bytes", "maximum message", "message too large", "too large"]
        .iter()
        .any(|limit| text.to_ascii_lowercase().contains(limit))
}
