//! Totals a feature, largest first, together with the totals over all of them.

use clickhouse::{ClickHouseError, Client, Query};
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::cover::{Cover, Grain};
use super::source::{self, ACTIVE_USERS, Key};
use super::{bounded, directory};
use crate::api::range::Range;

/// A feature, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// 1: the row is about all features together.
    all: u8,
    /// The feature.
    pub feature: String,
    /// Stored events.
    pub events: u64,
    /// Distinct users, exactly; events without a user are not counted.
    pub active_users: u64,
    /// Distinct features, exactly: one, or all.
    pub features: u64,
    /// Sum of values, exact decimal.
    pub total: String,
}

/// The last feature of the page before.
#[derive(Debug, Clone, Copy)]
pub struct After<'a> {
    /// Its events.
    pub events: u64,
    /// Its name.
    pub feature: &'a str,
}

/// One page and the totals, read in one statement, so that they agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Over all features, whatever the page.
    pub all: Row,
    /// The page, by events from the largest, then by name.
    pub features: Vec<Row>,
    /// Whether features follow.
    pub has_more: bool,
}

fn sql(policy: &TenantPolicy, cover: &Cover) -> String {
    format!(
        "SELECT grouping(feature) AS all, feature, sum(n) AS events, \
         {ACTIVE_USERS} AS active_users, uniqExact(feature) AS features, toString(sum(s.total)) AS total \
         FROM {} AS s GROUP BY GROUPING SETS ((feature), ()) \
         HAVING all = 1 OR {{first:Bool}} OR events < {{after_events:UInt64}} \
         OR (events = {{after_events:UInt64}} AND feature > {{after_feature:String}}) \
         ORDER BY all DESC, events DESC, feature ASC LIMIT {{rows:UInt64}}",
        source::sql(policy, Key::Feature, cover)
    )
}

fn query(policy: &TenantPolicy, cover: &Cover, after: Option<After<'_>>, limit: usize) -> Query {
    // The totals, the page, and one more to know whether anything follows.
    let rows = limit as u64 + 2;
    source::bind(bounded(sql(policy, cover)), cover)
        .bind("first", after.is_none())
        .bind("after_events", after.map_or(0, |after| after.events))
        .bind("after_feature", after.map_or("", |after| after.feature))
        .bind("rows", rows)
}

/// Reads a page of at most `limit` features.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    sealed_ms: i64,
    after: Option<After<'_>>,
    limit: usize,
) -> Result<Page, ClickHouseError> {
    let query = |cover: &Cover| query(policy, cover, after, limit);
    let rows: Vec<Row> = directory::read(client, policy, range, Some(Grain::Days), sealed_ms, query).await?;
    let (all, mut features): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.all == 1);
    let all = all.into_iter().next().ok_or_else(|| ClickHouseError::Decode("no row of totals".to_owned()))?;
    let has_more = features.len() > limit;
    features.truncate(limit);
    Ok(Page { all, features, has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_scoped_and_a_cursor_is_only_bound() {
        let policy = crate::fixtures::policy("acme", vec![]);
        for cover in crate::query::cover::tests::covers() {
            let sql = sql(&policy, &cover);
            crate::query::tests::assert_scoped(&policy, &sql);
            let after = After { events: 1, feature: crate::query::tests::HOSTILE };
            let query = query(&policy, &cover, Some(after), 10);
            assert!(
                format!("{query:?}").contains(&format!("{sql:?}")),
                "what is bound does not change the statement"
            );
        }
    }
}
