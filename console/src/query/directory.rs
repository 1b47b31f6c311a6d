//! Which days of a tenant are rolled up, and reading by it.

use clickhouse::query::Query;
use clickhouse::{ClickHouseError, Client};
use event::names::{PLACES_VIEW, ROLLUPS_VIEW};
use policy::tenant::TenantPolicy;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::cover::{Build, Cover, Directory, Grain};
use super::{bounded, named};
use crate::api::range::{DAY_MS, Range};

/// How often a question is put again because a build was replaced while it was answered.
const TRIES: usize = 3;
/// Days for which rows are looked for beyond those in which they may arrive.
const SLACK_DAYS: i64 = 2;

/// A day of a place; or a place, without a number.
#[derive(Debug, Deserialize)]
struct Row {
    place_name: String,
    day_number: i64,
    number: u64,
    last: u64,
}

/// The rows of what `query` asks of a cover of `range` whose builds are all there: the server drops a build some time after it was
/// replaced, so they are looked at again after the answer.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn read<T: DeserializeOwned>(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    grain: Option<Grain>,
    sealed_ms: i64,
    query: impl Fn(&Cover) -> Query,
) -> Result<Vec<T>, ClickHouseError> {
    let Some(grain) = grain else { return query(&Cover::rows(range)).fetch(client).await };
    let mut directory = fetch(client, policy, range).await?;
    for _ in 0..TRIES {
        let cover = Cover::of(range, grain, &directory, sealed_ms);
        let answer = query(&cover).fetch(client).await?;
        if cover.builds.is_empty() {
            return Ok(answer);
        }
        let now = fetch(client, policy, range).await?;
        if now == directory {
            return Ok(answer);
        }
        directory = now;
    }
    query(&Cover::rows(range)).fetch(client).await
}

/// Days that ended before this moment get no rows any more, when an event may come `late_days` after the end of its day.
pub fn sealed_ms(now_ms: i64, late_days: u32) -> i64 {
    now_ms - (i64::from(late_days) + SLACK_DAYS) * DAY_MS
}

async fn fetch(client: &Client, policy: &TenantPolicy, range: Range) -> Result<Directory, ClickHouseError> {
    let rows: Vec<Row> = match builds(policy, range).fetch(client).await {
        // The tenant's views are older than rollups: the operator replaces them.
        Err(error) if error.is_missing() => return Ok(Directory::default()),
        rows => rows?,
    };
    let mut directory = Directory::default();
    for row in rows {
        if row.number == 0 {
            directory.places.insert(row.place_name);
        } else {
            let build = Build { number: row.number, upto: row.last };
            directory.builds.insert((row.day_number * DAY_MS, row.place_name), build);
        }
    }
    Ok(directory)
}

fn builds(policy: &TenantPolicy, range: Range) -> Query {
    let day = |ms: i64| ms.div_euclid(DAY_MS);
    bounded(sql(policy)).bind("first", day(range.from_ms)).bind("last", day(range.to_ms))
}

fn sql(policy: &TenantPolicy) -> String {
    format!(
        "SELECT place AS place_name, toInt64(toUInt16(day)) AS day_number, max(build) AS number, argMax(upto, build) AS last \
         FROM {} WHERE hours = 24 AND every = 1 \
         AND toInt64(toUInt16(day)) BETWEEN {{first:Int64}} AND {{last:Int64}} GROUP BY place, day \
         UNION ALL SELECT place, toInt64(0), toUInt64(0), toUInt64(0) FROM {}",
        named(policy, ROLLUPS_VIEW),
        named(policy, PLACES_VIEW)
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_is_scoped() {
        let policy = crate::fixtures::policy("acme", vec![]);
        crate::query::tests::assert_scoped(&policy, &super::sql(&policy));
    }
}
