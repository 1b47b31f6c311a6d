//! The connection.

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{ConnectOptions, Event, HeaderMap, HeaderValue, Message, ServerAddr};
use bytes::Bytes;
use event::{Gate, gate};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::error::{Fault, code};
use crate::publish::Ack;

/// How long a JetStream API request may take before its outcome is unknown.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a server that says nothing is asked whether it is there; after two questions without an answer another one is. The
/// library's minute would leave a pod on a frozen server, though the others have elected a leader within ten seconds.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long a server may take to greet: a frozen one still accepts connections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Prefix of the JetStream API's subjects.
pub(crate) const API_PREFIX: &str = "$JS.API.";

/// Where and as whom to connect.
#[derive(Clone)]
pub struct Config {
    /// `nats://host:port`, or several separated by commas.
    pub url: String,
    /// User name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Shown in the server's list of connections.
    pub name: String,
}

/// Why no connection could be set up. An unreachable server is not among the reasons: it is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one.
    #[error("not a NATS address: {0}")]
    Address(String),
    /// Anything else that retrying does not mend.
    #[error("NATS: {0}")]
    Setup(String),
}

/// A connection that re-establishes itself; clones share it.
#[derive(Clone)]
pub struct Client {
    nats: async_nats::Client,
    connects: watch::Receiver<u64>,
    gate: Gate,
}

impl Client {
    /// Connects, now or later: an unreachable server is retried for ever, and requests fail as unknown meanwhile.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let servers = config
            .url
            .split(',')
            .map(|url| url.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ConnectError::Address(format!("{}: {error}", config.url)))?;
        let (count, connects) = watch::channel(0);
        let nats = ConnectOptions::with_user_and_password(config.user, config.password)
            .name(config.name)
            .retry_on_initial_connect()
            .ping_interval(PING_EVERY)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                if matches!(event, Event::Connected) {
                    count.send_modify(|n| *n += 1);
                }
                report(&event);
                std::future::ready(())
            })
            .connect(servers)
            .await
            .map_err(|error| ConnectError::Setup(error.to_string()))?;
        Ok(Self { nats, connects, gate: Gate::default() })
    }

    /// The same connection, which sends changes only while `gate` is open.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// The connection itself, for core NATS: recall requests and wake-ups.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// Whether a server is connected at this moment.
    pub fn is_connected(&self) -> bool {
        self.nats.connection_state() == async_nats::connection::State::Connected
    }

    /// Number of this connection: another one means that messages in flight may have been lost.
    pub(crate) fn connection(&self) -> u64 {
        self.nats.statistics().connects.load(Ordering::Relaxed)
    }

    /// Wakes up whoever waits when there is a new connection.
    pub(crate) fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// One request to the JetStream API; `subject` is without its prefix.
    pub(crate) async fn api<Q, A>(&self, subject: &str, request: &Q) -> Result<A, Fault>
    where
        Q: Serialize + ?Sized + Sync,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(request).map_err(|error| Fault::Unknown(error.to_string()))?;
        let request = Request::new().payload(body.into());
        let message = self.request(format!("{API_PREFIX}{subject}"), request, REQUEST_TIMEOUT).await?;
        match serde_json::from_slice::<Response<A>>(&message.payload) {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(error.into()),
            Err(error) => Err(Fault::Unknown(format!("unreadable answer to {subject}: {error}"))),
        }
    }

    /// One request and its answer, within `timeout` altogether.
    ///
    /// Without a connection the client library would keep the message and send it whenever there is one again, long after
    /// its caller gave up; so it is not handed over then.
    pub(crate) async fn request(
        &self,
        subject: String,
        request: Request,
        timeout: Duration,
    ) -> Result<Message, Fault> {
        let deadline = Instant::now() + timeout;
        if !self.connected_before(deadline).await {
            let text = "no connection to NATS".to_owned();
            return Err(Fault::Refused { code: code::NOT_CONNECTED, text });
        }
        let mut connects = self.connects.clone();
        let connection = self.connection();
        if changes_something(&subject) && !self.gate.is_open() {
            return Err(Fault::Refused { code: code::GATE_CLOSED, text: gate::CLOSED.to_owned() });
        }
        let answer = self.nats.send_request(subject, request.timeout(None));
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = timeout_at(deadline, &mut answer) => return match answer {
                    Ok(answer) => Ok(answer?),
                    Err(_) => Err(Fault::Unknown(format!("no answer in {timeout:?}"))),
                },
                // An answer that was under way is lost with its connection, so there is nothing to wait for.
                Ok(()) = connects.changed() => if self.connection() != connection {
                    return Err(Fault::Unknown("the connection was lost before the answer".to_owned()));
                },
            }
        }
    }

    /// Waits for a connection, at most until `deadline`.
    async fn connected_before(&self, deadline: Instant) -> bool {
        let mut connects = self.connects.clone();
        while !self.is_connected() {
            connects.mark_unchanged();
            // The event may come before the state that it announces: look again now and then.
            let look = deadline.min(Instant::now() + Duration::from_millis(20));
            let waited = timeout_at(look, connects.changed()).await;
            if waited.is_err() && Instant::now() >= deadline {
                return self.is_connected();
            }
        }
        true
    }

    /// One message to a stream, and its acknowledgement.
    pub(crate) async fn send(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        msg_id: Option<&str>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Ack, Fault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().copied().chain(msg_id.map(|id| ("Nats-Msg-Id", id))) {
            let value = HeaderValue::from_str(value).map_err(|_| Fault::Refused {
                code: code::NOT_SENDABLE,
                text: format!("header {name} spans lines"),
            })?;
            map.insert(name, value);
        }
        let request = Request::new().headers(map).payload(payload);
        let message = self.request(subject.to_owned(), request, timeout).await?;
        let answer = serde_json::from_slice::<Response<PublishAck>>(&message.payload)
            .map_err(|error| Fault::Unknown(format!("unreadable acknowledgement: {error}")))?;
        match answer {
            Response::Ok(ack) => Ok(Ack { seq: ack.sequence, duplicate: ack.duplicate }),
            Response::Err { error } => Err(error.into()),
        }
    }
}

/// Whether a request to this subject changes streams or what is in them. Consumers are none of it: here they only read.
fn changes_something(subject: &str) -> bool {
    match subject.strip_prefix(API_PREFIX) {
        None => true,
        Some(call) => {
            let changes =
                ["STREAM.CREATE.", "STREAM.UPDATE.", "STREAM.DELETE.", "STREAM.PURGE.", "STREAM.MSG.DELETE."];
            changes.iter().any(|change| call.starts_with(change))
        }
    }
}

/// 50 ms at first, then doubling up to 2 s, so that a restarted server is found quickly and a dead one is not hammered.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    Duration::from_millis(50 << doublings).min(Duration::from_secs(2))
}

fn report(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS"),
        Event::SlowConsumer(subscription) => tracing::warn!(subscription, "dropped messages: too slow"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS server error"),
        Event::ClientError(error) => tracing::warn!(%error, "NATS client error"),
        Event::LameDuckMode | Event::Draining | Event::Closed => tracing::info!(%event, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_from_reads_by_their_subject() {
        for change in [
            "$KV.policy.index",
            "lane.tenant.acme",
            "$JS.API.STREAM.CREATE.KV_policy",
            "$JS.API.STREAM.UPDATE.KV_policy",
            "$JS.API.STREAM.DELETE.KV_policy",
            "$JS.API.STREAM.PURGE.KV_policy",
            "$JS.API.STREAM.MSG.DELETE.KV_policy",
        ] {
            assert!(changes_something(change), "{change}");
        }
        for read in [
            "$JS.API.DIRECT.GET.KV_policy.$KV.policy.index",
            "$JS.API.STREAM.INFO.KV_policy",
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.MSG.GET.KV_policy",
            "$JS.API.CONSUMER.CREATE.KV_policy.x",
            "$JS.API.CONSUMER.MSG.NEXT.KV_policy.x",
        ] {
            assert!(!changes_something(read), "{read}");
        }
    }
}
