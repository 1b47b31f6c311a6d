//! Totals a bucket of time.

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client, Query};
use policy::tenant::TenantPolicy;
use serde::Deserialize;

use super::{bounded, view};
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

fn sql(policy: &TenantPolicy) -> String {
    // The starts come from the same calendar as quota periods, so buckets and periods agree in every zone.
    format!(
        "SELECT roundDown(toUnixTimestamp64Milli(time), {{starts:Array(Int64)}}) AS start, count() AS events, \
         uniqExactIf(user_key, user != '') AS active_users, toString(sum(value)) AS total \
         FROM {} WHERE time >= {{from:DateTime64(3, 'UTC')}} AND time < {{to:DateTime64(3, 'UTC')}} \
         AND ({{feature:String}} = '' OR feature = {{feature:String}}) GROUP BY start ORDER BY start",
        view(policy)
    )
}

fn query(policy: &TenantPolicy, range: Range, starts: &[i64], feature: Option<&str>) -> Query {
    bounded(sql(policy))
        .bind("from", Millis(range.from_ms))
        .bind("to", Millis(range.to_ms))
        .bind("starts", starts)
        .bind("feature", feature.unwrap_or_default())
}

/// Reads the buckets that hold events, in order. `starts` rises and begins at or before the range.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    starts: &[i64],
    feature: Option<&str>,
) -> Result<Vec<Row>, ClickHouseError> {
    query(policy, range, starts, feature).fetch(client).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        crate::query::tests::assert_scoped(&policy, &super::sql(&policy));
    }
}
