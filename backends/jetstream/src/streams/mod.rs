//! Streams: what is wanted, what is there, and the steps between them.
//!
//! # Rules of [`Streams`]
//! - `observe` never guesses: anything but a clear answer is `Observed::Unknown`.
//! - `execute` and `delete` look at the stamp again before they write and refuse what is not stamped as the step expects.
//!   NATS has no compare-and-set on settings, so two operators are kept apart by their lease, not by this check.
//! - After `execute` of every step, `plan(want, observe())` has no steps. Executing a step twice is harmless.
//! - Nothing but `delete` loses data that is not past its declared age.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod live;
mod plan;
mod spec;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use event::{Observed, Stamp};

pub use plan::{Blocked, Expectation, Plan, StreamStep, adopt, plan, release};
pub use spec::{
    BucketSpec, Discard, LANE_MIN_BYTES, LEDGER_ID_KEY, LaneSettings, LedgerWindow, Settings, Storage,
    StreamSpec, ViolationsSettings,
};

/// A stream as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Name.
    pub name: String,
    /// Its settings, as far as we set them.
    pub settings: Settings,
    /// Its owner, if it has a complete stamp.
    pub stamp: Option<Stamp>,
    /// Further metadata, without the stamp and the server's own.
    pub metadata: BTreeMap<String, String>,
    /// When it was created, in Unix milliseconds: the lane's epoch.
    pub created_ms: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Lowest sequence in it.
    pub first_seq: u64,
    /// Highest sequence it ever gave.
    pub last_seq: u64,
    /// Age of its oldest message by the server's clock; zero when it is empty.
    pub oldest_age: Duration,
}

/// Why a change of streams did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The storage that the stream would reserve is not there (`Stalled/StorageReserved`).
    #[error("not enough storage to reserve: {0}")]
    StorageReserved(String),
    /// No such stream.
    #[error("no such stream")]
    NotFound,
    /// The stream carries another stamp than the step expects; nothing was changed.
    #[error("the stream belongs to {found:?}")]
    StampMismatch {
        /// The stamp it carries.
        found: Option<Stamp>,
    },
    /// A definite no.
    #[error("refused: {text} ({code})")]
    Refused {
        /// See [`crate::error::code`].
        code: u64,
        /// The server's words.
        text: String,
    },
    /// Nothing is known of the outcome; observe again.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}

/// Streams of one JetStream account. The rules are those of the module.
pub trait Streams: Send + Sync {
    /// What is known of stream `name`.
    fn observe(&self, name: &str) -> impl Future<Output = Observed<StreamState>> + Send;

    /// Executes one step of a plan.
    fn execute(&self, step: &StreamStep) -> impl Future<Output = Result<(), StreamError>> + Send;

    /// Deletes stream `name` and everything in it, if its stamp is `expected`; an absent stream is a success.
    fn delete(&self, name: &str, expected: &Stamp) -> impl Future<Output = Result<(), StreamError>> + Send;

    /// Names of all streams that begin with `prefix`, sorted.
    fn list_names(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, StreamError>> + Send;

    /// The highest sequence that stream `name` ever gave.
    fn last_sequence(&self, name: &str) -> impl Future<Output = Result<u64, StreamError>> + Send;
}

/// Unix milliseconds; a time before 1970 is 0.
pub(crate) fn unix_ms(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
