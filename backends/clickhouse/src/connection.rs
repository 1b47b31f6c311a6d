//! One HTTP connection with one owner. It is never shared, and a request is never repeated here: whoever owns it decides.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::body::{Body, body_of};
use crate::endpoint::Endpoint;
use crate::error::{ClickHouseError, code};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest error text kept of an answer.
const MESSAGE_MAX: usize = 2_000;

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, ClickHouseError> {
        let address = endpoint.address();
        let unavailable = |error: &dyn fmt::Display| {
            ClickHouseError::Unavailable(format!("{}:{}: {error}", address.host(), address.port()))
        };
        let connect = async {
            let host = address.host().trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, address.port())).await.map_err(|e| unavailable(&e))?;
            stream.set_nodelay(true).map_err(|e| unavailable(&e))?;
            let sender = match endpoint.tls() {
                None => start(stream).await,
                Some((tls, name)) => {
                    let stream = tls.connect(name.clone(), stream).await.map_err(|e| unavailable(&e))?;
                    start(stream).await
                }
            };
            sender.map_err(|e| unavailable(&e))
        };
        // Boxed: handshakes are large, and this lies in the future of whoever asks anything.
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(connect)).await;
        let sender = sender.map_err(|e| unavailable(&e))??;
        Ok(Self { sender })
    }

    /// Whether a request can be sent. The server closes idle connections, so `false` is ordinary.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request; every failure from here on is an unknown outcome unless the server says otherwise.
    pub(crate) async fn send(
        &mut self,
        endpoint: &Endpoint,
        path_and_query: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, ClickHouseError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path_and_query)
            .header(http::header::HOST, endpoint.address().authority())
            .header("X-ClickHouse-User", endpoint.user())
            .header("X-ClickHouse-Key", &*endpoint.password().current())
            .body(body_of(path_and_query, body))
            .map_err(|error| ClickHouseError::Decode(format!("not a request: {error}")))?;
        self.sender.ready().await.map_err(|error| ClickHouseError::Unavailable(error.to_string()))?;
        let response = self.sender.send_request(request).await.map_err(|error| {
            // Cancelled: the connection closed before anything was written to it.
            if error.is_canceled() {
                ClickHouseError::Unavailable(error.to_string())
            } else {
                ClickHouseError::Unknown(error.to_string())
            }
        })?;
        match exception(&response) {
            None => Ok(response),
            Some(number) => {
                if number == Some(code::AUTHENTICATION_FAILED) {
                    endpoint.password().refused();
                }
                let body = collect(response.into_body()).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_MAX)]);
                let message = text.trim().to_owned();
                Err(number.map_or_else(
                    || ClickHouseError::Unknown(message.clone()),
                    |code| ClickHouseError::from_exception(code, message.clone()),
                ))
            }
        }
    }
}

/// Speaks HTTP on a stream. The task ends when the sender is dropped or the server closes; a failure shows at the next request.
async fn start(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<SendRequest<Body>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to ClickHouse ended");
        }
    });
    Ok(sender)
}

/// `None`: a success. `Some(None)`: a failure without a code, for example from a proxy in between.
fn exception(response: &http::Response<Incoming>) -> Option<Option<u32>> {
    let code = response.headers().get("X-ClickHouse-Exception-Code");
    let code = code.and_then(|code| code.to_str().ok()).and_then(|code| code.parse().ok());
    (code.is_some() || response.status() != StatusCode::OK).then_some(code)
}

/// The whole body. Every request asks the server to answer only when it is done, so a complete body is a complete answer.
pub(crate) async fn collect(mut body: Incoming) -> Result<Bytes, ClickHouseError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut body).await? {
        if whole.is_empty() && hyper::body::Body::is_end_stream(&body) {
            return Ok(chunk);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The next piece of the body; `None` at its end.
pub(crate) async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>, ClickHouseError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClickHouseError::Unknown(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Appends `&name=value` in URL encoding.
pub(crate) fn push_pair(url: &mut String, name: &str, value: &str) {
    if !url.ends_with('?') {
        url.push('&');
    }
    encode(url, name);
    url.push('=');
    encode(url, value);
}

fn encode(url: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.push(char::from(HEX[usize::from(byte >> 4)]));
            url.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_url_encoded() {
        let mut url = String::from("/?");
        push_pair(&mut url, "a", "1 + 'ä'");
        push_pair(&mut url, "b", "&=");
        assert_eq!(url, "/?a=1%20%2B%20%27%C3%A4%27&b=%26%3D");
    }
}
