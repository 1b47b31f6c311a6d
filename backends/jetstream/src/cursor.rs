//! An ephemeral pull consumer that never acknowledges, and notices when it may have lost something.
//!
//! Nothing on the server remembers a position: whoever reads knows its next sequence and opens a new cursor there. A cursor
//! is lost when the connection was re-established, a delivery is missing from its count, heartbeats stop, or the server
//! says that the consumer is gone.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{API_PREFIX, Client, REQUEST_TIMEOUT};
use crate::error::Fault;
use crate::streams::wire::InfoAnswer;

/// How often a waiting pull hears from the server, when the wait is long enough.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where a cursor begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// At this sequence, or the first one after it that is there.
    At(u64),
    /// With the last message of every subject; the server wants a filter with it.
    LastPerSubject,
}

/// What a cursor delivers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub start: Start,
    /// Subjects; whole streams are read without one, because a filter costs the server an index.
    pub filter: Option<&'a str>,
    /// Headers without payloads.
    pub headers_only: bool,
    /// How long the server keeps an unused consumer.
    pub linger: Duration,
}

/// A stored message.
#[derive(Debug)]
pub(crate) struct Stored {
    pub seq: u64,
    pub subject: Subject,
    pub headers: Option<HeaderMap>,
    pub payload: Bytes,
    pub stored_ms: u64,
    /// Messages that the consumer had yet to deliver after this one.
    pub pending: u64,
}

/// What came of a pull.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message.
    Message(Stored),
    /// The pull is over: nothing there, or as many as were asked for.
    End,
    /// The next message is larger than the pull allows.
    TooLarge,
    /// Messages may be missing; open another cursor.
    Lost(String),
}

/// How much to ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    pub messages: usize,
    pub bytes: Option<usize>,
    /// How long the server waits for messages; `None` takes what is there.
    pub wait: Option<Duration>,
}

/// The running pull.
struct Running {
    reply: String,
    remaining: usize,
    quiet_limit: Duration,
}

pub(crate) struct Cursor {
    client: Client,
    subject: String,
    inbox: String,
    subscriber: Subscriber,
    connects: watch::Receiver<u64>,
    connection: u64,
    pulls: u64,
    delivered: u64,
    running: Option<Running>,
    /// Messages that were there when it was opened.
    pub pending: u64,
    /// The stream just before it was opened.
    pub info: InfoAnswer,
}

#[derive(Deserialize)]
struct ConsumerAnswer {
    num_pending: u64,
}

impl Cursor {
    pub async fn open(client: &Client, stream: &str, shape: Shape<'_>) -> Result<Self, Fault> {
        let mut connects = client.connects();
        connects.mark_unchanged();
        let connection = client.connection();
        let inbox = client.nats().new_inbox();
        let name = inbox.replace('.', "-");
        let info = stream_info(client, stream).await?;
        let subscriber = soon(client.nats().subscribe(format!("{inbox}.*"))).await?;
        let request = json!({ "stream_name": stream, "action": "create", "config": config(&name, shape) });
        let filter = shape.filter.map(|filter| format!(".{filter}")).unwrap_or_default();
        let consumer: ConsumerAnswer =
            client.api(&format!("CONSUMER.CREATE.{stream}.{name}{filter}"), &request).await?;
        // The stream may have been replaced between the two answers above.
        let after = stream_info(client, stream).await?;
        if after.created != info.created {
            return Err(Fault::Unknown("the stream was replaced just now".to_owned()));
        }
        Ok(Self {
            client: client.clone(),
            subject: format!("{API_PREFIX}CONSUMER.MSG.NEXT.{stream}.{name}"),
            inbox,
            subscriber,
            connects,
            connection,
            pulls: 0,
            delivered: 0,
            running: None,
            pending: consumer.num_pending,
            info,
        })
    }

    /// Whether a pull is under way.
    pub fn is_pulling(&self) -> bool {
        self.running.is_some()
    }

    /// Asks for messages; [`Cursor::receive`] delivers them.
    pub async fn pull(&mut self, pull: Pull) -> Result<(), Fault> {
        self.pulls += 1;
        let reply = format!("{}.{}", self.inbox, self.pulls);
        let mut request = json!({ "batch": pull.messages });
        let mut quiet_limit = REQUEST_TIMEOUT;
        if let Some(bytes) = pull.bytes {
            request["max_bytes"] = bytes.into();
        }
        match pull.wait {
            None => request["no_wait"] = true.into(),
            Some(wait) => {
                request["expires"] = nanos(wait).into();
                if wait > HEARTBEAT * 2 {
                    request["idle_heartbeat"] = nanos(HEARTBEAT).into();
                } else {
                    quiet_limit += wait;
                }
            }
        }
        let body = Bytes::from(request.to_string());
        soon(self.client.nats().publish_with_reply(self.subject.clone(), reply.clone(), body)).await?;
        self.running = Some(Running { reply, remaining: pull.messages, quiet_limit });
        Ok(())
    }

    /// What comes next of the running pull.
    pub async fn receive(&mut self) -> Received {
        loop {
            let Some(running) = &self.running else {
                return Received::End;
            };
            if running.remaining == 0 {
                self.running = None;
                return Received::End;
            }
            if self.client.connection() != self.connection {
                return Received::Lost("the connection was re-established".to_owned());
            }
            let deadline = Instant::now() + running.quiet_limit;
            let message = tokio::select! {
                biased;
                message = timeout_at(deadline, self.subscriber.next()) => message,
                // Only a wake-up: the check above decides.
                Ok(()) = self.connects.changed() => continue,
            };
            match message {
                Err(_) => return Received::Lost("no answer to a pull".to_owned()),
                Ok(None) => return Received::Lost("the subscription ended".to_owned()),
                Ok(Some(message)) => {
                    if let Some(received) = self.sort(message) {
                        return received;
                    }
                }
            }
        }
    }

    /// What one message on the inbox means; `None` when it says nothing.
    fn sort(&mut self, message: async_nats::Message) -> Option<Received> {
        if let Some(status) = message.status {
            let running = self.running.as_ref()?;
            // The end of an earlier pull, or of one that was full.
            if message.subject.as_str() != running.reply || status == StatusCode::IDLE_HEARTBEAT {
                return None;
            }
            self.running = None;
            let text = message.description.as_deref().unwrap_or_default();
            return Some(match status {
                StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Received::End,
                StatusCode::REQUEST_TERMINATED if text.starts_with("Batch Completed") => Received::End,
                StatusCode::REQUEST_TERMINATED if text.starts_with("Message Size Exceeds") => {
                    Received::TooLarge
                }
                _ => Received::Lost(format!("{} {text}", status.as_u16())),
            });
        }
        let Some(position) = message.reply.as_deref().and_then(Position::parse) else {
            return Some(Received::Lost("a message without a position".to_owned()));
        };
        self.delivered += 1;
        if position.delivery != self.delivered {
            return Some(Received::Lost(format!("delivery {} is missing", self.delivered)));
        }
        if let Some(running) = &mut self.running {
            running.remaining = running.remaining.saturating_sub(1);
        }
        Some(Received::Message(Stored {
            seq: position.seq,
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            stored_ms: position.stored_ms,
            pending: position.pending,
        }))
    }
}

/// Handing a command to the client library blocks while it has no connection and its queue is full.
async fn soon<T, E: std::fmt::Display>(handing: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    match timeout(REQUEST_TIMEOUT, handing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Fault::Unknown(error.to_string())),
        Err(_) => Err(Fault::Unknown("no connection to NATS".to_owned())),
    }
}

/// The stream as the server describes it.
pub(crate) async fn stream_info(client: &Client, stream: &str) -> Result<InfoAnswer, Fault> {
    client.api(&format!("STREAM.INFO.{stream}"), &json!({})).await
}

fn config(name: &str, shape: Shape<'_>) -> serde_json::Value {
    let mut config = json!({
        "name": name,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": true,
        "num_replicas": 1,
        "inactive_threshold": nanos(shape.linger),
    });
    match shape.start {
        Start::LastPerSubject => config["deliver_policy"] = "last_per_subject".into(),
        Start::At(seq) => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = seq.max(1).into();
        }
    }
    if let Some(filter) = shape.filter {
        config["filter_subject"] = filter.into();
    }
    if shape.headers_only {
        config["headers_only"] = true.into();
    }
    config
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the reply subject of a delivery says (ADR-15 of NATS).
#[derive(Debug, PartialEq, Eq)]
struct Position {
    seq: u64,
    delivery: u64,
    stored_ms: u64,
    pending: u64,
}

impl Position {
    /// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<tries>.<seq>.<delivery>.<ns>.<pending>[.<more>]`
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let skip = if tokens.len() >= 9 { 5 } else { 3 };
        let number = |i: usize| tokens.get(skip + i)?.parse::<u64>().ok();
        Some(Self {
            seq: number(0)?,
            delivery: number(1)?,
            stored_ms: number(2)? / 1_000_000,
            pending: number(3)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_with_and_without_a_domain() {
        let want = Position { seq: 17, delivery: 3, stored_ms: 1_700_000_000_123, pending: 2 };
        for reply in [
            "$JS.ACK.USAGE_acme.c.1.17.3.1700000000123456789.2",
            "$JS.ACK.hub.hash.USAGE_acme.c.1.17.3.1700000000123456789.2",
            "$JS.ACK.hub.hash.USAGE_acme.c.1.17.3.1700000000123456789.2.rand",
        ] {
            assert_eq!(Position::parse(reply).as_ref(), Some(&want), "{reply}");
        }
        assert_eq!(Position::parse("_INBOX.x"), None);
        assert_eq!(Position::parse("$JS.ACK.s.c.1"), None);
    }
}
