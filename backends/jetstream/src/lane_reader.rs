//! Reads a stream in order, without gaps or repeats, whatever happens to the consumer in between.

use std::time::Duration;

use bytes::Bytes;
use event::names::COUNTS_HEADER;
use tokio::time::Instant;

use crate::client::Client;
use crate::cursor::{Cursor, Pull, Received, Shape, Start, Stored, stream_info};
use crate::error::{Fault, code};
use crate::streams::unix_ms;

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

/// How long the server keeps a reader's consumer after its last pull; a later one gets a new consumer.
const LINGER: Duration = Duration::from_secs(60);
/// Messages and bytes that one pull of a range asks for.
const RANGE_PULL: (usize, usize) = (512, 8 << 20);
/// How long a range waits for messages that are there.
const RANGE_WAIT: Duration = Duration::from_secs(2);

/// A position in a stream.
pub struct LaneReader {
    client: Client,
    stream: String,
    next_seq: u64,
    created: jiff::Timestamp,
    /// None after a loss, and while `next` runs: a dropped future leaves no half-read cursor behind.
    cursor: Option<Cursor>,
}

impl LaneReader {
    /// Opens `stream` so that the first message read is `from_seq` (1 is the first of all).
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn open(client: &Client, stream: &str, from_seq: u64) -> Result<Self, ReadError> {
        let info = stream_info(client, stream).await?;
        Ok(Self {
            client: client.clone(),
            stream: stream.to_owned(),
            next_seq: from_seq.max(1),
            created: info.created,
            cursor: None,
        })
    }

    /// When the stream was created, in Unix milliseconds: the lane's epoch.
    pub fn created_ms(&self) -> u64 {
        unix_ms(self.created)
    }

    /// Sequence of the next message.
    pub fn position(&self) -> u64 {
        self.next_seq
    }

    /// Goes on at `seq`.
    pub fn seek(&mut self, seq: u64) {
        self.next_seq = seq.max(1);
        self.cursor = None;
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
        let deadline = Instant::now() + wait;
        loop {
            let mut batch = Batch::new(self.next_seq, max_messages, max_bytes);
            let ended = self.fill(&mut batch, deadline).await;
            if let Some(last) = batch.messages.last() {
                // What was read is returned first; a gap or a loss behind it shows at the next call.
                self.next_seq = last.seq + 1;
                return Ok(batch.messages);
            }
            match ended {
                Ok(()) => return Ok(Vec::new()),
                Err(error @ ReadError::Unavailable(_)) if Instant::now() + RETRY >= deadline => {
                    return Err(error);
                }
                Err(ReadError::Unavailable(_)) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what is there; when that is nothing, waits for one message and takes what came with it.
    async fn fill(&mut self, batch: &mut Batch, deadline: Instant) -> Result<(), ReadError> {
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => self.reopen().await?,
        };
        batch.pull(&mut cursor, None).await?;
        let wait = deadline.saturating_duration_since(Instant::now());
        if batch.messages.is_empty() && wait > Duration::from_millis(1) {
            batch.pull(&mut cursor, Some(wait)).await?;
            if !batch.is_full() && !batch.messages.is_empty() {
                batch.pull(&mut cursor, None).await?;
            }
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    async fn reopen(&self) -> Result<Cursor, ReadError> {
        let shape =
            Shape { start: Start::At(self.next_seq), filter: None, headers_only: false, linger: LINGER };
        let cursor = Cursor::open(&self.client, &self.stream, shape).await?;
        if cursor.info.created != self.created {
            return Err(ReadError::Recreated { created_ms: cursor.info.created_ms() });
        }
        // Nothing is left of what should come next, so no message will ever show the gap.
        let state = &cursor.info.state;
        if state.messages == 0 && state.first_seq > self.next_seq {
            return Err(ReadError::Gap { first_seq: state.first_seq });
        }
        Ok(cursor)
    }
}

/// Pause before a lost consumer is replaced.
const RETRY: Duration = Duration::from_millis(50);

/// What one call of `next` has read so far.
struct Batch {
    next_seq: u64,
    max_messages: usize,
    bytes_left: usize,
    messages: Vec<LaneMessage>,
    full: bool,
}

impl Batch {
    fn new(next_seq: u64, max_messages: usize, max_bytes: usize) -> Self {
        Self {
            next_seq,
            max_messages: max_messages.max(1),
            bytes_left: max_bytes.max(1),
            messages: Vec::new(),
            full: false,
        }
    }

    fn is_full(&self) -> bool {
        self.full || self.messages.len() >= self.max_messages || self.bytes_left == 0
    }

    /// One pull, to its end. With `wait` it asks for a single message, however large.
    async fn pull(&mut self, cursor: &mut Cursor, wait: Option<Duration>) -> Result<(), ReadError> {
        let pull = match wait {
            Some(_) => Pull { messages: 1, bytes: None, wait },
            None => Pull {
                messages: self.max_messages - self.messages.len(),
                bytes: Some(self.bytes_left),
                wait: None,
            },
        };
        cursor.pull(pull).await?;
        loop {
            match cursor.receive().await {
                Received::Message(stored) => self.take(stored)?,
                Received::End => return Ok(()),
                Received::TooLarge if self.messages.is_empty() => {
                    cursor.pull(Pull { messages: 1, bytes: None, wait: None }).await?;
                    self.full = true;
                }
                Received::TooLarge => {
                    self.full = true;
                    return Ok(());
                }
                Received::Lost(reason) => return Err(ReadError::Unavailable(reason)),
            }
        }
    }

    fn take(&mut self, stored: Stored) -> Result<(), ReadError> {
        if stored.seq != self.next_seq {
            return Err(ReadError::Gap { first_seq: stored.seq });
        }
        self.next_seq += 1;
        self.bytes_left = self.bytes_left.saturating_sub(stored.payload.len());
        self.messages.push(LaneMessage {
            seq: stored.seq,
            subject: stored.subject.to_string(),
            counts: stored
                .headers
                .as_ref()
                .and_then(|headers| headers.get(COUNTS_HEADER))
                .map(|counts| counts.as_str().to_owned()),
            payload: stored.payload,
            received_ms: stored.stored_ms,
        });
        Ok(())
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
    let state = stream_info(client, stream).await?.state;
    if state.last_seq < hi {
        return Err(ReadError::Beyond { last_seq: state.last_seq });
    }
    if state.first_seq > lo {
        return Err(ReadError::Gap { first_seq: state.first_seq });
    }
    let mut reader = LaneReader::open(client, stream, lo).await?;
    let mut messages = Vec::new();
    while reader.position() <= hi {
        let left = usize::try_from(hi - reader.position() + 1).unwrap_or(usize::MAX);
        let read = reader.next(left.min(RANGE_PULL.0), RANGE_PULL.1, RANGE_WAIT).await?;
        if read.is_empty() {
            return Err(ReadError::Unavailable(format!("nothing at {}", reader.position())));
        }
        messages.extend(read);
    }
    Ok(messages)
}

/// When the stream was created, in Unix milliseconds.
///
/// # Errors
/// See [`ReadError`].
pub async fn stream_created_ms(client: &Client, stream: &str) -> Result<u64, ReadError> {
    Ok(stream_info(client, stream).await?.created_ms())
}

/// The highest sequence the stream ever gave.
///
/// # Errors
/// See [`ReadError`].
pub async fn last_seq(client: &Client, stream: &str) -> Result<u64, ReadError> {
    Ok(stream_info(client, stream).await?.state.last_seq)
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { code: code::STREAM_NOT_FOUND, .. } => Self::Missing,
            // No leader at the moment, or a server that is still starting.
            Fault::Refused { code: code::NO_RESPONDERS, text } | Fault::Unknown(text) => {
                Self::Unavailable(text)
            }
            Fault::Refused { .. } => Self::Refused(fault.to_string()),
        }
    }
}
