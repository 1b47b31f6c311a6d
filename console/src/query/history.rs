//! Stored events in the order of their receipt, a slice of time after the other.

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client, Query};
use policy::limit::{Limit, Measure};
use policy::stored::Row;
use policy::tenant::TenantPolicy;

use super::{bounded, view};
use crate::api::range::{HOUR_MS, Range};

/// Rows are sorted by the server: what it may hold in memory for that before it uses its disk, bytes.
const SORT_BYTES: &str = "200000000";

/// Whether more than features and users are looked at.
fn looks_inside(limit: &Limit) -> bool {
    limit.matches.expression.is_some() || limit.measure != Measure::Count
}

/// How much time one statement reads: its rows are sorted in memory.
pub fn slice_ms(limit: &Limit) -> i64 {
    if looks_inside(limit) { HOUR_MS } else { 6 * HOUR_MS }
}

/// Features are compared here and by the decision, so that no row travels in vain. The time of an event lies around its
/// receipt: it tells which days' rows to read.
fn sql(policy: &TenantPolicy, limit: &Limit) -> String {
    let inside = if looks_inside(limit) {
        "source AS source_name, data AS body"
    } else {
        "'' AS source_name, '' AS body"
    };
    let features = if limit.matches.features.is_empty() {
        ""
    } else {
        " AND (has({exact:Array(String)}, feature) OR arrayExists(p -> startsWith(feature, p), {prefixes:Array(String)}))"
    };
    format!(
        "SELECT toUnixTimestamp64Milli(received) AS received_ms, toString(user_key) AS user_text, user AS user_name, \
         feature, id, {inside} FROM {} \
         WHERE received >= {{from:DateTime64(3, 'UTC')}} AND received < {{to:DateTime64(3, 'UTC')}} \
         AND time >= {{earliest:DateTime64(3, 'UTC')}} AND time <= {{latest:DateTime64(3, 'UTC')}}{features} \
         ORDER BY received, id",
        view(policy)
    )
}

fn query(policy: &TenantPolicy, limit: &Limit, slice: Range) -> Query {
    let window = policy.snapshot().event_window;
    let span = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let query = bounded(sql(policy, limit))
        .setting("max_bytes_before_external_sort", SORT_BYTES)
        .bind("from", Millis(slice.from_ms))
        .bind("to", Millis(slice.to_ms))
        .bind("earliest", Millis(slice.from_ms.saturating_sub(span(window.past_ms))))
        .bind("latest", Millis(slice.to_ms.saturating_add(span(window.ahead_ms))));
    if limit.matches.features.is_empty() {
        return query;
    }
    let (prefixes, exact): (Vec<&String>, Vec<&String>) =
        limit.matches.features.iter().partition(|pattern| pattern.ends_with('*'));
    let prefixes: Vec<&str> = prefixes.iter().map(|pattern| pattern.trim_end_matches('*')).collect();
    query.bind("exact", exact).bind("prefixes", prefixes)
}

/// Hands every row of `slice` to `each`, in order; it stops listening when `each` fails.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn read(
    client: &Client,
    policy: &TenantPolicy,
    limit: &Limit,
    slice: Range,
    mut each: impl FnMut(&Row<'_>) -> Result<(), String>,
) -> Result<Result<(), String>, ClickHouseError> {
    let (mut line, mut outcome) = (Vec::new(), Ok(()));
    let query = query(policy, limit, slice).setting("output_format_json_quote_64bit_integers", "0");
    let chunk = |chunk: &[u8]| {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.last() == Some(&b'\n') {
                if outcome.is_ok() {
                    outcome = match serde_json::from_slice::<Row<'_>>(&line) {
                        Ok(row) => each(&row),
                        Err(error) => Err(format!("an unreadable row: {error}")),
                    };
                }
                line.clear();
            }
        }
    };
    query.fetch_chunks("JSONEachRow", client, chunk).await?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use policy::limit::Match;

    use super::*;
    use crate::query::tests::{HOSTILE, assert_scoped};

    #[test]
    fn the_statement_is_scoped_and_reads_data_only_for_who_looks_at_them() {
        let policy = crate::fixtures::policy("acme", vec![]);
        let matches = Match { features: vec![HOSTILE.into(), format!("{HOSTILE}*")], ..Match::default() };
        let plain = crate::fixtures::limit(matches.clone(), Measure::Count);
        let statement = sql(&policy, &plain);
        assert_scoped(&policy, &statement);
        assert!(!statement.contains("data AS body"), "{statement}");
        let bound = format!("{:?}", query(&policy, &plain, Range { from_ms: 0, to_ms: 1 }));
        assert!(bound.contains(&format!("{statement:?}")), "what is bound does not change the statement");
        let expression = Match { expression: Some("event.data.a == 1".into()), ..matches };
        let inside = crate::fixtures::limit(expression, Measure::Count);
        assert!(sql(&policy, &inside).contains("data AS body"));
        assert!(slice_ms(&inside) < slice_ms(&plain));
    }
}
