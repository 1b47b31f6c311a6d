//! The sums that a question is answered from: rollups of a [`Cover`] and the rows that it adds, under the same names.
//!
//! | column | holds |
//! |---|---|
//! | what the question groups by | |
//! | `n`, `total`, `measured` | events, sum of their values, events with a latency |
//! | `seen`, `users`, `strangers`, `latencies` | states: features, numbers of users, pseudonyms of users without a number, latencies |

use clickhouse::Query;
use event::names::{EVENTS_VIEW, ROLLUPS_VIEW, USERS_VIEW};
use policy::tenant::TenantPolicy;

use super::cover::Cover;
use super::{named, pieces};
use crate::api::range::{DAY_MS, Range};

/// Distinct users of sums of this source, exactly: who has a number is in no row's `strangers`.
pub const ACTIVE_USERS: &str = "groupBitmapMerge(users) + uniqExactMerge(strangers)";

/// How a question looks at events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// All together.
    Nothing,
    /// By feature.
    Feature,
    /// By bucket; `true`: only those of the bound feature.
    Start(bool),
}

/// What stands behind `FROM`. The text follows from `policy` and the shape of `cover` alone; [`bind`] gives it its values.
pub fn sql(policy: &TenantPolicy, key: Key, cover: &Cover) -> String {
    let mut parts = Vec::new();
    if !cover.builds.is_empty() {
        parts.push(rollups(policy, key, cover));
    }
    if !cover.pieces.is_empty() || parts.is_empty() {
        parts.push(rows(policy, key, cover));
    }
    format!("({})", parts.join(" UNION ALL "))
}

/// Binds the values of `cover`; what `key` needs is bound by the question.
pub fn bind(query: Query, cover: &Cover) -> Query {
    let (days, numbers): (Vec<i64>, Vec<u64>) =
        cover.builds.iter().map(|(day, number)| (day / DAY_MS, *number)).unzip();
    let mut query = pieces::bind(query, &cover.pieces);
    if let Some(place) = &cover.place {
        query = query.bind("place", place.as_str());
    }
    if days.is_empty() {
        return query;
    }
    query = query.bind("days", days).bind("builds", numbers);
    for (name, ranges) in [("h", &cover.hours), ("d", &cover.days)] {
        for (i, range) in ranges.iter().enumerate() {
            query = query
                .bind(&format!("{name}{i}"), range.from_ms / 1_000)
                .bind(&format!("{name}e{i}"), range.to_ms / 1_000);
        }
    }
    query
}

fn rollups(policy: &TenantPolicy, key: Key, cover: &Cover) -> String {
    let (columns, which) = match key {
        Key::Nothing => ("", "every = 1"),
        Key::Feature => ("feature, ", "every = 0"),
        Key::Start(false) => (START_OF_ROLLUP, "every = 1"),
        Key::Start(true) => (START_OF_ROLLUP, "every = 0 AND feature = {feature:String}"),
    };
    let ranges = |name: &str, hours: u8, ranges: &[Range]| {
        let within = (0..ranges.len()).map(|i| {
            format!("(start >= {{{name}{i}:DateTime('UTC')}} AND start < {{{name}e{i}:DateTime('UTC')}})")
        });
        let within: Vec<String> = within.collect();
        (!within.is_empty()).then(|| format!("(hours = {hours} AND ({}))", within.join(" OR ")))
    };
    let times: Vec<String> =
        ranges("h", 1, &cover.hours).into_iter().chain(ranges("d", 24, &cover.days)).collect();
    format!(
        "SELECT {columns}events AS n, total, features AS seen, users, \
         defaultValueOfTypeName('AggregateFunction(uniqExact, UInt128)') AS strangers, measured, latencies \
         FROM {} WHERE place = {{place:String}} AND {which} AND ({}) \
         AND has(arrayZip({{days:Array(Int64)}}, {{builds:Array(UInt64)}}), (toInt64(toUInt16(day)), build))",
        named(policy, ROLLUPS_VIEW),
        times.join(" OR ")
    )
}

const START_OF_ROLLUP: &str =
    "roundDown(toInt64(toUnixTimestamp(start)) * 1000, {starts:Array(Int64)}) AS bucket, ";

fn rows(policy: &TenantPolicy, key: Key, cover: &Cover) -> String {
    let (column, group, which) = match key {
        Key::Nothing => ("", "", ""),
        Key::Feature => ("feature, ", " GROUP BY feature", ""),
        Key::Start(false) => (START_OF_ROW, " GROUP BY bucket", ""),
        Key::Start(true) => (START_OF_ROW, " GROUP BY bucket", " AND feature = {feature:String}"),
    };
    let piece = |(i, piece): (usize, &pieces::Piece)| {
        let condition = pieces::condition(i, piece);
        format!(
            "SELECT feature, time, value, latency_ms, user, user_key FROM {} WHERE {condition}{which}",
            named(policy, EVENTS_VIEW)
        )
    };
    let all: Vec<String> = cover.pieces.iter().enumerate().map(piece).collect();
    let all = format!("({})", all.join(" UNION ALL "));
    let numbered = match cover.builds.is_empty() {
        true => format!("(SELECT *, toUInt32(0) AS ordinal FROM {all})"),
        false => format!(
            "{all} AS e LEFT ANY JOIN (SELECT user_key, ordinal FROM {} WHERE place = {{place:String}}) AS u \
             USING (user_key)",
            named(policy, USERS_VIEW)
        ),
    };
    format!(
        "SELECT {column}count() AS n, sum(value) AS total, \
         uniqExactState(toString(feature)) AS seen, \
         groupBitmapStateIf(ordinal, user != '' AND ordinal > 0) AS users, \
         uniqExactStateIf(user_key, user != '' AND ordinal = 0) AS strangers, \
         countIf(isNotNull(latency_ms)) AS measured, \
         quantilesExactWeightedStateIf(0.5, 0.95, 0.99)(assumeNotNull(latency_ms), toUInt8(1), isNotNull(latency_ms)) \
         AS latencies FROM {numbered}{group}"
    )
}

const START_OF_ROW: &str = "roundDown(toUnixTimestamp64Milli(time), {starts:Array(Int64)}) AS bucket, ";
