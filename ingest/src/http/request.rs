//! What every route does before and after its own part: readiness, whose request it is, the body, and the metrics of the answer.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use serde::Serialize;
use tokio::runtime::Handle;

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
/// settled, so what is left of the work then goes on as a task of its own.
///
/// # Errors
/// Its own, or 503 when it ended in a panic.
pub async fn to_the_end<T: Send + 'static>(
    tenant: &str,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    // Nobody sees what a panic left half done: what the work shares with others, it shares behind locks.
    ToTheEnd(Some(Box::pin(AssertUnwindSafe(work).catch_unwind()))).await.unwrap_or_else(|_| {
        tracing::error!(tenant, "a request ended in a panic");
        Err(Problem::unavailable("the request could not be completed: send the same ids again"))
    })
}

/// Work that a drop moves to a task of its own; until then it costs none.
struct ToTheEnd<F>(Option<Pin<Box<F>>>)
where
    F: Future + Send + 'static,
    F::Output: Send;

impl<F> Future for ToTheEnd<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let output = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for ToTheEnd<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_ends_although_its_client_hangs_up() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, end) = oneshot::channel();
        let mut work = Box::pin(to_the_end("acme", async move {
            let went = gone.await.is_ok();
            let _ = done.send(went);
            Ok(())
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(end.await, Ok(true));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let work = async { if true { panic!("on purpose") } else { Ok(()) } };
        assert_eq!(to_the_end("acme", work).await.unwrap_err().status, 503);
    }
}
