//! Answers that are errors: RFC 9457 problem details, one constructor a kind.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// Media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Stable identifier of the kind of problem.
    #[schema(examples("urn:meterplane:problem:bad-request"))]
    r#type: &'static str,
    /// The kind, for people.
    #[schema(examples("Bad Request"))]
    title: &'static str,
    /// HTTP status.
    #[schema(examples(400))]
    status: u16,
    /// What happened here and what to do.
    #[schema(examples("must lie before to"))]
    detail: String,
    /// The parameter, header or member of the body to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("from"), nullable = false)]
    field: Option<Box<str>>,
    /// Of 409: the field manager that owns what was to be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("argocd-controller"), nullable = false)]
    manager: Option<Box<str>>,
    /// Of 409: the document to commit where that manager takes it from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    yaml: Option<Box<str>>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, r#type: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            r#type,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            manager: None,
            yaml: None,
            retry_after_s: None,
        }
    }

    /// 400: the request cannot be understood; `field` names the parameter or header to mend.
    pub fn bad_request(field: impl Into<Box<str>>, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "urn:meterplane:problem:bad-request", detail);
        Self { field: Some(field.into()), ..problem }
    }

    /// 401: nobody that we know is asking.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "urn:meterplane:problem:unauthorized", detail)
    }

    /// 403: we know who is asking, and they may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:meterplane:problem:forbidden", detail)
    }

    /// 404: always the same document, so that nothing about other tenants can be told from it.
    pub fn not_found() -> Self {
        let detail = "there is nothing here, or nothing that this key may see";
        Self::new(StatusCode::NOT_FOUND, "urn:meterplane:problem:not-found", detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let kind = "urn:meterplane:problem:method-not-allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, kind, "this resource does not have that method: see Allow")
    }

    /// 409: the request cannot be done as things are.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "urn:meterplane:problem:conflict", detail)
    }

    /// 409: `manager` owns `field`; `yaml` is what to commit there instead.
    pub fn owned(
        detail: impl Into<String>,
        field: impl Into<Box<str>>,
        manager: impl Into<Box<str>>,
        yaml: impl Into<Box<str>>,
    ) -> Self {
        let problem = Self::new(StatusCode::CONFLICT, "urn:meterplane:problem:owned-elsewhere", detail);
        Self { field: Some(field.into()), manager: Some(manager.into()), yaml: Some(yaml.into()), ..problem }
    }

    /// 413.
    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "urn:meterplane:problem:payload-too-large", detail)
    }

    /// 415.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let kind = "urn:meterplane:problem:unsupported-media-type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, kind, detail)
    }

    /// 422: the body is understood and not acceptable; `field` names the member to mend.
    pub fn unprocessable(field: impl Into<Box<str>>, detail: impl Into<String>) -> Self {
        let problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:meterplane:problem:unprocessable", detail);
        Self { field: Some(field.into()), ..problem }
    }

    /// 503: something that is needed does not answer now; the same request may succeed later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let kind = "urn:meterplane:problem:unavailable";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// 500: a defect; its cause is in the log under the request's id.
    pub fn internal() -> Self {
        let kind = "urn:meterplane:problem:internal";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            kind,
            "the answer could not be made; the request id helps to find out why",
        )
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The parameter or header to mend.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Serialising plain data into memory cannot fail; an empty body would still carry the status.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The errors that every route may answer, for the OpenAPI document.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum Problems {
    /// A parameter is malformed, unknown, given twice or out of bounds, or two credentials were sent.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No API key, or one that is malformed, unknown or expired.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The key lacks the scope that the route needs, or the tenant is suspended.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// There is nothing here, or it belongs to another tenant: the same answer for both.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// Not ready, or a store does not answer; try again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The errors that routes with a body answer besides.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its derive is used")]
pub enum WriteProblems {
    /// Somebody else owns it (`manager` says who, `yaml` what to commit there), it exists already, or it was changed meanwhile.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// A member of the body is not acceptable; `field` names it.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
}
