//! Totals of a range.

use clickhouse::{ClickHouseError, Client};
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::cover::{Cover, Grain};
use super::source::{self, ACTIVE_USERS, Key};
use super::{bounded, directory};
use crate::api::range::Range;

/// The one row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// Stored events.
    pub events: u64,
    /// Distinct users, exactly; events without a user are not counted.
    pub active_users: u64,
    /// Distinct features, exactly.
    pub features: u64,
    /// Sum of values, exact decimal.
    pub total: String,
    /// Events that carry a latency.
    pub measured: u64,
    /// Exact 50th, 95th and 99th percentile of `latencyMs`; zero when nothing is measured.
    pub latencies: [u32; 3],
}

fn sql(policy: &TenantPolicy, cover: &Cover) -> String {
    // Weighted: memory follows the number of distinct latencies, not of events.
    format!(
        "SELECT sum(n) AS events, {ACTIVE_USERS} AS active_users, uniqExactMerge(seen) AS features, \
         toString(sum(s.total)) AS total, sum(s.measured) AS measured, \
         quantilesExactWeightedMerge(0.5, 0.95, 0.99)(s.latencies) AS latencies FROM {} AS s",
        source::sql(policy, Key::Nothing, cover)
    )
}

/// Reads the totals.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    sealed_ms: i64,
) -> Result<Row, ClickHouseError> {
    let query = |cover: &Cover| source::bind(bounded(sql(policy, cover)), cover);
    let rows = directory::read(client, policy, range, Some(Grain::Days), sealed_ms, query).await?;
    rows.into_iter().next().ok_or_else(|| ClickHouseError::Decode("no row of totals".to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        for cover in crate::query::cover::tests::covers() {
            crate::query::tests::assert_scoped(&policy, &super::sql(&policy, &cover));
        }
    }
}
