//! How much of each limit the stored events account for.

use clickhouse::query::{Millis, Query};
use clickhouse::{ClickHouseError, Client};
use event::UserKey;
use event::pseudonym::PseudonymKey;
use policy::limit::{Limit, Measure};
use policy::tenant::TenantPolicy;
use policy::window::Period;
use serde::Deserialize;

use super::{bounded, view};

/// The member of `data` that has a column of its own.
const VALUE_FIELD: &str = "value";

/// A limit whose use can be computed from stored events, and its current period.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// The limit: no expression, shared by the whole tenant.
    pub limit: &'a Limit,
    /// The period of receipt.
    pub period: Period,
}

#[derive(Debug, Deserialize)]
struct Row {
    used: Vec<String>,
}

/// The statement counts every limit in one pass; parameters carry the limit's place in their names.
fn sql(policy: &TenantPolicy, counted: &[Counted<'_>]) -> String {
    let used: Vec<String> = counted.iter().enumerate().map(|(i, counted)| used(i, counted)).collect();
    format!(
        "SELECT [{}] AS used FROM {} WHERE received >= {{since:DateTime64(3, 'UTC')}}",
        used.join(", "),
        view(policy)
    )
}

fn used(i: usize, counted: &Counted<'_>) -> String {
    let mut holds = vec![format!("received >= {{s{i}:DateTime64(3, 'UTC')}}")];
    if counted.period.end_ms != i64::MAX {
        holds.push(format!("received < {{e{i}:DateTime64(3, 'UTC')}}"));
    }
    let matches = &counted.limit.matches;
    if !matches.features.is_empty() {
        let prefix = format!("arrayExists(p -> startsWith(feature, p), {{p{i}:Array(String)}})");
        holds.push(format!("(has({{x{i}:Array(String)}}, feature) OR {prefix})"));
    }
    if !matches.users.is_empty() {
        holds.push(format!("has({{u{i}:Array(UInt128)}}, user_key)"));
    }
    let holds = holds.join(" AND ");
    match &counted.limit.measure {
        Measure::Count => format!("toString(countIf({holds}))"),
        Measure::Sum { field } => {
            let units = if field == VALUE_FIELD {
                "value".to_owned()
            } else {
                // Text and truth values become zero, as does a member that is missing.
                format!("toDecimal128OrZero(JSONExtractRaw(data, {{f{i}:String}}), 6)")
            };
            // `if` reads the JSON of matching events only. Units are whole and not negative; others were never charged.
            let charged = format!("if({holds}, {units}, toDecimal128(0, 6))");
            format!("toString(sumIf({charged}, {charged} > 0 AND {charged} = trunc({charged})))")
        }
    }
}

/// `None` when a limit names users and their pseudonyms cannot be had.
fn query(policy: &TenantPolicy, counted: &[Counted<'_>], key: Option<&PseudonymKey>) -> Option<Query> {
    let since = counted.iter().map(|counted| counted.period.start_ms).min()?;
    let mut query = bounded(sql(policy, counted)).bind("since", Millis(since));
    for (i, Counted { limit, period }) in counted.iter().enumerate() {
        query = query.bind(&format!("s{i}"), Millis(period.start_ms));
        if period.end_ms != i64::MAX {
            query = query.bind(&format!("e{i}"), Millis(period.end_ms));
        }
        if !limit.matches.features.is_empty() {
            let (prefixes, exact): (Vec<&String>, Vec<&String>) =
                limit.matches.features.iter().partition(|pattern| pattern.ends_with('*'));
            let prefixes: Vec<&str> = prefixes.iter().map(|pattern| pattern.trim_end_matches('*')).collect();
            query = query.bind(&format!("x{i}"), exact).bind(&format!("p{i}"), prefixes);
        }
        if !limit.matches.users.is_empty() {
            let key = key?;
            let users: Vec<UserKey> = limit.matches.users.iter().map(|user| key.user(Some(user))).collect();
            query = query.bind(&format!("u{i}"), users);
        }
        if let Measure::Sum { field } = &limit.measure {
            query = query.bind(&format!("f{i}"), field.as_str());
        }
    }
    Some(query)
}

/// Units used of each limit, in the order given.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn fetch(
    client: &Client,
    policy: &TenantPolicy,
    counted: &[Counted<'_>],
    key: Option<&PseudonymKey>,
) -> Result<Vec<u64>, ClickHouseError> {
    let Some(query) = query(policy, counted, key) else { return Ok(Vec::new()) };
    let row: Option<Row> = query.fetch_optional(client).await?;
    let unreadable = || ClickHouseError::Decode("no row of used units".to_owned());
    let used = row.filter(|row| row.used.len() == counted.len()).ok_or_else(unreadable)?.used;
    used.iter().map(|units| units.parse().map_err(|_| unreadable())).collect()
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
