//! Pages of a list.

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::cursor::Cursor;
use super::range::{DAY_MS, Range};
use crate::auth::Caller;
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

/// The page that a caller asks for.
#[derive(Debug)]
pub struct Page<A> {
    /// The range: the first page's, however long ago that was asked for.
    pub range: Range,
    /// The last entry of the page before.
    pub after: Option<A>,
    /// Most entries.
    pub limit: usize,
}

impl<A: Serialize + DeserializeOwned> Page<A> {
    /// Reads the parameters that every list has. Without a cursor, `from` and `to` say the range, normally the last day.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(
        caller: &Caller,
        cursor: Option<&str>,
        (from, to): (Option<&str>, Option<&str>),
        limit_text: Option<&str>,
    ) -> Result<Self, Problem> {
        let limit = limit(limit_text)?;
        if let Some(text) = cursor {
            let cursor = Cursor::decode(text, caller.policy.name())?;
            return Ok(Self { range: cursor.range(), after: Some(cursor.after), limit });
        }
        Ok(Self { range: Range::parse(from, to, caller.now_ms, DAY_MS)?, after: None, limit })
    }
}

/// Most entries of a page: 1 to 1,000, normally 100.
///
/// # Errors
/// 400 naming `limit`.
fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit
        .ok_or_else(|| Problem::bad_request("limit", format!("must be a whole number from 1 to {MAX_LIMIT}")))
}
