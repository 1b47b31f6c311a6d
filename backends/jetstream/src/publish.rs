//! One message, one send, one answer. Whoever calls decides on retries.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::Fault;

/// Header: the sequence of the last message on the subject must be this one (0: none).
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// Header: another subject to which the expectation applies.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// Header: the stream that must take the message.
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// The message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its sequence in the stream.
    pub seq: u64,
    /// It had been stored before, within the duplicate window, under the same message id.
    pub duplicate: bool,
}

/// Why there is no [`Ack`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A definite no to *this* send. After an earlier send of the same message had an unknown outcome it says nothing
    /// about that one.
    #[error("refused: {text} ({code})")]
    Refused {
        /// See [`crate::error::code`].
        code: u64,
        /// The server's words.
        text: String,
    },
    /// No answer: it may be stored, now or later.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { code, text } => Self::Refused { code, text },
            Fault::Unknown(text) => Self::Unknown(text),
        }
    }
}

/// Publishes to streams; clones share the connection.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
}

impl Publisher {
    /// A publisher on `client`'s connection.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    /// Sends one message once and waits at most `timeout` for its answer. The same `msg_id` within the stream's
    /// duplicate window is stored once.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        msg_id: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Ack, PublishError> {
        Ok(self.client.send(subject, headers, Some(msg_id), payload, timeout).await?)
    }
}
