//! Sends one pack until its fate is known, or until knowing it takes too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::names::COUNTS_HEADER;
use event::pack::Writer;
use event::{Lane, PackId};
use jetstream::error::code;
use jetstream::publish::EXPECTED_STREAM;
use jetstream::{PublishError, Publisher, fence};
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
    /// Charges quotas that never start anew: what a dead pod spent of them must be known to the unit.
    fenced: bool,
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
        let (counts, events, fenced) = (writer.counts_header(), writer.len(), writer.charges_totals());
        let bytes = writer.seal(id, self.pod.incarnation, received_ms).into();
        Sealed { id, bytes, counts, events, fenced, outcome, _decided_by: decided_by }
    }

    /// Sends a pack from a slot in which no other is on its way.
    pub(super) async fn send(&self, lane: &Lane, slot: u8, pack: Sealed) {
        let begun = Instant::now();
        let outcome = self.attempt(lane, slot, &pack, begun).await;
        let status = if outcome == Outcome::Stored { 200 } else { 503 };
        self.metrics.packs.get_or_create(&RequestLabels { status }).inc();
        self.metrics.pack_events.observe(f64::from(pack.events));
        self.metrics.pack_seconds.observe(begun.elapsed().as_secs_f64());
        pack.outcome.send_replace(Some(outcome));
    }

    async fn attempt(&self, lane: &Lane, slot: u8, pack: &Sealed, begun: Instant) -> Outcome {
        if self.pod.is_fenced() {
            return Outcome::Failed("this pod has lost touch with the others".to_owned());
        }
        let (stream, subject, id) = (lane.stream(), lane.packs_subject(), pack.id.to_string());
        let mut headers = vec![(COUNTS_HEADER, pack.counts.as_str()), (EXPECTED_STREAM, stream.as_str())];
        let fence_subject = lane.fence_subject(self.pod.incarnation, slot);
        #[cfg(feature = "crash-points")]
        if let Err(failed) = crash_points::pass("P2") {
            return Outcome::Failed(failed.to_string());
        }
        if pack.fenced {
            headers.extend(fence::expectation(&fence_subject));
        }
        let mut first = true;
        loop {
            let published =
                self.publisher.publish(&subject, &headers, &id, pack.bytes.clone(), ACK_TIMEOUT).await;
            #[cfg(feature = "crash-points")]
            let published = published.and_then(|ack| match crash_points::pass("P3") {
                Ok(()) => Ok(ack),
                Err(failed) => Err(PublishError::Unknown(failed.to_string())),
            });
            match published {
                Ok(_) => return Outcome::Stored,
                Err(error) => match judge(&error, first, pack.fenced) {
                    Next::Done(outcome) => {
                        tracing::warn!(stream, %error, "a pack was refused");
                        return outcome;
                    }
                    Next::Dead(outcome) => {
                        self.pod.declare_dead("a pack of it was fenced off");
                        return outcome;
                    }
                    Next::Busy if begun.elapsed() > RETRY_FOR => return Outcome::Failed(error.to_string()),
                    Next::Again if begun.elapsed() > RETRY_FOR => return Outcome::Unknown(error.to_string()),
                    Next::Busy => {}
                    Next::Again => {
                        tracing::debug!(stream, %error, "a pack is sent again");
                        first = false;
                    }
                },
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            let too_late = if self.pod.is_fenced() {
                // The operator may have stopped waiting for this pod: what lands from now on, it does not know of.
                "this pod has lost touch with the others"
            } else if begun.elapsed() > RETRY_FOR + ACK_TIMEOUT {
                // A process that was frozen here sends nothing late: the stream may have forgotten the pack's id by then.
                "nobody answered in time"
            } else {
                continue;
            };
            return if first { Outcome::Failed(too_late.into()) } else { Outcome::Unknown(too_late.into()) };
        }
    }
}

/// What a send that was not acknowledged leads to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// That is its fate.
    Done(Outcome),
    /// That is its fate, and this process was taken for dead: what it holds was given to others.
    Dead(Outcome),
    /// This send was not stored: the slot's last pack, of unknown fate, is still on its way inside the server.
    Busy,
    /// Nobody knows: the same bytes go again under the same id.
    Again,
}

/// `first`: no earlier send of the pack can have been stored. `fenced`: it expects nothing on its fence.
fn judge(error: &PublishError, first: bool, fenced: bool) -> Next {
    let PublishError::Refused { code, text } = error else { return Next::Again };
    let fate = || {
        let why = text.clone();
        // A refusal of a repeated send says nothing about the first one.
        if first { Outcome::Failed(why) } else { Outcome::Unknown(why) }
    };
    match *code {
        // Nobody but the reaper can write there.
        code::WRONG_LAST_SEQUENCE if fenced => Next::Dead(fate()),
        code::EXPECTATION_IN_PROCESS if fenced && first => Next::Busy,
        _ if first => Next::Done(fate()),
        _ => Next::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_send_is_definitely_refused() {
        let refused = |code| PublishError::Refused { code, text: "no".into() };
        let (failed, unknown) = (|| Outcome::Failed("no".into()), || Outcome::Unknown("no".into()));
        let cases = [
            (PublishError::Unknown("?".into()), true, true, Next::Again),
            (refused(code::STORE_FAILED), true, true, Next::Done(failed())),
            (refused(code::STORE_FAILED), false, true, Next::Again),
            (refused(code::WRONG_LAST_SEQUENCE), true, true, Next::Dead(failed())),
            (refused(code::WRONG_LAST_SEQUENCE), false, true, Next::Dead(unknown())),
            (refused(code::WRONG_LAST_SEQUENCE), true, false, Next::Done(failed())),
            (refused(code::EXPECTATION_IN_PROCESS), true, true, Next::Busy),
            (refused(code::EXPECTATION_IN_PROCESS), false, true, Next::Again),
        ];
        for (error, first, fenced, next) in cases {
            assert_eq!(judge(&error, first, fenced), next, "{error} {first} {fenced}");
        }
    }
}
