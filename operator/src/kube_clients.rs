//! Clients of the kube-apiserver: for watches, for the election, and for everything else, which changes things only behind a gate.

use std::time::Duration;

use event::{Gate, gate};
use http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::BoxError;
use tower::filter::FilterLayer;

/// Why there is no way to the kube-apiserver; retrying would not mend it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoClient(String);

impl NoClient {
    fn of(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// A client for watches, which may be silent for minutes.
///
/// # Errors
/// See [`NoClient`].
pub async fn watching() -> Result<Client, NoClient> {
    Client::try_from(config().await?).map_err(|error| NoClient::of(&error))
}

/// A client for the election: it answers within `timeout` and repeats nothing, because the time of each attempt counts.
///
/// # Errors
/// See [`NoClient`].
pub async fn electing(timeout: Duration) -> Result<Client, NoClient> {
    Client::try_from(impatient(timeout).await?).map_err(|error| NoClient::of(&error))
}

/// A client that sends what may change something only while `gate` is open. It repeats nothing by itself: a repetition goes
/// through the queue and the gate again.
///
/// # Errors
/// See [`NoClient`].
pub async fn calling(timeout: Duration, gate: Gate) -> Result<Client, NoClient> {
    let builder = ClientBuilder::try_from(impatient(timeout).await?).map_err(|error| NoClient::of(&error))?;
    let pass = FilterLayer::new(move |request: Request<Body>| pass(&gate, request));
    Ok(builder.with_layer(&pass).build())
}

fn pass<B>(gate: &Gate, request: Request<B>) -> Result<Request<B>, BoxError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || gate.is_open() { Ok(request) } else { Err(gate::CLOSED.into()) }
}

async fn config() -> Result<Config, NoClient> {
    Config::infer().await.map_err(|error| NoClient::of(&error))
}

async fn impatient(timeout: Duration) -> Result<Config, NoClient> {
    let mut config = config().await?;
    config.read_timeout = Some(timeout);
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_pass_a_closed_gate() {
        let closed = Gate::new(|| false);
        let passes = |gate: &Gate, method: Method| {
            pass(gate, Request::builder().method(method).body(()).unwrap()).is_ok()
        };
        assert!(passes(&closed, Method::GET));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(!passes(&closed, method.clone()) && passes(&Gate::default(), method));
        }
    }
}
