//! What an ingest pod would be if it did nothing: the same HTTP server, the body read, a small JSON answered.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;

/// The answer for one event, as long as ingest's.
const ANSWER: &str = r#"{"accepted":1,"duplicates":0,"rejected":[]}"#;

/// Serves until it is killed.
///
/// # Errors
/// When it cannot listen.
#[tokio::main]
pub async fn run() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/v1/usage/events", post(answer))).await
}

async fn answer(body: Bytes) -> Response {
    drop(body);
    let mut response = Response::new(ANSWER.into());
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
