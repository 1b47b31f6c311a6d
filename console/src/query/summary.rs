//! Totals of a range.

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client};
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::{bounded, view};
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

fn sql(policy: &TenantPolicy) -> String {
    // Weighted: memory follows the number of distinct latencies, not of events.
    format!(
        "SELECT count() AS events, uniqExactIf(user_key, user != '') AS active_users, uniqExact(feature) AS features, \
         toString(sum(value)) AS total, countIf(isNotNull(latency_ms)) AS measured, \
         arrayMap(x -> ifNull(x, 0), quantilesExactWeightedIf(0.5, 0.95, 0.99)(latency_ms, 1, isNotNull(latency_ms))) AS latencies \
         FROM {} WHERE time >= {{from:DateTime64(3, 'UTC')}} AND time < {{to:DateTime64(3, 'UTC')}}",
        view(policy)
    )
}

/// Reads the totals.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(client: &Client, policy: &TenantPolicy, range: Range) -> Result<Row, ClickHouseError> {
    let query = bounded(sql(policy)).bind("from", Millis(range.from_ms)).bind("to", Millis(range.to_ms));
    let row = query.fetch_optional(client).await?;
    row.ok_or_else(|| ClickHouseError::Decode("no row of totals".to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        crate::query::tests::assert_scoped(&policy, &super::sql(&policy));
    }
}
