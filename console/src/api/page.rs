//! Pages of a list.

use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Where a list goes on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// Whether more follows.
    has_more: bool,
    /// Give it as `cursor` to read on; null at the end. Events that are stored meanwhile may move an entry past it.
    next_cursor: Option<String>,
}

impl PageInfo {
    /// What follows a page.
    pub fn new(has_more: bool, next_cursor: Option<String>) -> Self {
        Self { has_more, next_cursor }
    }
}

/// Most entries of a page: 1 to 1,000, normally 100.
///
/// # Errors
/// 400 naming `limit`.
pub fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit
        .ok_or_else(|| Problem::bad_request("limit", format!("must be a whole number from 1 to {MAX_LIMIT}")))
}
