//! Totals a bucket of time.

use clickhouse::{ClickHouseError, Client, Query};
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::cover::{Cover, Grain};
use super::source::{self, ACTIVE_USERS, Key};
use super::{bounded, directory};
use crate::api::range::Range;

/// A bucket that holds events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// The bucket's start, as it was given.
    pub start: i64,
    /// Stored events.
    pub events: u64,
    /// Distinct users, exactly; events without a user are not counted.
    pub active_users: u64,
    /// Sum of values, exact decimal.
    pub total: String,
}

fn sql(policy: &TenantPolicy, of_feature: bool, cover: &Cover) -> String {
    // The starts come from the same calendar as quota periods, so buckets and periods agree in every zone.
    format!(
        "SELECT bucket AS start, sum(n) AS events, {ACTIVE_USERS} AS active_users, toString(sum(s.total)) AS total \
         FROM {} AS s GROUP BY bucket ORDER BY bucket",
        source::sql(policy, Key::Start(of_feature), cover)
    )
}

fn query(policy: &TenantPolicy, cover: &Cover, starts: &[i64], feature: Option<&str>) -> Query {
    let query = source::bind(bounded(sql(policy, feature.is_some(), cover)), cover).bind("starts", starts);
    feature.into_iter().fold(query, |query, feature| query.bind("feature", feature))
}

/// Reads the buckets that hold events, in order. `starts` rises and begins at or before the range.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    sealed_ms: i64,
    starts: &[i64],
    feature: Option<&str>,
) -> Result<Vec<Row>, ClickHouseError> {
    let feature = feature.filter(|feature| !feature.is_empty());
    let query = |cover: &Cover| query(policy, cover, starts, feature);
    directory::read(client, policy, range, Grain::of(starts), sealed_ms, query).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        for (cover, of_feature) in crate::query::cover::tests::covers().into_iter().zip([false, true, true]) {
            crate::query::tests::assert_scoped(&policy, &super::sql(&policy, of_feature, &cover));
        }
    }
}
