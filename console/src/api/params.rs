//! Query parameters: what the OpenAPI document declares is exactly what is accepted.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::problem::Problem;

/// The parameters of a route. An unknown one is refused, because a mistyped filter would widen the answer silently.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + IntoParams, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(&parts.uri).map(Self)
    }
}

/// Reads the parameters out of `uri`.
///
/// # Errors
/// 400 naming the parameter that is unknown, given twice or malformed.
pub fn parse<T: DeserializeOwned + IntoParams>(uri: &Uri) -> Result<T, Problem> {
    let malformed = |error: &dyn std::fmt::Display| Problem::bad_request("query", error.to_string());
    let Query(pairs) =
        Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| malformed(&error))?;
    let known: Vec<String> = T::into_params(|| None).into_iter().map(|parameter| parameter.name).collect();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if !known.contains(name) {
            let detail = format!("is not a parameter of this route; these are: {}", known.join(", "));
            return Err(Problem::bad_request(name.as_str(), detail));
        }
        if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(Problem::bad_request(name.as_str(), "is given twice"));
        }
        if value.is_empty() {
            return Err(Problem::bad_request(name.as_str(), "is empty: leave it out or give a value"));
        }
    }
    Query::try_from_uri(uri).map(|Query(params)| params).map_err(|error| malformed(&error))
}
