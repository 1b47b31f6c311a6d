//! Key-value buckets: compare-and-set records, and watches that heal themselves.

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::client::Client;

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
        let _ = (client, name);
        todo!()
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
        let _ = key;
        todo!()
    }
    /// Writes a key that has no value: never written, expired or deleted. Returns its revision.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn create(&self, key: &str, value: Bytes) -> Result<u64, CasError> {
        let _ = (key, value);
        todo!()
    }
    /// Writes a key whose last revision is `expected` (0: never written). Returns its new revision.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn update(&self, key: &str, value: Bytes, expected: u64) -> Result<u64, CasError> {
        let _ = (key, value, expected);
        todo!()
    }
    /// Writes a key whatever it holds. Returns its revision.
    ///
    /// # Errors
    /// See [`KvError`].
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        let _ = (key, value);
        todo!()
    }
    /// Marks a key whose last revision is `expected` as deleted. Returns the revision of the mark.
    ///
    /// # Errors
    /// See [`CasError`].
    pub async fn delete(&self, key: &str, expected: u64) -> Result<u64, CasError> {
        let _ = (key, expected);
        todo!()
    }
    /// All keys that have a value, sorted.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn keys(&self) -> Result<Vec<String>, KvError> {
        todo!()
    }
    /// All entries that have a value, sorted by key.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn entries(&self) -> Result<Vec<Entry>, KvError> {
        todo!()
    }
    /// Current entries, one `Synced`, then every further write; resumes by itself after any loss.
    pub fn watch(&self) -> Watch {
        todo!()
    }
    /// The bucket's highest revision.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn last_revision(&self) -> Result<u64, KvError> {
        todo!()
    }
    /// The server's clock, in Unix milliseconds; callers measure the request around it.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn server_time(&self) -> Result<u64, KvError> {
        todo!()
    }
}
