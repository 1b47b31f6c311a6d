//! The Console API: routes, their OpenAPI document, and what every answer carries.

mod body;
pub mod by_feature;
mod cursor;
pub mod effective;
pub mod exceeded_limits;
mod page;
mod params;
mod places;
pub mod policies;
pub mod range;
pub mod simulate;
pub mod summary;
mod tiles;
pub mod trends;
pub mod usage_limits;
pub mod user_analytics;
pub mod violations;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Json, Router};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::auth::Caller;
use crate::metrics;
use crate::problem::Problem;

/// Identifies a request in answers and logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const REQUEST_ID_MAX: usize = 128;
/// Where the OpenAPI document is served.
const DOCUMENT_PATH: &str = "/v1/openapi.json";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Meterplane Console API",
        description = "Dashboards of a tenant: what its users used and what was refused, read from what is stored; and the tenant's own limits, as \
            resources in its namespaces.\n\n\
            The tenant follows from the API key alone. What belongs to another tenant, and what does not exist, is answered \
            alike.\n\nEvents are counted by *event time* in half-open ranges `from <= time < to`, exactly: users are counted \
            one by one, values are summed as decimals. Only limits count by time of *receipt*, as quotas do. An event is \
            shown as soon as it is stored, normally within two seconds of its 202. Ranges are at most 400 days.\n\n\
            Times are RFC 3339 in UTC. Every answer carries `X-Request-Id`, and the one that was sent if there was one. Errors \
            are problem documents (RFC 9457). Clients must ignore members that they do not know.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "dashboard", description = "Usage of the key's tenant"),
        (name = "admin", description = "Limits of the key's tenant: what is in force, what would be, and its own ones")
    )
)]
struct Document;

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document_base())
        .routes(routes!(summary::get))
        .routes(routes!(trends::get))
        .routes(routes!(by_feature::get))
        .routes(routes!(user_analytics::get))
        .routes(routes!(violations::get))
        .routes(routes!(exceeded_limits::get))
        .routes(routes!(effective::get))
        .routes(routes!(simulate::post))
        .routes(routes!(policies::create))
        .routes(routes!(usage_limits::list, usage_limits::create))
        .routes(routes!(usage_limits::get, usage_limits::replace, usage_limits::delete))
}

fn document_base() -> OpenApi {
    let mut document = <Document as utoipa::OpenApi>::openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("API key (mp_live_…)")
        .description(Some("An API key with scope `read`, to write with scope `admin`."))
        .build();
    let header = ApiKeyValue::with_description("X-API-Key", "The same API key; send one of the two headers.");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(header)));
    document
}

/// The OpenAPI document of the routes as they are registered, as committed and served.
pub fn openapi_json() -> String {
    let document = routes().into_openapi();
    // Serialising plain data into memory cannot fail; an empty document would fail the drift test.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The API.
pub fn router(app: Arc<App>) -> Router {
    let document = openapi_json();
    let serve_document = move || async move { ([(header::CONTENT_TYPE, "application/json")], document) };
    let (router, _) = routes().split_for_parts();
    router
        .route(DOCUMENT_PATH, get(serve_document))
        .route("/v1/dashboard/{*rest}", any(nothing))
        .route("/v1/admin/{*rest}", any(nothing))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(body::MAX_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), frame))
        .with_state(app)
}

/// Whoever may ask learns that there is nothing, in the words used for everything else that is not theirs.
async fn nothing(caller: Caller) -> Problem {
    drop(caller);
    Problem::not_found()
}

/// What every answer carries, and how it is counted.
async fn frame(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (begun, _under_way) = (Instant::now(), app.metrics.begin_request());
    let id = request_id(request.headers()).unwrap_or_else(|| app.ids.next());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let method = metrics::method(request.method());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    app.metrics.count_request(method, &route, status, took);
    if status >= 500 {
        tracing::warn!(request_id = id, route, status, took_ms = took.as_millis() as u64, "answered");
    } else {
        tracing::debug!(request_id = id, route, status, took_ms = took.as_millis() as u64, "answered");
    }
    response
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = !text.is_empty() && text.len() <= REQUEST_ID_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

/// An answer, or a problem document.
type Answer<T> = Result<Json<T>, Problem>;

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
