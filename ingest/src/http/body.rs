//! The request's body and how it carries events.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use event::wire::{Form, MAX_BODY_BYTES, is_json_type};
use http_body_util::BodyExt;

use super::gzip::{Unpacked, gunzip};
use crate::problem::Problem;

/// A client that sends more slowly than this is cut off.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read before the connection is given up.
const MAX_DISCARDED_BYTES: usize = 16 * MAX_BODY_BYTES;

/// How the events stand in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// In the body alone.
    Body(Form),
    /// CloudEvents binary mode: attributes in `ce-` headers, data in the body.
    Binary(Vec<(String, String)>),
}

/// Decides by `Content-Type` and `ce-` headers.
pub fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence =
        content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match essence.as_deref() {
        Some("application/cloudevents+json") => return Ok(Mode::Body(Form::Structured)),
        Some("application/cloudevents-batch+json") => return Ok(Mode::Body(Form::Batch)),
        _ => {}
    }
    let binary = headers.contains_key("ce-specversion") || headers.contains_key("ce-id");
    match essence.as_deref() {
        Some(essence) if is_json_type(essence) => {}
        None if binary => {}
        Some(other) => return Err(unsupported(format!("{other:?} is not supported"))),
        None => return Err(unsupported("it is missing".to_owned())),
    }
    if binary { attributes(headers).map(Mode::Binary) } else { Ok(Mode::Body(Form::Plain)) }
}

fn unsupported(why: String) -> Problem {
    let detail = format!(
        "{why}: send application/json, application/cloudevents+json or application/cloudevents-batch+json"
    );
    let kind = "urn:meterplane:problem:unsupported-media-type";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, kind, "Unsupported Media Type", detail)
        .field("Content-Type")
}

fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let ce = headers
        .iter()
        .filter_map(|(name, value)| name.as_str().strip_prefix("ce-").map(|name| (name, value)));
    ce.map(|(name, value)| {
        let value = value.to_str().ok().and_then(percent_decode);
        let value = value.ok_or_else(|| {
            Problem::bad_request("is not percent-encoded UTF-8").field(format!("ce-{name}"))
        })?;
        Ok((name.to_owned(), value))
    })
    .collect()
}

/// CloudEvents HTTP binding, section 3.1.3.2.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?)
                .ok()
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads the whole body, unpacked, within the bounds of size and time.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return Err(too_large()),
        Ok(Err(error)) => return Err(Problem::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => {
            let kind = "urn:meterplane:problem:request-timeout";
            let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, kind, "Request Timeout", detail));
        }
    };
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    match encoding {
        None | Some("identity") => Ok(bytes),
        Some("gzip") => match gunzip(&bytes) {
            Ok(body) => Ok(body.into()),
            Err(Unpacked::TooLarge) => Err(too_large()),
            Err(Unpacked::Damaged(why)) => {
                Err(Problem::bad_request(format!("the body is not gzip: {why}")).field("Content-Encoding"))
            }
        },
        Some(other) => {
            let kind = "urn:meterplane:problem:unsupported-media-type";
            let detail = format!("{other:?} is not supported: send gzip or nothing");
            let problem =
                Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, kind, "Unsupported Media Type", detail);
            Err(problem.field("Content-Encoding"))
        }
    }
}

/// The body, or `None` when it is larger than a request may be. What is too much is read and thrown away up to a bound:
/// a client that is still sending would see a broken connection instead of the answer.
async fn collect(mut body: Body) -> Result<Option<Bytes>, axum::Error> {
    let (mut kept, mut seen) = (Vec::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if seen > MAX_DISCARDED_BYTES {
            break;
        }
    }
    Ok((seen <= MAX_BODY_BYTES).then(|| kept.into()))
}

fn too_large() -> Problem {
    let kind = "urn:meterplane:problem:content-too-large";
    let detail = format!("the body is larger than {MAX_BODY_BYTES} bytes: send smaller batches");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, kind, "Content Too Large", detail).field("body")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Result<Mode, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        mode(&headers).map_err(|problem| problem.status)
    }

    #[test]
    fn the_content_type_decides_the_form() {
        assert_eq!(of(&[("content-type", "application/json; charset=utf-8")]), Ok(Mode::Body(Form::Plain)));
        assert_eq!(of(&[("content-type", "application/cloudevents+json")]), Ok(Mode::Body(Form::Structured)));
        assert_eq!(
            of(&[("content-type", "Application/CloudEvents-Batch+JSON")]),
            Ok(Mode::Body(Form::Batch))
        );
        assert_eq!(of(&[]), Err(415));
        assert_eq!(of(&[("content-type", "text/plain")]), Err(415));
        let binary = of(&[("ce-specversion", "1.0"), ("ce-subject", "Euro%20%E2%82%AC")]);
        assert_eq!(
            binary,
            Ok(Mode::Binary(vec![("specversion".into(), "1.0".into()), ("subject".into(), "Euro €".into())]))
        );
        assert_eq!(of(&[("ce-id", "%zz")]), Err(400));
    }
}
