//! `POST /v1/usage/reservations`, `POST /v1/usage/reservations/{id}/commit` and `DELETE /v1/usage/reservations/{id}`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::document::{BodyProblems, Event, Problems, Refusals, Unknown};
use super::request::{self, Judged, Received, json};
use super::{events, headers};
use crate::App;
use crate::admit::{self, Reserved};
use crate::problem::Problem;

/// How long a reservation holds when the client does not say.
const DEFAULT_TTL_S: u32 = 900;
/// The longest.
const MAX_TTL_S: u32 = 86_400;
const TTL: &str = "ttlSeconds";

/// A reservation that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Its id, at most 4 KB of letters, digits, `-` and `_`. Nobody else keeps it.
    id: String,
    /// When it ends, if it was not committed before.
    #[schema(format = DateTime)]
    expires_at: String,
    /// What it holds, of each quota that enforces.
    held: Vec<Held>,
}

/// What is held of one limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct Held {
    /// The limit's name.
    limit: String,
    /// Units.
    units: u64,
}

/// The id in the path; one that is not text is nobody's.
type Id = Result<Path<String>, PathRejection>;

fn text(id: Id) -> String {
    id.map_or_else(|_| String::new(), |Path(id)| id)
}

/// Reserves what an event will need.
///
/// The body is one event, as it would be posted now. All limits that it needs hold its units, or none does. Rates are not reserved: they
/// have their turn at the commit. The units count for the period in which they are reserved.
#[utoipa::path(
    post,
    path = "/v1/usage/reservations",
    operation_id = "createReservation",
    tag = "reservations",
    params(("ttlSeconds" = Option<u32>, Query, minimum = 1, maximum = 86_400, nullable = false,
        description = "How long it holds. Default: 900.", example = 900)),
    request_body(content((Event = "application/json"), (Event = "application/cloudevents+json"))),
    responses(
        (status = 201, description = "Held", body = Created, headers(("Location" = String, description = "The reservation"))),
        Problems, BodyProblems, Refusals
    ),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    request::answer(app, request, reserve).await
}

/// Reports the event that was reserved for.
///
/// It may need fewer units than are held, and the rest goes back; what it needs beyond is taken now, or it is refused and the reservation
/// stays as it is. Of a reservation that was committed or released before, the event is admitted like any other, and stored once.
#[utoipa::path(
    post,
    path = "/v1/usage/reservations/{id}/commit",
    operation_id = "commitReservation",
    tag = "reservations",
    params(("id" = String, Path, description = "The reservation")),
    request_body(content((Event = "application/json"), (Event = "application/cloudevents+json"))),
    responses(
        (status = 202, description = "Kept", body = events::Accepted<'_>),
        (status = 410, description = "It has ended (`code`: `reservation_ended`), and what it held has gone back",
            body = Problem, content_type = "application/problem+json"),
        Unknown, Problems, BodyProblems, Refusals
    ),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn commit(State(app): State<Arc<App>>, id: Id, request: Request) -> Response {
    let id = text(id);
    let handle = async |app: Arc<App>, received: Received| {
        let (Judged { policies, caller }, mode, bytes) = received.body(&app).await?;
        let tenant = caller.policy.name().to_string();
        let name = tenant.clone();
        let admission = request::to_the_end(&tenant, async move {
            let admission = admit::commit(&app, &policies, &caller, (&mode, &bytes), &id).await?;
            admission.count(&app.metrics, &name);
            Ok(admission)
        });
        Ok(events::respond(&tenant, &admission.await?))
    };
    request::answer(app, request, handle).await
}

/// Gives back what a reservation holds.
#[utoipa::path(
    delete,
    path = "/v1/usage/reservations/{id}",
    operation_id = "deleteReservation",
    tag = "reservations",
    params(("id" = String, Path, description = "The reservation")),
    responses((status = 204, description = "Nothing is held any more, also when this is repeated"), Unknown, Problems),
    security(("bearer" = []), ("apiKey" = []))
)]
pub async fn delete(State(app): State<Arc<App>>, id: Id, request: Request) -> Response {
    let id = text(id);
    let handle = async |app: Arc<App>, received: Received| {
        let Judged { policies, caller } = received.judged(&app)?;
        let tenant = caller.policy.name().to_string();
        let release = async move { admit::release(&app, &policies, &caller, &id).await };
        request::to_the_end(&tenant, release).await?;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    };
    request::answer(app, request, handle).await
}

async fn reserve(app: Arc<App>, received: Received) -> Result<Response, Problem> {
    let ttl_ms = i64::from(ttl_s(received.query().unwrap_or_default())?) * 1_000;
    let (Judged { policies, caller }, mode, bytes) = received.body(&app).await?;
    let tenant = caller.policy.name().to_string();
    let reserved = request::to_the_end(&tenant, async move {
        admit::reserve(&app, &policies, &caller, (&mode, &bytes), ttl_ms).await
    });
    match reserved.await? {
        Reserved::Refused(admission) => Ok(events::respond(&tenant, &admission)),
        Reserved::Held { token, expires_ms, held, standings } => {
            let location = HeaderValue::try_from(format!("/v1/usage/reservations/{token}"));
            let expires_at = Timestamp::from_millisecond(expires_ms).unwrap_or(Timestamp::MAX).to_string();
            let held = held.into_iter().map(|(limit, units)| Held { limit, units }).collect();
            let mut response = json(StatusCode::CREATED, &Created { id: token, expires_at, held });
            if let Ok(location) = location {
                response.headers_mut().insert(header::LOCATION, location);
            }
            headers::apply(response.headers_mut(), &standings, None);
            Ok(response)
        }
    }
}

/// Reads `ttlSeconds`; nothing else may be asked.
fn ttl_s(query: &str) -> Result<u32, Problem> {
    let mut ttl_s = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != TTL {
            return Err(
                Problem::bad_request(format!("there is no parameter {name:?}: only {TTL}")).field(name)
            );
        }
        let value: Option<u32> = value.parse().ok().filter(|ttl_s| (1..=MAX_TTL_S).contains(ttl_s));
        let Some(value) = value.filter(|_| ttl_s.is_none()) else {
            let detail = format!("must be given once, as a whole number between 1 and {MAX_TTL_S}");
            return Err(Problem::bad_request(detail).field(TTL));
        };
        ttl_s = Some(value);
    }
    Ok(ttl_s.unwrap_or(DEFAULT_TTL_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ttl_within_its_bounds_may_be_asked_for() {
        for (query, ttl) in [("", 900), ("ttlSeconds=1", 1), ("ttlSeconds=86400", 86_400), ("&", 900)] {
            assert_eq!(ttl_s(query).ok(), Some(ttl), "{query}");
        }
        let twice = "ttlSeconds=5&ttlSeconds=5";
        for query in [
            "ttlSeconds=0",
            "ttlSeconds=86401",
            "ttlSeconds=",
            "ttlSeconds",
            "ttlSeconds=-1",
            "ttlSeconds=1.5",
            twice,
        ] {
            assert_eq!(ttl_s(query).unwrap_err().field.as_deref(), Some("ttlSeconds"), "{query}");
        }
        assert_eq!(ttl_s("ttl=5").unwrap_err().field.as_deref(), Some("ttl"));
    }
}
