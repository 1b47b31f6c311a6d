//! Sends one pack until its fate is known, or until knowing it takes too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::PackId;
use event::names::COUNTS_HEADER;
use event::pack::Writer;
use jetstream::publish::EXPECTED_STREAM;
use jetstream::{PublishError, Publisher};
use tokio::sync::watch;

use crate::metrics::{Metrics, RequestLabels};
use crate::pods::Pod;
use crate::snapshot::Policies;

/// How long one send waits for its acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the same bytes are sent again under the same id: far below half of the stream's duplicate window.
const RETRY_FOR: Duration = Duration::from_secs(8);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What became of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: durable.
    Stored,
    /// Definitely not stored: its units are free again.
    Failed(String),
    /// Nobody knows: its units stay charged, the client repeats the same ids.
    Unknown(String),
}

/// A pack that takes no more events.
pub struct Sealed {
    id: PackId,
    bytes: Bytes,
    counts: String,
    events: u32,
    outcome: watch::Sender<Option<Outcome>>,
    /// Held while it is on its way: see [`crate::snapshot::Store::drained_revision`].
    _decided_by: Vec<Arc<Policies>>,
}

/// Seals and sends packs of all lanes.
pub struct Sender {
    publisher: Publisher,
    pod: Arc<Pod>,
    metrics: Arc<Metrics>,
    random: fn() -> u128,
}

impl Sender {
    /// A sender; `random` gives pack ids.
    pub fn new(publisher: Publisher, pod: Arc<Pod>, metrics: Arc<Metrics>, random: fn() -> u128) -> Self {
        Self { publisher, pod, metrics, random }
    }

    pub(super) fn seal(
        &self,
        writer: Writer,
        received_ms: i64,
        outcome: watch::Sender<Option<Outcome>>,
        decided_by: Vec<Arc<Policies>>,
    ) -> Sealed {
        let id = PackId((self.random)());
        let (counts, events) = (writer.counts_header(), writer.len());
        let bytes = writer.seal(id, self.pod.incarnation, received_ms).into();
        Sealed { id, bytes, counts, events, outcome, _decided_by: decided_by }
    }

    pub(super) async fn send(&self, stream: &str, subject: &str, pack: Sealed) {
        let begun = Instant::now();
        let outcome = self.attempt(stream, subject, &pack, begun).await;
        let status = if outcome == Outcome::Stored { 200 } else { 503 };
        self.metrics.packs.get_or_create(&RequestLabels { status }).inc();
        self.metrics.pack_events.observe(f64::from(pack.events));
        self.metrics.pack_seconds.observe(begun.elapsed().as_secs_f64());
        pack.outcome.send_replace(Some(outcome));
    }

    async fn attempt(&self, stream: &str, subject: &str, pack: &Sealed, begun: Instant) -> Outcome {
        if self.pod.is_fenced() {
            return Outcome::Failed("this pod has lost touch with the others".to_owned());
        }
        let headers = [(COUNTS_HEADER, pack.counts.as_str()), (EXPECTED_STREAM, stream)];
        let id = pack.id.to_string();
        let mut first = true;
        loop {
            match self.publisher.publish(subject, &headers, &id, pack.bytes.clone(), ACK_TIMEOUT).await {
                Ok(_) => return Outcome::Stored,
                Err(PublishError::Refused { code, text }) if first => {
                    tracing::warn!(stream, code, text, "a pack was refused");
                    return Outcome::Failed(text);
                }
                // A refusal of a repeated send says nothing about the first one.
                Err(error) if begun.elapsed() > RETRY_FOR => return Outcome::Unknown(error.to_string()),
                Err(error) => tracing::debug!(stream, %error, "a pack is sent again"),
            }
            first = false;
            tokio::time::sleep(RETRY_PAUSE).await;
            // The operator may have stopped waiting for this pod: what lands from now on, it does not know of.
            if self.pod.is_fenced() {
                return Outcome::Unknown("this pod has lost touch with the others".to_owned());
            }
        }
    }
}
