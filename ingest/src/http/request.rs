//! What every route does before and after its own part: readiness, whose request it is, the body, and the metrics of the answer.

use std::sync::{Arc, Weak};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::{Caller, Mode, auth, body};
use crate::App;
use crate::metrics::RequestLabels;
use crate::problem::Problem;
use crate::snapshot::Policies;

/// A request of a key that may send it. Its body may take as long as the client likes, so it keeps no policy in use.
pub struct Received {
    caller: Caller,
    /// What the caller was found in.
    policies: Weak<Policies>,
    head: Parts,
    content: Body,
}

/// A request without its body.
pub struct Judged {
    /// The policy that it is judged by, whatever comes while it is answered.
    pub policies: Arc<Policies>,
    /// Whose request it is.
    pub caller: Caller,
}

impl Received {
    /// The part of the address behind `?`.
    pub fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// Whose request it is, by the policy of now.
    ///
    /// # Errors
    /// When it may not be sent any more, or this pod may not answer.
    pub fn judged(self, app: &App) -> Result<Judged, Problem> {
        judged(app, &self.head, self.caller, &self.policies)
    }

    /// Whose request it is, how its body carries events, and the body. The policy is that of the time when the body was there.
    ///
    /// # Errors
    /// What is wrong with either.
    pub async fn body(self, app: &App) -> Result<(Judged, Mode, Bytes), Problem> {
        let mode = body::mode(&self.head.headers)?;
        let bytes = body::read(&self.head.headers, self.content).await?;
        Ok((judged(app, &self.head, self.caller, &self.policies)?, mode, bytes))
    }
}

fn judged(app: &App, head: &Parts, caller: Caller, found_in: &Weak<Policies>) -> Result<Judged, Problem> {
    if let Some(reason) = app.not_ready() {
        return Err(Problem::unavailable(reason));
    }
    let policies = app.store.load_full();
    let unchanged = std::ptr::eq(found_in.as_ptr(), Arc::as_ptr(&policies));
    let caller =
        if unchanged { caller } else { auth::authenticate(&head.headers, &policies, app.clock.now_ms())? };
    Ok(Judged { policies, caller })
}

/// Answers a request by `handle`.
pub async fn answer<F, A>(app: Arc<App>, request: Request, handle: F) -> Response
where
    F: FnOnce(Arc<App>, Received) -> A,
    A: Future<Output = Result<Response, Problem>>,
{
    let begun = Instant::now();
    let answered = match receive(&app, request) {
        Ok(received) => handle(app.clone(), received).await,
        Err(problem) => Err(problem),
    };
    let response = answered.unwrap_or_else(Problem::into_response);
    app.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    app.metrics.requests.get_or_create(&RequestLabels { status: response.status().as_u16() }).inc();
    response
}

fn receive(app: &App, request: Request) -> Result<Received, Problem> {
    if let Some(reason) = app.not_ready() {
        return Err(Problem::unavailable(reason));
    }
    let (head, content) = request.into_parts();
    let policies = app.store.load_full();
    let caller = auth::authenticate(&head.headers, &policies, app.clock.now_ms())?;
    Ok(Received { caller, policies: Arc::downgrade(&policies), head, content })
}

/// Runs what must not be cut off: a client that hangs up drops its request's future, and units that were taken must still be
/// settled, so a task of its own carries it to its end.
///
/// # Errors
/// Its own, or 503 when it ended in a panic.
pub async fn to_the_end<T: Send + 'static>(
    tenant: &str,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(tenant, %error, "a request ended in a panic");
        Err(Problem::unavailable("the request could not be completed: send the same ids again"))
    })
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
