//! The connection.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{Auth, ConnectOptions, Event, HeaderMap, HeaderValue, Message, ServerAddr};
use bytes::Bytes;
use credentials::{Password, Settings, TlsError, Transport};
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

/// How every program calls what stands in [`Config`].
const SETTINGS: Settings = Settings { address: "MP_NATS_URL", ca_file: "MP_NATS_CA_FILE", scheme: "tls" };

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct Config {
    /// `nats://host:port`, or `tls://host:port`; or several of one kind separated by commas.
    pub url: String,
    /// File of the authorities whose certificates are believed over TLS, read anew when it changes; `None`: those of this system.
    pub ca_file: Option<PathBuf>,
    /// User name.
    pub user: String,
    /// File that holds its password, read anew at each connection.
    pub password_file: PathBuf,
    /// Shown in the server's list of connections.
    pub name: String,
}

/// Why no connection could be set up. An unreachable server is not among the reasons: it is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one.
    #[error("not a NATS address: {0}")]
    Address(String),
    /// The password's file cannot be read.
    #[error("MP_NATS_PASSWORD_FILE: {0}")]
    Password(#[from] credentials::FileError),
    /// No server could be believed, or none would be asked to prove itself.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
        let (servers, transport) = servers(&config.url)?;
        let tls = SETTINGS.client(transport, config.ca_file.as_deref())?;
        let (count, connects) = watch::channel(0);
        let nats = logged_in(config.user, Password::from_file(&config.password_file)?);
        let nats = match tls {
            // The others that a server tells of go by addresses for which no certificate may be good; the configuration names all.
            Some(tls) => nats.tls_client_config(tls).require_tls(true).ignore_discovered_servers(),
            None => nats.tls_client_config(SETTINGS.refusing()?),
        };
        let nats = nats
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

/// The servers of a URL, and how to speak to all of them.
fn servers(url: &str) -> Result<(Vec<ServerAddr>, Transport), ConnectError> {
    let wrong = |detail: &str| ConnectError::Address(format!("{url}: {detail}"));
    let servers = url.split(',').map(|url| url.trim().parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
    let servers = servers.map_err(|error| wrong(&error.to_string()))?;
    let count = |scheme: &str| servers.iter().filter(|server| server.scheme() == scheme).count();
    match (count("nats"), count("tls")) {
        (plain, 0) if plain == servers.len() => Ok((servers, Transport::Plain)),
        (0, tls) if tls == servers.len() => Ok((servers, Transport::Tls)),
        _ => Err(wrong("expected nats://host:port or tls://host:port, the same for all")),
    }
}

/// Options of a user whose password is looked up at each connection.
fn logged_in(user: String, password: Password) -> ConnectOptions {
    ConnectOptions::with_auth_callback(move |_nonce| {
        // Connections are rare, and each may be there because the password was changed.
        password.refused();
        let mut auth = Auth::new();
        auth.username = Some(user.clone());
        auth.password = Some(password.current().to_string());
        std::future::ready(Ok(auth))
    })
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
    fn the_scheme_says_whether_to_encrypt_and_is_the_same_for_all_servers() {
        let transport = |url: &str| servers(url).map(|(servers, transport)| (servers.len(), transport));
        assert_eq!(transport("nats://a:4222, nats://b:4222").unwrap(), (2, Transport::Plain));
        assert_eq!(transport("127.0.0.1:4222").unwrap(), (1, Transport::Plain));
        assert_eq!(transport("tls://a:4222,tls://b").unwrap(), (2, Transport::Tls));
        for bad in ["tls://a,nats://b", "ws://a", "https://a", "tls://a,b"] {
            assert!(matches!(transport(bad), Err(ConnectError::Address(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn authorities_for_a_plain_address_and_a_missing_password_are_configuration_errors() {
        let config = |ca_file: Option<&str>| Config {
            url: "nats://127.0.0.1:1".to_owned(),
            ca_file: ca_file.map(PathBuf::from),
            user: "u".to_owned(),
            password_file: "/no/such/file".into(),
            name: "n".to_owned(),
        };
        let error = Client::connect(config(Some("/ca.pem"))).await.err().unwrap().to_string();
        assert!(error.contains("MP_NATS_CA_FILE") && error.contains("MP_NATS_URL"), "{error}");
        let error = Client::connect(config(None)).await.err().unwrap().to_string();
        assert!(error.starts_with("MP_NATS_PASSWORD_FILE: /no/such/file"), "{error}");
    }

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
