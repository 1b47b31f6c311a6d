//! One user: by feature, by day, and when first and last seen.

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client, Query};
use event::UserKey;
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::{bounded, view};
use crate::api::range::Range;

/// Most features listed of a user, the most used ones.
pub const MAX_FEATURES: usize = 1_000;

/// A feature, a day, or all of it, of one user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// 0: the row is about a feature.
    not_feature: u8,
    /// 0: the row is about a day.
    not_day: u8,
    /// The feature.
    pub feature: String,
    /// The day's start, as it was given.
    pub start: i64,
    /// Stored events in the range.
    pub events: u64,
    /// Stored events ever.
    pub ever: u64,
    /// Sum of values in the range, exact decimal.
    pub total: String,
    /// Distinct features in the range.
    pub features: u64,
    /// First event time ever, Unix milliseconds.
    pub first_seen: i64,
    /// Last event time ever, Unix milliseconds.
    pub last_seen: i64,
}

/// What is stored of one user, read in one statement, so that its parts agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Over everything.
    pub all: Row,
    /// By feature, most used first; at most [`MAX_FEATURES`].
    pub features: Vec<Row>,
    /// Days with events, in order.
    pub days: Vec<Row>,
}

fn sql(policy: &TenantPolicy) -> String {
    format!(
        "SELECT grouping(feature) AS not_feature, grouping(start) AS not_day, feature, start, \
         countIf(in_range) AS events, count() AS ever, toString(sumIf(value, in_range)) AS total, \
         uniqExactIf(feature, in_range) AS features, \
         toUnixTimestamp64Milli(min(time)) AS first_seen, toUnixTimestamp64Milli(max(time)) AS last_seen \
         FROM (SELECT feature, time, value, \
         time >= {{from:DateTime64(3, 'UTC')}} AND time < {{to:DateTime64(3, 'UTC')}} AS in_range, \
         roundDown(toUnixTimestamp64Milli(time), {{starts:Array(Int64)}}) AS start \
         FROM {} WHERE user_key = {{user_key:UInt128}}) \
         GROUP BY GROUPING SETS ((feature), (start), ()) \
         HAVING events > 0 OR (not_feature = 1 AND not_day = 1) \
         ORDER BY not_feature DESC, not_day DESC, events DESC, feature ASC \
         LIMIT {{rows:UInt64}} BY not_feature, not_day",
        view(policy)
    )
}

fn query(policy: &TenantPolicy, user: UserKey, range: Range, starts: &[i64]) -> Query {
    bounded(sql(policy))
        .bind("user_key", user)
        .bind("from", Millis(range.from_ms))
        .bind("to", Millis(range.to_ms))
        .bind("starts", starts)
        .bind("rows", MAX_FEATURES.max(starts.len()) as u64)
}

/// Reads one user; `None` when nothing is stored of them. `starts` rises and begins at or before the range.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    user: UserKey,
    range: Range,
    starts: &[i64],
) -> Result<Option<User>, ClickHouseError> {
    let rows: Vec<Row> = query(policy, user, range, starts).fetch(client).await?;
    let (mut all, mut features, mut days) = (None, Vec::new(), Vec::new());
    for row in rows {
        match (row.not_feature, row.not_day) {
            (0, _) => features.push(row),
            (_, 0) => days.push(row),
            _ => all = Some(row),
        }
    }
    features.truncate(MAX_FEATURES);
    days.sort_unstable_by_key(|day| day.start);
    Ok(all.filter(|all| all.ever > 0).map(|all| User { all, features, days }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        crate::query::tests::assert_scoped(&policy, &super::sql(&policy));
    }
}
