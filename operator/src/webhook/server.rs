//! HTTPS on a port of its own. Handshakes go on beside each other, and so many connections may be open.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use kube::ResourceExt;
use policy::window;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::WebhookError;
use super::answer::answer;
use super::figures::Figures;
use super::impact;
use super::known::Known;
use super::metrics::WebhookMetrics;
use super::review::{Answer, Answered, Proposed, Question};
use super::serving::Serving;
use crate::caches::Caches;
use crate::clock;
use crate::context::Settings;

/// Where the kube-apiserver asks.
pub const PATH: &str = "/validate";
/// Connections that are open at once; a kube-apiserver keeps 25 of them.
const CONNECTIONS_MAX: usize = 256;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a new connection may be silent.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long one that has spoken may be: longer than a kube-apiserver keeps one that it does not need (90 s), so that it ends them.
const IDLE: Duration = Duration::from_secs(120);
/// Largest question: an object of ours as it was and as it is to be, with room to spare.
const BODY_MAX_BYTES: usize = 2 << 20;

/// Who answers.
pub struct Desk {
    /// What is declared.
    pub caches: Caches,
    /// What controllers decide by.
    pub settings: Settings,
    /// What limits would have done.
    pub figures: Figures,
    /// Metrics.
    pub metrics: WebhookMetrics,
}

/// Serves for ever.
///
/// # Errors
/// See [`WebhookError`].
pub async fn serve(listen: SocketAddr, serving: Arc<Serving>, desk: Desk) -> Result<(), WebhookError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    let routes = Router::new()
        .route(PATH, post(validate))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Arc::new(desk));
    let (listener, mut accepting) = Listener::bind(listen, TlsAcceptor::from(Arc::new(config))).await?;
    tokio::select! {
        served = axum::serve(listener, routes) => Ok(served?),
        // Nobody could reach it any more, and nothing else would show it.
        _ = accepting.join_next() => Err(io::Error::other("no connection is accepted any more").into()),
    }
}

async fn validate(
    State(desk): State<Arc<Desk>>,
    question: Result<Json<Question>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Answered>, StatusCode> {
    let answering = desk.metrics.begin();
    let Ok(Json(question)) = question else {
        answering.end(StatusCode::BAD_REQUEST.as_u16());
        return Err(StatusCode::BAD_REQUEST);
    };
    let (uid, answer) = (question.request.uid.clone(), desk.answer(question).await);
    answering.end(StatusCode::OK.as_u16());
    Ok(Json(Answered::new(uid, answer)))
}

impl Desk {
    async fn answer(&self, question: Question) -> Answer {
        // What is not known yet cannot be told; the controllers judge all the same.
        if !self.caches.is_synced() {
            return Answer::default();
        }
        let Some(proposed) = question.request.proposed() else { return Answer::default() };
        let known = Known::about(&self.caches, &proposed);
        let mut answer = answer(&proposed, &known, &self.settings);
        if answer.refused.is_none() {
            answer.warnings.extend(self.impact(&proposed, &known).await);
        }
        answer
    }

    /// What the limit would have done, when there are events to tell it from.
    async fn impact(&self, proposed: &Proposed, known: &Known) -> Option<String> {
        let Proposed::UsageLimit(edit) = proposed else { return None };
        let tenant = known.placed()?;
        let (name, zone) = (tenant.name_any().parse().ok()?, window::zone(&tenant.spec.time_zone).ok()?);
        let asked = impact::asked(edit, name, &zone, clock::now().as_millisecond())?;
        impact::sentence(&self.figures.ask(&asked).await?)
    }
}

/// Connections that have shaken hands.
struct Listener {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl Listener {
    /// With the task that accepts, which lives as long as the set.
    async fn bind(listen: SocketAddr, acceptor: TlsAcceptor) -> io::Result<(Self, JoinSet<()>)> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (to, ready) = mpsc::channel(CONNECTIONS_MAX);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, acceptor, to));
        Ok((Self { address, ready }, accepting))
    }
}

async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    to: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shaking = JoinSet::new();
    loop {
        // Never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, from) = axum::serve::Listener::accept(&mut listener).await;
        let (acceptor, to) = (acceptor.clone(), to.clone());
        shaking.spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // Nobody takes it when the listener is gone.
                Ok(Ok(stream)) => drop(to.send((Connection::new(stream, place), from)).await),
                Ok(Err(error)) => tracing::debug!(%error, %from, "a handshake with the webhook failed"),
                Err(_) => tracing::debug!(%from, "a handshake with the webhook took too long"),
            }
        });
        while shaking.try_join_next().is_some() {}
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection and its place among [`CONNECTIONS_MAX`].
struct Connection {
    stream: TlsStream<TcpStream>,
    /// When it ends unless something arrives.
    silent: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, place: OwnedSemaphorePermit) -> Self {
        Self { stream, silent: Box::pin(sleep(FIRST_WORD)), _place: place }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(task, into) {
            Poll::Pending => {
                ready!(self.silent.as_mut().poll(task));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            read => {
                self.silent.as_mut().reset(Instant::now() + IDLE);
                read
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
