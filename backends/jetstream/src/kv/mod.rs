//! Key-value buckets: compare-and-set records, and watches that heal themselves.

mod watch;

use async_nats::client::Request;
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::client::{API_PREFIX, Client, REQUEST_TIMEOUT};
use crate::cursor::stream_info;
use crate::error::{Fault, code};
use crate::publish::EXPECTED_LAST_SUBJECT_SEQUENCE;
use crate::streams::wire::InfoAnswer;
use crate::streams::{BucketSpec, LEDGER_ID_KEY, unix_ms};

/// A key's last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Sequence of the write in the bucket: what compare-and-set compares.
    pub revision: u64,
    /// Value; empty when deleted.
    pub value: Bytes,
    /// The write was a deletion.
    pub deleted: bool,
    /// When the server stored it, in Unix milliseconds.
    pub created_ms: u64,
}

/// What a watch tells. `Put` and `Delete` are idempotent by revision: a resumed watch may repeat some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key has this value.
    Put(Entry),
    /// A key was deleted. Entries that expire by age vanish without this.
    Delete {
        /// Key.
        key: String,
        /// Revision of the deletion.
        revision: u64,
    },
    /// Everything up to this revision has been delivered.
    Synced {
        /// Revision.
        revision: u64,
    },
    /// The bucket was replaced by another one: what was delivered before is void; everything follows anew, then `Synced`.
    Reset,
}

/// Events of a watch; it ends never, and stops when dropped.
pub type Watch = BoxStream<'static, WatchEvent>;

/// Which bucket stands behind a name at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Random identity of a ledger's bucket: one that was made anew has another.
    pub ledger_id: Option<String>,
    /// When it was created, by the server's clock, in Unix milliseconds.
    pub created_ms: u64,
    /// Highest revision that it has given.
    pub last_revision: u64,
    /// The server's clock at the answer, in Unix milliseconds.
    pub server_ms: u64,
}

/// Why a bucket could not be opened or read, or a write without expectation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// There is no such bucket.
    #[error("no bucket {0}")]
    Missing(String),
    /// Not a key: 1 or more of `A-Z a-z 0-9 - / _ = .`, without a dot at either end.
    #[error("{0:?} is not a key")]
    InvalidKey(String),
    /// A definite no.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

/// Why a compare-and-set did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasError {
    /// The key has another revision than expected. After an unknown outcome this may be one's own write.
    #[error("the key has another revision")]
    Conflict,
    /// A definite no for another reason: too large, full, no such bucket.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer: timeout, lost connection, or missing rights (which NATS reports apart from the request).
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

/// One bucket; clones share the connection.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    stream: String,
}

impl Bucket {
    /// Opens a bucket that exists.
    ///
    /// # Errors
    /// [`KvError::Missing`] when it does not, else no answer.
    pub async fn open(client: &Client, name: &str) -> Result<Self, KvError> {
        let bucket = Self::named(client, name);
        bucket.info().await?;
        Ok(bucket)
    }

    /// A bucket of which nobody has asked yet whether it exists: a watch of one that does not waits for it.
    pub fn named(client: &Client, name: &str) -> Self {
        Self { client: client.clone(), name: name.to_owned(), stream: BucketSpec::stream_name(name) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's last write, deletions included; `None` when it was never written, or expired.
    ///
    /// Any replica may answer: a write that is not seen proves nothing, only a compare-and-set does.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, KvError> {
        let subject = format!("{API_PREFIX}DIRECT.GET.{}.{}", self.stream, self.subject(key)?);
        let message = self.client.request(subject, Request::new(), REQUEST_TIMEOUT).await?;
        match message.status {
            None => {}
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(other) => return Err(KvError::Unknown(format!("direct get answered {}", other.as_u16()))),
        }
        let headers = message.headers.unwrap_or_default();
        let text = |name: &str| headers.get(name).map(|value| value.as_str());
        let position = text("Nats-Sequence").and_then(|seq| seq.parse().ok());
        let stored = text("Nats-Time-Stamp").and_then(|ts| ts.parse().ok());
        let (Some(revision), Some(stored)) = (position, stored) else {
            return Err(KvError::Unknown("direct get answered without a sequence".to_owned()));
        };
        Ok(Some(Entry {
            key: key.to_owned(),
            revision,
            value: message.payload,
            deleted: is_deletion(Some(&headers)),
            created_ms: unix_ms(stored),
        }))
    }

    /// Writes a key that has no value: never written, expired or deleted. Returns its revision.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn create(&self, key: &str, value: Bytes) -> Result<u64, CasError> {
        match self.write(key, value.clone(), Some(0), None).await.map_err(CasError::from) {
            Err(CasError::Conflict) => {}
            other => return other,
        }
        match self.get(key).await? {
            Some(entry) if entry.deleted => Ok(self.write(key, value, Some(entry.revision), None).await?),
            _ => Err(CasError::Conflict),
        }
    }

    /// Writes a key whose last revision is `expected` (0: never written). Returns its new revision.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn update(&self, key: &str, value: Bytes, expected: u64) -> Result<u64, CasError> {
        Ok(self.write(key, value, Some(expected), None).await?)
    }

    /// Writes a key whatever it holds. Returns its revision.
    ///
    /// # Errors
    /// See [`KvError`].
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        Ok(self.write(key, value, None, None).await?)
    }

    /// Marks a key whose last revision is `expected` as deleted. Returns the revision of the mark.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn delete(&self, key: &str, expected: u64) -> Result<u64, CasError> {
        Ok(self.write(key, Bytes::new(), Some(expected), Some("DEL")).await?)
    }

    /// All keys that have a value, sorted.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn keys(&self) -> Result<Vec<String>, KvError> {
        Ok(watch::scan(self, true).await?.into_iter().map(|entry| entry.key).collect())
    }

    /// All entries that have a value, sorted by key.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn entries(&self) -> Result<Vec<Entry>, KvError> {
        watch::scan(self, false).await
    }

    /// Current entries, one `Synced`, then further writes; resumes by itself after any loss, and tells `Synced` again then.
    ///
    /// A write that was overtaken by another of the same key may be skipped: a bucket keeps the last one only.
    pub fn watch(&self) -> Watch {
        self.watch_matching(">")
    }

    /// The same for keys of this form: `*` stands for one part between dots, `>` at the end for all that follow.
    pub fn watch_matching(&self, keys: &str) -> Watch {
        watch::watch(self.clone(), format!("$KV.{}.{keys}", self.name))
    }

    /// The bucket's highest revision.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn last_revision(&self) -> Result<u64, KvError> {
        Ok(self.info().await?.state.last_seq)
    }

    /// The server's clock, in Unix milliseconds; callers measure the request around it.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn server_time(&self) -> Result<u64, KvError> {
        Ok(unix_ms(self.info().await?.ts))
    }

    /// Which bucket this is, and how far it has come.
    ///
    /// # Errors
    /// When there was no answer, or no bucket.
    pub async fn about(&self) -> Result<About, KvError> {
        let info = self.info().await?;
        Ok(About {
            ledger_id: info.config.metadata(LEDGER_ID_KEY).map(str::to_owned),
            created_ms: unix_ms(info.created),
            last_revision: info.state.last_seq,
            server_ms: unix_ms(info.ts),
        })
    }

    async fn info(&self) -> Result<InfoAnswer, KvError> {
        stream_info(&self.client, &self.stream).await.map_err(|fault| match fault.code() {
            Some(code::STREAM_NOT_FOUND) => KvError::Missing(self.name.clone()),
            _ => fault.into(),
        })
    }

    /// Every subject of the bucket.
    fn all(&self) -> String {
        format!("$KV.{}.>", self.name)
    }

    fn subject(&self, key: &str) -> Result<String, InvalidKey> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'/' | b'_' | b'=' | b'.');
        let dots = key.starts_with('.') || key.ends_with('.') || key.contains("..");
        if key.is_empty() || dots || !key.bytes().all(allowed) {
            return Err(InvalidKey(key.to_owned()));
        }
        Ok(format!("$KV.{}.{key}", self.name))
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        operation: Option<&str>,
    ) -> Result<u64, WriteError> {
        let subject = self.subject(key)?;
        let expected = expected.map(|revision| revision.to_string());
        let headers: Vec<(&str, &str)> = expected
            .as_deref()
            .map(|revision| (EXPECTED_LAST_SUBJECT_SEQUENCE, revision))
            .into_iter()
            .chain(operation.map(|operation| (OPERATION, operation)))
            .collect();
        Ok(self.client.send(&subject, &headers, None, value, REQUEST_TIMEOUT).await?.seq)
    }
}

/// Header that tells a deletion from a value.
const OPERATION: &str = "KV-Operation";

/// Whether a stored message marks its key as deleted, by a writer or (`Nats-Marker-Reason`) by the server.
fn is_deletion(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| {
        let marked = headers.get(OPERATION).is_some_and(|op| matches!(op.as_str(), "DEL" | "PURGE"));
        marked || headers.get("Nats-Marker-Reason").is_some()
    })
}

struct InvalidKey(String);

enum WriteError {
    InvalidKey(InvalidKey),
    Fault(Fault),
}

impl From<InvalidKey> for WriteError {
    fn from(key: InvalidKey) -> Self {
        Self::InvalidKey(key)
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<InvalidKey> for KvError {
    fn from(key: InvalidKey) -> Self {
        Self::InvalidKey(key.0)
    }
}

/// Of reads: that nobody listens says nothing about what is there, only that there is no leader now.
impl From<Fault> for KvError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { code: code::NO_RESPONDERS | code::NOT_CONNECTED, text } => Self::Unknown(text),
            Fault::Refused { .. } => Self::Refused(fault.to_string()),
            Fault::Unknown(text) => Self::Unknown(text),
        }
    }
}

impl From<WriteError> for KvError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::InvalidKey(key) => key.into(),
            WriteError::Fault(Fault::Unknown(text)) => Self::Unknown(text),
            // Of writes: also that nobody listens is a definite no.
            WriteError::Fault(fault @ Fault::Refused { .. }) => Self::Refused(fault.to_string()),
        }
    }
}

impl From<WriteError> for CasError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fault(Fault::Refused {
                code: code::WRONG_LAST_SEQUENCE | code::EXPECTATION_IN_PROCESS,
                ..
            }) => Self::Conflict,
            other => KvError::from(other).into(),
        }
    }
}

impl From<KvError> for CasError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Unknown(text) => Self::Unknown(text),
            KvError::Refused(text) => Self::Refused(text),
            KvError::Missing(_) | KvError::InvalidKey(_) => Self::Refused(error.to_string()),
        }
    }
}
