//! Sums of a lane by hour and by day, and the statements that build them from its rows.
//!
//! A *build* replaces the sums of one day (UTC) of a lane. It covers exactly the rows of that day whose intent is at most `upto`;
//! who adds the rows above it has counted everything, however old the build is. See docs/adr/0017-rollups.md.
//!
//! ```text
//! events_raw ──> users_raw     a number for each user that has none yet
//!     └────────> rollups_raw   hour | day  x  feature | all: events, value, and the set of its users' numbers
//! ```

use std::time::Duration;

use event::Lane;
use event::names::{RAW_TABLE, ROLLUPS_TABLE, USERS_TABLE};
use serde::Deserialize;

use crate::day::Day;
use crate::error::ClickHouseError;
use crate::insert::{InsertError, LaneInserter};
use crate::query::{Client, Millis, Query};
use crate::schema::{Column, column};

/// The build of a day that counts is the last one.
pub(crate) const ENGINE: &str = "ReplacingMergeTree(build)";
/// Hours and days, sums over all features, and those of a feature lie together in time.
pub(crate) const SORTING_KEY: &str = "tenant, hours, every, feature, start";

/// Columns of `rollups_raw`.
pub(crate) const COLUMNS: [Column; 14] = [
    column("tenant", "UInt64"),
    // The build: of which day, its number, and the last intent that it covers.
    column("day", "Date"),
    column("build", "UInt64"),
    column("upto", "UInt64"),
    // 1: the sums of an hour. 24: of the day.
    column("hours", "UInt8"),
    // 1: the sums of all features, and no feature is named. 0: of one.
    column("every", "UInt8"),
    column("feature", "LowCardinality(String)"),
    column("start", "DateTime('UTC')"),
    column("events", "UInt64"),
    column("total", "Decimal(38, 6)"),
    column("features", "AggregateFunction(uniqExact, String)"),
    column("users", "AggregateFunction(groupBitmap, UInt32)"),
    column("measured", "UInt64"),
    // Empty in the sums of a feature: nobody asks for its latencies.
    column("latencies", "AggregateFunction(quantilesExactWeighted(0.5, 0.95, 0.99), UInt32, UInt8)"),
];

/// Columns of view `rollups`.
pub(crate) const VIEW_COLUMNS: [&str; 13] = [
    "day",
    "build",
    "upto",
    "hours",
    "every",
    "feature",
    "start",
    "events",
    "total",
    "features",
    "users",
    "measured",
    "latencies",
];

/// Columns of `users_raw`: what stands for a user in the sets of a lane. A number is given once, from 1 on.
pub(crate) const USER_COLUMNS: [Column; 3] =
    [column("tenant", "UInt64"), column("user_key", "UInt128"), column("ordinal", "UInt32")];

/// Columns of view `users`.
pub(crate) const USERS_VIEW_COLUMNS: [&str; 2] = ["user_key", "ordinal"];

/// One part a statement, so that a build is there whole or not at all; and no token, because each build has a number of its own.
const SETTINGS: [(&str, &str); 5] = [
    ("max_insert_threads", "1"),
    ("min_insert_block_size_rows", "1000000000"),
    ("min_insert_block_size_bytes", "0"),
    ("insert_deduplicate", "0"),
    ("max_bytes_before_external_group_by", "500000000"),
];
/// Longest time that looking at a lane's days may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// A day of a lane, as far as its rollup is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayState {
    /// The day.
    pub day: Day,
    /// Rows whose intent is at most the one that was asked for.
    pub rows: u64,
    /// Those of them that the build does not cover.
    pub newer: u64,
    /// The build that counts, if there is one.
    pub build: Option<u64>,
}

/// What the next build of a day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// The day.
    pub day: Day,
    /// Its number, larger than that of any build of the lane.
    pub number: u64,
    /// The last intent that it covers. Every row of it and of the ones before is in the table, and none of them will ever go and
    /// come back.
    pub upto: u64,
}

/// Days of a lane from `since` on that hold rows or a build, in order; `upto` is what a build would cover now.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn days(
    client: &Client,
    lane: &Lane,
    since: Option<Day>,
    upto: u64,
) -> Result<Vec<DayState>, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        partition: u32,
        total: u64,
        newer: u64,
        build: u64,
    }
    let database = lane.database();
    // A tenant of a pool that had no events since is in older builds only: those of the others say how far the day is.
    let sql = format!(
        "SELECT toYYYYMMDD(r.day) AS partition, count() AS total, countIf(r.intent > b.covered) AS newer, \
         any(b.last) AS build FROM \
         (SELECT toDate(time) AS day, intent FROM {database}.{RAW_TABLE} \
         WHERE time >= {{since:DateTime64(3, 'UTC')}} AND intent <= {{upto:UInt64}}) AS r \
         LEFT ANY JOIN (SELECT day, max(build) AS last, argMax(upto, build) AS covered \
         FROM {database}.{ROLLUPS_TABLE} WHERE hours = 24 AND every = 1 GROUP BY day) AS b ON r.day = b.day \
         GROUP BY partition ORDER BY partition"
    );
    let since = since.map_or(0, Day::start_ms);
    let query = Query::new(sql).read_only().max_execution_time(LOOK_LIMIT);
    let rows: Vec<Row> = query.bind("since", Millis(since)).bind("upto", upto).fetch(client).await?;
    let state = |row: Row| {
        let day = Day::from_partition(row.partition)?;
        let build = Some(row.build).filter(|build| *build > 0);
        Some(DayState { day, rows: row.total, newer: row.newer, build })
    };
    Ok(rows.into_iter().filter_map(state).collect())
}

/// Builds a day: numbers for its new users, then its sums. Only who holds the lane may, and nobody else gives numbers meanwhile.
///
/// # Errors
/// See [`InsertError`]; after any of them the day is what it was, or built.
pub async fn build(
    inserter: &mut LaneInserter,
    lane: &Lane,
    build: Build,
    holds_lease: impl Fn() -> bool,
) -> Result<(), InsertError> {
    for sql in [number_users(lane, build), sum_up(lane, build)] {
        inserter.run(&sql, &SETTINGS, &holds_lease).await?;
    }
    Ok(())
}

/// Rows that a build covers. Numbers only, so they may stand in the statement.
fn covered(lane: &Lane, build: Build) -> String {
    let moment = |ms: i64| format!("fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')");
    format!(
        "{}.{RAW_TABLE} WHERE time >= {} AND time < {} AND intent <= {}",
        lane.database(),
        moment(build.day.start_ms()),
        moment(build.day.end_ms()),
        build.upto
    )
}

fn number_users(lane: &Lane, build: Build) -> String {
    let (users, covered) = (format!("{}.{USERS_TABLE}", lane.database()), covered(lane, build));
    format!(
        "INSERT INTO {users} (tenant, user_key, ordinal) \
         SELECT new.tenant, new.user_key, known.last + row_number() OVER (PARTITION BY new.tenant ORDER BY new.user_key) \
         FROM (SELECT DISTINCT tenant, user_key FROM {covered} AND user != '' \
         AND (tenant, user_key) NOT IN (SELECT tenant, user_key FROM {users})) AS new \
         LEFT JOIN (SELECT tenant, max(ordinal) AS last FROM {users} GROUP BY tenant) AS known \
         ON new.tenant = known.tenant"
    )
}

fn sum_up(lane: &Lane, build: Build) -> String {
    let (database, covered) = (lane.database(), covered(lane, build));
    let Build { day, number, upto } = build;
    let day = day.start_ms() / 1_000;
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let names = names.join(", ");
    format!(
        "INSERT INTO {database}.{ROLLUPS_TABLE} ({names}) SELECT {names} FROM (\
         SELECT e.tenant AS tenant, toDate(toDateTime({day}, 'UTC')) AS day, toUInt64({number}) AS build, \
         toUInt64({upto} + throwIf(countIf(user != '' AND ordinal = 0) > 0, 'a user has no number')) AS upto, \
         if(grouping(hour) = 0, 1, 24) AS hours, grouping(feature) AS every, feature, \
         if(hours = 1, hour, toDateTime({day}, 'UTC')) AS start, count() AS events, sum(value) AS total, \
         uniqExactState(toString(feature)) AS features, groupBitmapStateIf(ordinal, user != '') AS users, \
         countIf(isNotNull(latency_ms)) AS measured, \
         quantilesExactWeightedStateIf(0.5, 0.95, 0.99)(assumeNotNull(latency_ms), toUInt8(1), isNotNull(latency_ms)) \
         AS reported, if(every = 1, reported, defaultValueOfArgumentType(reported)) AS latencies \
         FROM (SELECT tenant, toStartOfHour(time, 'UTC') AS hour, feature, value, latency_ms, user, user_key FROM {covered}) AS e \
         LEFT ANY JOIN {database}.{USERS_TABLE} AS u ON e.tenant = u.tenant AND e.user_key = u.user_key \
         GROUP BY GROUPING SETS ((tenant, hour, feature), (tenant, hour), (tenant, feature), (tenant)))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_covers_one_day_up_to_one_intent() {
        let day = Day::from_partition(20261120).unwrap();
        let build = Build { day, number: 5, upto: 42 };
        for sql in [number_users(&Lane::Pooled(3), build), sum_up(&Lane::Pooled(3), build)] {
            let bounds = "time >= fromUnixTimestamp64Milli(toInt64(1795132800000), 'UTC') \
                AND time < fromUnixTimestamp64Milli(toInt64(1795219200000), 'UTC') AND intent <= 42";
            assert!(sql.contains(bounds), "{sql}");
            assert_eq!(sql.matches("events_raw").count(), 1, "{sql}");
        }
    }
}
