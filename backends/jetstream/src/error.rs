//! What a failed request means: a definite no, or nothing at all.
//!
//! | answer | meaning |
//! |---|---|
//! | error with a JetStream code | definite: the server read the request and refused it |
//! | 10077 (store failed) that names no limit | unknown: an older server may have written part of it |
//! | 10158 (same message id in process) | unknown: an earlier send of the same message decides |
//! | 503 without a code (no responders) | definite: the message reached nobody |
//! | no connection within the timeout | definite: it was never handed to the client library, which would send it later |
//! | timeout, lost connection, unreadable answer | unknown: it may have been stored |
//! | missing rights | unknown: NATS reports them apart from the request, which then times out |

use async_nats::client::{RequestError, RequestErrorKind};

/// JetStream error codes on which somebody decides.
pub mod code {
    /// The account's limits do not allow it.
    pub const ACCOUNT_RESOURCES: u64 = 10002;
    /// No server can take the stream.
    pub const NO_PEERS: u64 = 10005;
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
    /// The same message id is being stored right now.
    pub const DUPLICATE_IN_PROCESS: u64 = 10158;
    /// Another write with an expectation on the same subject is under way (replicated streams).
    pub const EXPECTATION_IN_PROCESS: u64 = 10164;
    /// The stream's queue of unprocessed messages is full.
    pub const TOO_MANY_REQUESTS: u64 = 10167;
    /// Not JetStream's: nobody listens on the subject (no such stream, or it has no leader now).
    pub const NO_RESPONDERS: u64 = 503;
    /// Not JetStream's: there is no connection, so nothing was sent.
    pub const NOT_CONNECTED: u64 = 1;
    /// Not JetStream's: the client refused to send it (larger than the server takes, or not a subject or header).
    pub const NOT_SENDABLE: u64 = 2;
    /// Not JetStream's: this process may not change anything any more, so nothing was sent.
    pub const GATE_CLOSED: u64 = 3;
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
                Self::Refused { code: code::NOT_SENDABLE, text: error.to_string() }
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Self::Unknown(error.to_string()),
        }
    }
}

impl From<async_nats::jetstream::Error> for Fault {
    fn from(error: async_nats::jetstream::Error) -> Self {
        let (code, text) = (error.error_code().0, error.to_string());
        let undecided =
            code == code::DUPLICATE_IN_PROCESS || (code == code::STORE_FAILED && !names_a_limit(&text));
        if undecided {
            return Self::Unknown(text);
        }
        Self::Refused { code, text }
    }
}

/// The texts of the server's `ErrMaxMsgs`, `ErrMaxBytes`, `ErrMaxMsgsPerSubject` and `ErrMsgTooLarge`.
fn names_a_limit(text: &str) -> bool {
    ["maximum messages", "maximum bytes", "message too large"].iter().any(|limit| text.contains(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: u64, text: &str) -> Fault {
        let error = serde_json::json!({ "code": 503, "err_code": code, "description": text });
        serde_json::from_value::<async_nats::jetstream::Error>(error).unwrap().into()
    }

    #[test]
    fn errors_are_definite_unless_part_of_it_may_have_happened() {
        for (code, text, definite) in [
            (10071, "wrong last sequence: 7", true),
            (10164, "wrong last sequence", true),
            (10167, "too many requests", true),
            (10077, "maximum bytes exceeded", true),
            (10077, "maximum messages per subject exceeded", true),
            (10077, "message too large", true),
            (10077, "write /data/1.blk: no space left on device", false),
            (10158, "duplicate message id is in process", false),
        ] {
            assert_eq!(fault(code, text).code().is_some(), definite, "{code} {text}");
        }
        let timed_out = RequestError::new(RequestErrorKind::TimedOut);
        assert!(matches!(Fault::from(timed_out), Fault::Unknown(_)));
        let nobody = RequestError::new(RequestErrorKind::NoResponders);
        assert_eq!(Fault::from(nobody).code(), Some(code::NO_RESPONDERS));
    }
}
