//! What a server says of itself on its monitoring port: whether it writes through is told by no request over a connection of ours.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// When a server's file storage is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Before it acknowledges (`sync_interval: always`).
    Through,
    /// This long after it has acknowledged, at most.
    Later(Duration),
}

/// Why a server's word could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {detail}")]
pub struct MonitorError {
    /// The server.
    pub url: String,
    /// What is wrong.
    pub detail: String,
}

#[derive(Deserialize)]
struct Varz {
    jetstream: JetStream,
}

#[derive(Deserialize)]
struct JetStream {
    config: Config,
}

/// `JetStreamConfig` in nats-server's `server/jetstream.go`.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
    /// Nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

/// When the server whose monitoring is at `url` (`http://host:port`) has file storage on disk.
///
/// # Errors
/// When it does not answer, or has no JetStream.
pub async fn writes(url: &str) -> Result<Writes, MonitorError> {
    let answer = tokio::time::timeout(PATIENCE, varz(url)).await;
    let body = answer.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
    body.and_then(|body| parse(&body)).map_err(|detail| MonitorError { url: url.to_owned(), detail })
}

async fn varz(url: &str) -> Result<Bytes, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| text(&error))?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
    let authority = authority.ok_or("is not of the form http://host:port")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(8222))).await;
    let stream = stream.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/varz").header(header::HOST, authority.as_str());
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
    connection.abort();
    if !status.is_success() {
        return Err(format!("answered {status}"));
    }
    Ok(body.map_err(|error| text(&error))?.to_bytes())
}

fn parse(body: &[u8]) -> Result<Writes, String> {
    let varz: Varz =
        serde_json::from_slice(body).map_err(|error| format!("says nothing of JetStream: {error}"))?;
    let Config { sync_always, sync_interval } = varz.jetstream.config;
    Ok(if sync_always { Writes::Through } else { Writes::Later(Duration::from_nanos(sync_interval)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_writes_through_only_when_it_says_so() {
        let always = br#"{"version":"2.15.2","jetstream":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#;
        assert_eq!(parse(always), Ok(Writes::Through));
        let later = br#"{"jetstream":{"config":{"sync_interval":120000000000}}}"#;
        assert_eq!(parse(later), Ok(Writes::Later(Duration::from_secs(120))));
        for nothing in [&br#"{"jetstream":{}}"#[..], b"{}", b"<html>"] {
            assert!(parse(nothing).unwrap_err().starts_with("says nothing of JetStream"));
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_and_a_server_that_is_not_there_are_told() {
        assert!(writes("nats://x").await.unwrap_err().to_string().contains("http://host:port"));
        assert!(writes("http://127.0.0.1:9").await.is_err());
    }
}
