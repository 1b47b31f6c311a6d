//! Whose request it is.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use policy::apikey::{self, KeyDigest, Scope};
use policy::decide::{Refusal, authorize};
use policy::snapshot::ApiKey;
use policy::tenant::TenantPolicy;

use crate::problem::Problem;
use crate::snapshot::Policies;

/// The tenant and key of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant's policy at the time of the request.
    pub policy: Arc<TenantPolicy>,
    /// The key.
    pub key: ApiKey,
}

/// Reads and checks the API key.
pub fn authenticate(headers: &HeaderMap, policies: &Policies, now_ms: i64) -> Result<Caller, Problem> {
    let secret = secret(headers)?;
    if !apikey::is_well_formed(secret) {
        return Err(Problem::unauthorized("the API key is malformed: is a character missing?"));
    }
    let Some((policy, key)) = policies.directory.find(&KeyDigest::of(secret)) else {
        // Only a complete bucket can say that a key does not exist.
        return Err(if policies.is_complete() {
            Problem::unauthorized("the API key is not known")
        } else {
            Problem::unavailable("policy is still being loaded")
        });
    };
    authorize(policy, key, Scope::Ingest, now_ms).map_err(refused)?;
    Ok(Caller { policy: policy.clone(), key: key.clone() })
}

fn secret(headers: &HeaderMap) -> Result<&str, Problem> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let bearer = text(header::AUTHORIZATION);
    let own = text(header::HeaderName::from_static("x-api-key"));
    match (bearer, own) {
        (Some(_), Some(_)) => {
            let detail = "send the API key once: as Authorization: Bearer or as X-API-Key";
            Err(Problem::bad_request(detail).field("X-API-Key"))
        }
        (Some(value), None) => value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| {
                Problem::unauthorized("the Authorization header is not of the form: Bearer <API key>")
            }),
        (None, Some(key)) => Ok(key.trim()),
        (None, None) => Err(Problem::unauthorized(
            "an API key is required: Authorization: Bearer <API key>, or X-API-Key",
        )),
    }
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::KeyExpired => Problem::unauthorized("the API key has expired"),
        Refusal::ScopeMissing | Refusal::TenantSuspended => {
            let kind = "urn:meterplane:problem:forbidden";
            Problem::new(StatusCode::FORBIDDEN, kind, "Forbidden", refusal.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pairs: &[(&'static str, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        authenticate(&headers, &Policies::default(), 0).unwrap_err().status
    }

    #[test]
    fn requests_without_a_usable_key_are_refused() {
        let key = apikey::generate(&[1; 32]);
        assert_eq!(status(&[]), 401);
        assert_eq!(status(&[("authorization", "Basic eDp5")]), 401);
        assert_eq!(status(&[("x-api-key", "mp_live_short")]), 401);
        assert_eq!(status(&[("x-api-key", &key), ("authorization", "Bearer x")]), 400);
        assert_eq!(
            status(&[("x-api-key", &key)]),
            503,
            "an incomplete bucket cannot say that a key is unknown"
        );
        assert_eq!(status(&[("authorization", &format!("bearer {key}"))]), 503);
    }
}
