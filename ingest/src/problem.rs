//! Answers that are errors: RFC 9457 problem details.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admit::Rejected;

/// A problem document and the headers that go with it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable identifier of the kind of problem.
    #[schema(examples("urn:meterplane:problem:plan-limit-exceeded"))]
    pub r#type: &'static str,
    /// The kind, for people.
    #[schema(examples("Plan Limit Exceeded"))]
    pub title: &'static str,
    /// HTTP status.
    #[schema(examples(429))]
    pub status: u16,
    /// What happened here and what to do.
    pub detail: String,
    /// The header, parameter or member to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// Further members.
    #[serde(flatten)]
    #[schema(value_type = ProblemMembers)]
    pub more: Box<serde_json::Map<String, serde_json::Value>>,
    /// `Retry-After`, seconds.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

/// What problems of some kinds say besides, for the OpenAPI document.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only its derive is used")]
struct ProblemMembers {
    /// Machine-readable reason, where a status has several.
    #[schema(nullable = false)]
    code: Option<String>,
    /// Of 429: the limit, with `name`, `identity`, `max`, `used` and `window`.
    #[schema(nullable = false)]
    limit: Option<serde_json::Value>,
    /// Of 403: the access policy, with `name`, `identity` and `rule`.
    #[schema(nullable = false)]
    policy: Option<serde_json::Value>,
    /// Of 429: when to send the same ids again.
    #[schema(nullable = false)]
    retry_after_ms: Option<u64>,
    /// Why each event was refused.
    #[schema(nullable = false)]
    rejected: Option<Vec<Rejected>>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(
        status: StatusCode,
        r#type: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let more = Box::default();
        Self {
            r#type,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            more,
            retry_after_s: None,
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "urn:meterplane:problem:bad-request", "Bad Request", detail)
    }

    /// 401: says nothing about why, but for the form.
    pub fn unauthorized(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "urn:meterplane:problem:unauthorized", "Unauthorized", detail)
    }

    /// 503: try again, with the same event ids.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let kind = "urn:meterplane:problem:unavailable";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "Service Unavailable", detail);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// Names what to mend.
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The HTTP answer.
    pub fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
