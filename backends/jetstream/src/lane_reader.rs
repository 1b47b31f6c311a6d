//! Reads a stream in order, without gaps or repeats, whatever happens to the consumer in between.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;

/// One stored message of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneMessage {
    /// Sequence in the stream.
    pub seq: u64,
    /// Subject it was published to: packs, or a fence.
    pub subject: String,
    /// Header `Mp-Counts`: events a tenant, readable without opening the pack.
    pub counts: Option<String>,
    /// The pack.
    pub payload: Bytes,
    /// When the server stored it, in Unix milliseconds.
    pub received_ms: u64,
}

/// Why messages could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Messages before `first_seq` are not in the stream any more. [`LaneReader::seek`] goes on behind the gap.
    #[error("messages are missing before {first_seq}")]
    Gap {
        /// First sequence that is there.
        first_seq: u64,
    },
    /// The stream does not reach that far.
    #[error("the stream ends at {last_seq}")]
    Beyond {
        /// Its last sequence.
        last_seq: u64,
    },
    /// The stream was replaced by another of the same name: a new epoch.
    #[error("the stream was recreated at {created_ms}")]
    Recreated {
        /// Its creation, in Unix milliseconds.
        created_ms: u64,
    },
    /// There is no such stream.
    #[error("no such stream")]
    Missing,
    /// A definite no.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer in time; try again.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// A position in a stream.
pub struct LaneReader {
    client: Client,
    stream: String,
    next_seq: u64,
    created_ms: u64,
}

impl LaneReader {
    /// Opens `stream` so that the first message read is `from_seq` (1 is the first of all).
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn open(client: &Client, stream: &str, from_seq: u64) -> Result<Self, ReadError> {
        let _ = (client, stream, from_seq);
        todo!()
    }
    /// When the stream was created, in Unix milliseconds: the lane's epoch.
    pub fn created_ms(&self) -> u64 {
        self.created_ms
    }
    /// Sequence of the next message.
    pub fn position(&self) -> u64 {
        self.next_seq
    }
    /// Goes on at `seq`.
    pub fn seek(&mut self, seq: u64) {
        self.next_seq = seq;
    }
    /// The next messages, as many as are there, at most `max_messages` and about `max_bytes` (one message is returned
    /// even if it is larger). Waits up to `wait` for the first; none is an empty list. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ReadError`]; the position is unchanged.
    pub async fn next(
        &mut self,
        max_messages: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<LaneMessage>, ReadError> {
        let _ = (max_messages, max_bytes, wait);
        todo!()
    }
}

/// Messages `lo..=hi`, every one of them.
///
/// # Errors
/// [`ReadError::Gap`] when one is missing, [`ReadError::Beyond`] when the stream ends before `hi`.
pub async fn read_range(
    client: &Client,
    stream: &str,
    lo: u64,
    hi: u64,
) -> Result<Vec<LaneMessage>, ReadError> {
    let _ = (client, stream, lo, hi);
    todo!()
}

/// When the stream was created, in Unix milliseconds.
///
/// # Errors
/// See [`ReadError`].
pub async fn stream_created_ms(client: &Client, stream: &str) -> Result<u64, ReadError> {
    let _ = (client, stream);
    todo!()
}

/// The highest sequence the stream ever gave.
///
/// # Errors
/// See [`ReadError`].
pub async fn last_seq(client: &Client, stream: &str) -> Result<u64, ReadError> {
    let _ = (client, stream);
    todo!()
}
