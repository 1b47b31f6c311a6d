//! The public API and the admin endpoints.

mod admin;
mod auth;
mod body;
mod check;
mod document;
mod events;
mod gzip;
mod headers;
mod request;
mod reservations;

pub use admin::router as admin;
pub use auth::Caller;
pub use body::Mode;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::problem::Problem;

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(events::post))
        .routes(routes!(check::post))
        .routes(routes!(reservations::post))
        .routes(routes!(reservations::commit))
        .routes(routes!(reservations::delete))
}

/// The OpenAPI document of the routes as they are registered, as committed and served.
pub fn openapi_json() -> String {
    // Serialising plain data into memory cannot fail; an empty document would fail the drift test.
    let mut text = routes().into_openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Events, checks and reservations, and their OpenAPI document; every other path is a 404 problem.
pub fn public(app: Arc<App>) -> Router {
    let document = openapi_json();
    let serve_document = move || async move { ([(header::CONTENT_TYPE, "application/json")], document) };
    let (router, _) = routes().split_for_parts();
    router
        .route("/v1/openapi.json", get(serve_document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

async fn not_found() -> Response {
    let detail = "there is nothing at this path: events are posted to /v1/usage/events";
    Problem::new(StatusCode::NOT_FOUND, "urn:meterplane:problem:not-found", "Not Found", detail)
        .into_response()
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("{} is not allowed here: Allow says what is", request.method());
    let kind = "urn:meterplane:problem:method-not-allowed";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, kind, "Method Not Allowed", detail).into_response()
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
