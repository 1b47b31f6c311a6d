//! Whether rollups say what the rows say: each is recounted from the rows that it covers, by statements that share nothing with those
//! that build it.

use event::Lane;
use event::names::{RAW_TABLE, ROLLUPS_TABLE, USERS_TABLE};

use crate::Result;

/// Answers a statement with lines of columns divided by tabulators.
pub trait Ask: Fn(&str) -> Result<Vec<String>> {}
impl<T: Fn(&str) -> Result<Vec<String>>> Ask for T {}

/// What a comparison of a lane's rollups with its rows found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Sums that were compared.
    pub sums: u64,
    /// Sums that the rows do not give, and sums that the rows give and no rollup has: the first of them, with their numbers.
    pub wrong: Vec<String>,
    /// Tenants some of whose users have two numbers, or one of two users.
    pub misnumbered: Vec<String>,
}

impl Found {
    /// Whether rollups and rows agree.
    pub fn agree(&self) -> bool {
        self.wrong.is_empty() && self.misnumbered.is_empty()
    }
}

/// How often a comparison is made anew because a day was built meanwhile.
const TRIES: usize = 20;

/// Compares every build that counts with the rows that it covers.
///
/// # Errors
/// The server's words.
pub fn compare(lane: &Lane, ask: impl Ask) -> Result<Found> {
    let list = format!("{} ORDER BY day", builds(&lane.database(), "1 = 1"));
    let mut found = Found::default();
    for _ in 0..TRIES {
        let before = ask(&list)?;
        found = once(lane, &ask)?;
        if found.agree() || ask(&list)? == before {
            break;
        }
    }
    Ok(found)
}

fn once(lane: &Lane, ask: &impl Ask) -> Result<Found> {
    let database = lane.database();
    let mut found = Found { misnumbered: ask(&misnumbered(&database))?, ..Found::default() };
    for tenant in ask(&format!("SELECT DISTINCT tenant FROM {database}.{ROLLUPS_TABLE}"))? {
        let sums = ask(&format!("SELECT count() FROM ({})", told(&database, &tenant)))?;
        found.sums += sums.first().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        found.wrong.extend(ask(&different(&database, &tenant))?);
    }
    Ok(found)
}

/// Rows that no build of their day covers, over the days of a lane.
///
/// # Errors
/// The server's words.
pub fn uncovered(lane: &Lane, ask: impl Ask) -> Result<u64> {
    let database = lane.database();
    let lines = ask(&format!(
        "SELECT count() FROM {database}.{RAW_TABLE} AS r LEFT ANY JOIN ({}) AS b ON toDate(r.time) = b.day \
         WHERE r.intent > b.covered OR b.last = 0",
        builds(&database, "1 = 1")
    ))?;
    Ok(lines.first().and_then(|count| count.parse().ok()).unwrap_or(u64::MAX))
}

/// The build that counts of each day.
fn builds(database: &str, of: &str) -> String {
    format!(
        "SELECT day, max(build) AS last, argMax(upto, build) AS covered FROM {database}.{ROLLUPS_TABLE} WHERE {of} GROUP BY day"
    )
}

fn misnumbered(database: &str) -> String {
    format!(
        "SELECT tenant FROM {database}.{USERS_TABLE} GROUP BY tenant \
         HAVING count() != uniqExact(ordinal) OR count() != uniqExact(user_key) OR min(ordinal) = 0"
    )
}

/// Every sum of the builds that count, with the pseudonyms of its users.
fn told(database: &str, tenant: &str) -> String {
    format!(
        "WITH (SELECT (groupArray(ordinal), groupArray(toString(user_key))) FROM {database}.{USERS_TABLE} WHERE tenant = {tenant}) AS known \
         SELECT 1 AS side, r.day AS day, hours, every, toString(feature) AS name, toUnixTimestamp(start) AS begins, events, \
         toString(total) AS value, finalizeAggregation(features) AS kinds, \
         arraySort(arrayMap(o -> transform(o, known.1, known.2, ''), bitmapToArray(users))) AS who, measured, \
         if(every = 1, finalizeAggregation(latencies), []) AS percentiles \
         FROM {database}.{ROLLUPS_TABLE} AS r INNER JOIN ({}) AS b ON r.day = b.day AND r.build = b.last \
         WHERE tenant = {tenant}",
        builds(database, &format!("tenant = {tenant}"))
    )
}

/// The same, counted.
fn counted(database: &str, tenant: &str) -> String {
    format!(
        "SELECT 2 AS side, day, hours, every, name, begins, count() AS events, toString(sum(value)) AS value, \
         uniqExact(feature) AS kinds, arraySort(groupUniqArrayIf(toString(user_key), user != '')) AS who, \
         countIf(latency_ms IS NOT NULL) AS measured, \
         if(every = 1, arrayMap(x -> toUInt32(ifNull(x, 0)), quantilesExactWeightedIf(0.5, 0.95, 0.99)(latency_ms, 1, latency_ms IS NOT NULL)), []) \
         AS percentiles FROM (\
         SELECT *, toDate(time) AS day, arrayJoin([1, 24]) AS hours, arrayJoin([0, 1]) AS every, \
         if(every = 1, '', toString(feature)) AS name, \
         intDiv(toUnixTimestamp64Milli(time), hours * 3600000) * hours * 3600 AS begins \
         FROM {database}.{RAW_TABLE} WHERE tenant = {tenant}) AS r \
         INNER JOIN ({}) AS b ON r.day = b.day WHERE r.intent <= b.covered GROUP BY day, hours, every, name, begins",
        builds(database, &format!("tenant = {tenant}"))
    )
}

/// Sums that are not there once on either side.
fn different(database: &str, tenant: &str) -> String {
    let columns = "day, hours, every, name, begins, events, value, kinds, length(who) AS users, measured, percentiles, \
                   cityHash64(who) AS users_hash";
    let narrow = |of: String| {
        format!(
            "SELECT toUInt8(side) AS side, day, toUInt8(hours) AS hours, toUInt8(every) AS every, name, toUInt64(begins) AS begins, \
             events, value, kinds, who, measured, toString(percentiles) AS percentiles FROM ({of})"
        )
    };
    format!(
        "SELECT {columns}, if(any(side) = 1, 'told', 'counted') AS by FROM ({} UNION ALL {}) \
         GROUP BY day, hours, every, name, begins, events, value, kinds, who, measured, percentiles \
         HAVING countIf(side = 1) != 1 OR countIf(side = 2) != 1 ORDER BY day, hours, every, name, begins LIMIT 10 FORMAT TSV",
        narrow(told(database, tenant)),
        narrow(counted(database, tenant))
    )
}
