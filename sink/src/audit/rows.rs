//! Counts rows.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::schema::Table;
use clickhouse::{ClickHouseError, Client, Query};
use event::audit::Counts;
use event::{Lane, TenantNumber};
use serde::Deserialize;

/// Longest time that one count may take.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Row {
    // As text: JSON's numbers end at 2^53 for some readers.
    number: String,
    reason: String,
    events: u64,
    rows: u64,
}

/// When the server was started, Unix milliseconds, to a second or so.
pub async fn server_started_ms(client: &Client) -> Result<i64, ClickHouseError> {
    #[derive(Deserialize)]
    struct Started {
        started_ms: i64,
    }
    let sql = "SELECT toUnixTimestamp64Milli(now64(3)) - toInt64(uptime()) * 1000 AS started_ms";
    let query = Query::new(sql.to_owned()).read_only().max_execution_time(LIMIT);
    let row: Option<Started> = query.fetch_optional(client).await?;
    row.map(|row| row.started_ms).ok_or_else(|| ClickHouseError::Decode("no row".to_owned()))
}

/// Rows that messages `lo..=hi` of a lane became, by tenant.
pub async fn count(
    client: &Client,
    lane: &Lane,
    epoch: i64,
    lo: u64,
    hi: u64,
) -> Result<BTreeMap<TenantNumber, Counts>, ClickHouseError> {
    let of = |table: Table, reason: &str| {
        format!(
            "SELECT toString(tenant) AS number, {reason} AS reason, uniqExact(seq, idx) AS events, count() AS rows FROM {}.{} \
             WHERE lane = {{lane:String}} AND epoch = {{epoch:Int64}} \
             AND seq BETWEEN {{lo:UInt64}} AND {{hi:UInt64}} GROUP BY tenant, reason",
            lane.database(),
            table.name()
        )
    };
    let sql =
        format!("{} UNION ALL {}", of(Table::Raw, "'stored'"), of(Table::Removed, "CAST(reason, 'String')"));
    let range = |sql: String| {
        let query = Query::new(sql).read_only().max_execution_time(LIMIT);
        query.bind("lane", lane.to_string()).bind("epoch", epoch).bind("lo", lo).bind("hi", hi)
    };
    let rows: Vec<Row> = range(sql).fetch(client).await?;
    let mut counts: BTreeMap<TenantNumber, Counts> = BTreeMap::new();
    for row in rows {
        let tenant = counts.entry(TenantNumber(row.number.parse().unwrap_or_default())).or_default();
        tenant.doubled += row.rows - row.events;
        match row.reason.as_str() {
            "stored" => tenant.stored += row.events,
            "duplicate" => tenant.duplicates += row.events,
            _ => tenant.dead += row.events,
        }
    }
    if counts.values().any(|counts| counts.dead > 0) {
        let still: Vec<Row> = range(still_dead(lane)).fetch(client).await?;
        counts.values_mut().for_each(|counts| counts.dead = 0);
        for row in still {
            let tenant = TenantNumber(row.number.parse().unwrap_or_default());
            counts.entry(tenant).or_default().dead = row.events;
        }
    }
    Ok(counts)
}

/// Dead events that nobody could read since: they keep their places when somebody can.
fn still_dead(lane: &Lane) -> String {
    const RANGE: &str =
        "lane = {lane:String} AND epoch = {epoch:Int64} AND seq BETWEEN {lo:UInt64} AND {hi:UInt64}";
    let (database, raw, removed) = (lane.database(), Table::Raw.name(), Table::Removed.name());
    format!(
        "SELECT toString(tenant) AS number, 'dead' AS reason, uniqExact(seq, idx) AS events, count() AS rows \
         FROM {database}.{removed} WHERE {RANGE} AND reason = 'dead' AND (seq, idx) NOT IN \
         (SELECT seq, idx FROM {database}.{raw} WHERE {RANGE} UNION ALL \
         SELECT seq, idx FROM {database}.{removed} WHERE {RANGE} AND reason = 'duplicate') GROUP BY tenant"
    )
}
