//! The OpenAPI document of the public API, made from the routes and the types that they answer with. Built once, when a pod starts.

use std::collections::HashMap;

use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, ToSchema};

use crate::problem::Problem;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Meterplane Ingest API",
        description = "Where applications report usage, ask what would become of it, and reserve it before an expensive job.\n\n\
            The tenant follows from the API key alone; it needs scope `ingest`. Events are CloudEvents 1.0 (structured, batch, or binary \
            with `ce-` headers) or the same attributes as plain JSON. A request holds at most 1,000 events or 1 MiB, after it is unpacked; \
            `Content-Encoding: gzip` is understood.\n\n202 means kept: the events are on disk. After a 503, or without an answer, send \
            the same ids again: an event is stored once. Limits count by time of *receipt*. `RateLimit` and `RateLimit-Policy` say how \
            the limits stand that come nearest to refusing: that is advice, \
            the status decides.\n\nTimes are RFC 3339 in UTC. Errors are problem documents (RFC 9457). Clients must ignore members that they do not \
            know.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "events", description = "Usage as it happens"),
        (name = "reservations", description = "Units that are held for an event that is still to come")
    )
)]
struct Document;

/// What all routes share.
pub fn base() -> OpenApi {
    let mut document = <Document as utoipa::OpenApi>::openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("API key (mp_live_…)")
        .description(Some("An API key with scope `ingest`."))
        .build();
    let header = ApiKeyValue::with_description("X-API-Key", "The same API key; send one of the two headers.");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(header)));
    document
}

/// One event.
#[derive(ToSchema)]
#[allow(dead_code, reason = "events are read without a copy, by event::wire; this says how they look")]
pub struct Event {
    /// Unique within the tenant and `source`: an id that is sent again is the same event.
    #[schema(max_length = 256, examples("order-4711"))]
    id: String,
    /// Where it was produced. Default: the API key's id.
    #[schema(max_length = 512, nullable = false)]
    source: Option<String>,
    /// The feature that was used.
    #[schema(max_length = 128, examples("report.export"))]
    r#type: String,
    /// The user.
    #[schema(max_length = 512, nullable = false, examples("ann@acme.example"))]
    subject: Option<String>,
    /// When it happened. Default: when it is received.
    #[schema(format = DateTime, nullable = false)]
    time: Option<String>,
    /// `1.0`. Required of CloudEvents; may be left out in plain JSON.
    #[schema(nullable = false, examples("1.0"))]
    specversion: Option<String>,
    /// `application/json`.
    #[schema(nullable = false, examples("application/json"))]
    datacontenttype: Option<String>,
    /// What is known about it.
    #[schema(nullable = false)]
    data: Option<EventData>,
}

/// Free attributes; two of them have a meaning of their own.
#[derive(ToSchema)]
#[allow(dead_code, reason = "see Event")]
#[serde(rename_all = "camelCase")]
pub struct EventData {
    /// What it is worth. Default: 0.
    #[schema(nullable = false, examples(1))]
    value: Option<f64>,
    /// How long it took, milliseconds.
    #[schema(nullable = false, examples(120))]
    latency_ms: Option<u32>,
    #[serde(flatten)]
    attributes: HashMap<String, Value>,
}

/// The body of routes that take many events.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "see Event")]
pub enum Events {
    /// One.
    One(Box<Event>),
    /// Up to 1,000.
    Many(Vec<Event>),
}

/// The errors that every route may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum Problems {
    /// A header or parameter is malformed, unknown or out of bounds, two credentials were sent, or the body cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No API key, or one that is malformed, unknown or expired.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The key lacks scope `ingest`, or the tenant is suspended. Of an event: an access policy does not admit it (`policy`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// Not ready, or a store does not answer: send the same ids again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The errors of bodies.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum BodyProblems {
    /// The body did not arrive in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(Problem),
    /// The body is larger than 1 MiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// Neither JSON nor CloudEvents, or packed in another way than gzip.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
}

/// The errors of events that were not admitted.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum Refusals {
    /// No event can be accepted as it is; `rejected` names the member of each.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// A limit is used up: `limit` says which, `Retry-After` and `retryAfterMs` when to send the same ids again.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
}

/// The errors of reservations that are named.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum Unknown {
    /// There is no such reservation, or it is another tenant's: the same answer for both.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}
