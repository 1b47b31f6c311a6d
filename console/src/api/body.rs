//! Request bodies: JSON, of bounded size, every wrong member named.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::Problem;

/// Largest body, bytes: a resource is at most 32 KB.
pub const MAX_BYTES: usize = 64 * 1024;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(event::wire::is_json_type) {
            return Err(Problem::unsupported_media_type("send the body as Content-Type: application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                Problem::payload_too_large(format!("the body is larger than {MAX_BYTES} bytes"))
            } else {
                Problem::bad_request("body", "could not be read to its end")
            }
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::bad_request("body", format!("is not JSON: {error}")))?;
        typed("", value).map(Self)
    }
}

/// Reads `value`, which stands at `path` of the body.
///
/// # Errors
/// 422 naming the member.
pub fn typed<T: DeserializeOwned>(path: &str, value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let below = error.path().to_string();
        let field = match (path, below.as_str()) {
            ("", ".") => "body".to_owned(),
            ("", below) => below.to_owned(),
            (path, ".") => path.to_owned(),
            (path, below) => format!("{path}.{below}"),
        };
        Problem::unprocessable(field, error.into_inner().to_string())
    })
}

/// The path of the first member of `given` that `known`, the same value as it was understood, does not have.
pub fn unknown_member(path: &str, given: &Value, known: &Value) -> Option<String> {
    if let (Value::Array(given), Value::Array(known)) = (given, known) {
        let mut items = given.iter().zip(known).enumerate();
        return items.find_map(|(at, (given, known))| unknown_member(&format!("{path}[{at}]"), given, known));
    }
    let Value::Object(given) = given else { return None };
    given.iter().find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        match known.get(name) {
            Some(known) => unknown_member(&path, value, known),
            // What is at its default may have been left out.
            None if is_empty(value) => None,
            None => Some(path),
        }
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistyped_member_is_found() {
        let known = json!({"per": "User", "quota": {"max": 1, "period": "Day"}});
        let found = |given: Value| unknown_member("spec", &given, &known);
        assert_eq!(
            found(json!({"per": "User", "quota": {"max": 1, "perod": "Day"}})).unwrap(),
            "spec.quota.perod"
        );
        assert_eq!(found(json!({"per": "User", "suspend": false, "warnAt": []})), None);
        assert_eq!(found(json!({"suspended": true})).unwrap(), "spec.suspended");
        let rules = |name: &str| json!({"rules": [{"name": "a"}, {name: "b"}]});
        assert_eq!(unknown_member("spec", &rules("nam"), &rules("name")).unwrap(), "spec.rules[1].nam");
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let wrong = |value| typed::<crds::LimitRule>("spec", value).unwrap_err().field().unwrap().to_owned();
        assert_eq!(wrong(json!({"per": "Team"})), "spec.per");
        assert_eq!(wrong(json!({"per": "User", "quota": {"max": 1, "period": 5}})), "spec.quota.period");
    }
}
