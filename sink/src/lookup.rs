//! What a sink asks ClickHouse.

use std::collections::HashSet;
use std::time::Duration;

use clickhouse::query::Millis;
use clickhouse::schema::Table;
use clickhouse::{ClickHouseError, Client, Day, Query};
use event::{EventHash, Lane, PackId, TenantNumber};
use serde::Deserialize;

use crate::batch::Id;
use crate::charges::Doubtful;
use crate::intent::Record;
use crate::port::Positions;

/// Ids of one query: at 42 bytes each they stay below the server's `max_query_size` of 256 KiB.
const IDS: usize = 4_000;
/// Packs of one query, each with two such numbers.
const PACKS: usize = 2_000;
/// Dead letters that are looked at when a lane is taken.
const LETTERS: u64 = 1_000;
const LIMIT: Duration = Duration::from_secs(30);

/// Whether the lane has rows of this epoch.
pub async fn has_rows(client: &Client, lane: &Lane, epoch: i64) -> Result<bool, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        found: u8,
    }
    let table = table(lane, Table::Raw);
    let sql = format!(
        "SELECT 1 AS found FROM {table} WHERE lane = {{lane:String}} AND epoch = {{epoch:Int64}} LIMIT 1"
    );
    let row: Option<Row> =
        read(sql).bind("lane", lane.to_string()).bind("epoch", epoch).fetch_optional(client).await?;
    Ok(row.is_some_and(|row| row.found == 1))
}

/// Which of `ids` are stored with an event time from `since_ms` on.
pub async fn known(
    client: &Client,
    lane: &Lane,
    ids: &[Id],
    since_ms: i64,
) -> Result<HashSet<Id>, ClickHouseError> {
    let mut found = HashSet::new();
    let table = table(lane, Table::Raw);
    for chunk in ids.chunks(IDS) {
        let list = |numbers: HashSet<String>| numbers.into_iter().collect::<Vec<_>>().join(",");
        let tenants = list(chunk.iter().map(|id| id.tenant.to_string()).collect());
        // Quoted: a bare literal beyond 64 bits would be a Float64, and match nothing.
        let hashes = list(chunk.iter().map(|id| format!("'{}'", id.hash.0)).collect());
        // Digits only, so they may stand in the statement; as parameters they would be longer.
        let sql = format!(
            "SELECT DISTINCT tenant, event_hash FROM {table} WHERE time >= {{since:DateTime64(3, 'UTC')}} \
             AND tenant IN ({tenants}) AND event_hash IN ({hashes})"
        );
        let bytes = read(sql).bind("since", Millis(since_ms)).fetch_bytes("RowBinary", client).await?;
        found.extend(bytes.chunks_exact(24).map(id));
    }
    // The two lists are crossed: an id counts only as a pair.
    let asked: HashSet<&Id> = ids.iter().collect();
    found.retain(|id| asked.contains(id));
    Ok(found)
}

/// Which of `packs` are in the tables: their first events were stored, or removed. The sink asks before it inserts them, so what
/// is there is of an earlier landing.
pub async fn landed(
    client: &Client,
    lane: &Lane,
    packs: &[Doubtful],
) -> Result<HashSet<PackId>, ClickHouseError> {
    let mut landed = HashSet::new();
    for chunk in packs.chunks(PACKS) {
        let list = |numbers: HashSet<String>| numbers.into_iter().collect::<Vec<_>>().join(",");
        let tenants = list(chunk.iter().map(|one| one.first.tenant.to_string()).collect());
        let packs = list(chunk.iter().map(|one| format!("'{}'", one.pack.0)).collect());
        let hashes = list(chunk.iter().map(|one| format!("'{}'", one.first.hash.0)).collect());
        let since_ms = chunk.iter().map(|one| one.day.start_ms()).min().unwrap_or(i64::MAX);
        let stored = format!(
            "SELECT pack FROM {} WHERE time >= {{since:DateTime64(3, 'UTC')}} AND tenant IN ({tenants}) \
             AND event_hash IN ({hashes}) AND pack IN ({packs})",
            table(lane, Table::Raw)
        );
        let received = |pick: Option<i64>| Millis(pick.unwrap_or(0));
        let removed = format!(
            "SELECT pack FROM {} WHERE tenant IN ({tenants}) AND pack IN ({packs}) \
             AND at BETWEEN {{from:DateTime64(3, 'UTC')}} AND {{to:DateTime64(3, 'UTC')}}",
            table(lane, Table::Removed)
        );
        let sql = format!("SELECT DISTINCT pack FROM ({stored} UNION ALL {removed})");
        let query = read(sql)
            .bind("since", Millis(since_ms))
            .bind("from", received(chunk.iter().map(|one| one.received_ms).min()))
            .bind("to", received(chunk.iter().map(|one| one.received_ms).max()));
        let bytes = query.fetch_bytes("RowBinary", client).await?;
        let pack = |row: &[u8]| row.first_chunk().map(|bytes| PackId(u128::from_le_bytes(*bytes)));
        landed.extend(bytes.chunks_exact(16).filter_map(pack));
    }
    Ok(landed)
}

/// Places of a record's range that are in the tables, and rows of its intent.
pub async fn positions(client: &Client, lane: &Lane, record: &Record) -> Result<Positions, ClickHouseError> {
    let Record { epoch, lo, hi, .. } = *record;
    let of = async |kind: Table, which: &str| {
        let sql = format!(
            "SELECT seq, idx FROM {} WHERE lane = {{lane:String}} AND epoch = {{epoch:Int64}} \
             AND seq BETWEEN {{lo:UInt64}} AND {{hi:UInt64}}{which}",
            table(lane, kind)
        );
        let query =
            read(sql).bind("lane", lane.to_string()).bind("epoch", epoch).bind("lo", lo).bind("hi", hi);
        let bytes = query.fetch_bytes("RowBinary", client).await?;
        Ok::<_, ClickHouseError>(bytes.chunks_exact(12).map(place).collect::<Vec<_>>())
    };
    // Most intents charge nothing that never starts anew: their lanes are not asked.
    let charges = if record.charges == 0 { 0 } else { charges(client, lane, record).await? };
    let (raw, removed) = (of(Table::Raw, "").await?, of(Table::Removed, " AND reason = 'duplicate'").await?);
    let dead = of(Table::Removed, " AND reason = 'dead'").await?;
    Ok(Positions { raw, removed, dead, charges })
}

/// Messages that were dead letters when they were met, the last ones first. Some may have been read since.
pub async fn dead_letters(client: &Client, lane: &Lane, epoch: i64) -> Result<Vec<u64>, ClickHouseError> {
    let sql = format!(
        "SELECT DISTINCT seq FROM {} WHERE lane = {{lane:String}} AND epoch = {{epoch:Int64}} \
         AND reason = 'dead' ORDER BY seq DESC LIMIT {LETTERS}",
        table(lane, Table::Removed)
    );
    let query = read(sql).bind("lane", lane.to_string()).bind("epoch", epoch);
    let bytes = query.fetch_bytes("RowBinary", client).await?;
    Ok(bytes.chunks_exact(8).filter_map(|row| row.try_into().ok().map(u64::from_le_bytes)).collect())
}

/// Rows of a record's intent in `charges`.
async fn charges(client: &Client, lane: &Lane, record: &Record) -> Result<u32, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        rows: u32,
    }
    let sql = format!(
        "SELECT toUInt32(count()) AS rows FROM {} WHERE lane = {{lane:String}} AND epoch = {{epoch:Int64}} \
         AND intent = {{intent:UInt64}}",
        table(lane, Table::Charges)
    );
    let query =
        read(sql).bind("lane", lane.to_string()).bind("epoch", record.epoch).bind("intent", record.intent);
    let row: Option<Row> = query.fetch_optional(client).await?;
    Ok(row.map_or(0, |row| row.rows))
}

/// Days from `since` to before `until` that hold rows, newest first, and how many.
pub async fn days(
    client: &Client,
    lane: &Lane,
    since: Day,
    until: Option<Day>,
) -> Result<Vec<(Day, u64)>, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        partition: u32,
        rows: u64,
    }
    let sql = format!(
        "SELECT toYYYYMMDD(time) AS partition, count() AS rows FROM {} \
         WHERE time >= {{since:DateTime64(3, 'UTC')}} AND time < {{until:DateTime64(3, 'UTC')}} \
         GROUP BY partition ORDER BY partition DESC",
        table(lane, Table::Raw)
    );
    let rows: Vec<Row> = between(read(sql), since, until).fetch(client).await?;
    let known = rows.into_iter().filter_map(|row| Some((Day::from_partition(row.partition)?, row.rows)));
    Ok(known.collect())
}

/// Rows of one tenant with an event day from `since` on.
pub async fn rows_of(
    client: &Client,
    lane: &Lane,
    tenant: TenantNumber,
    since: Day,
) -> Result<u64, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        rows: u64,
    }
    let sql = format!(
        "SELECT count() AS rows FROM {} WHERE time >= {{since:DateTime64(3, 'UTC')}} AND tenant = {tenant}",
        table(lane, Table::Raw)
    );
    let row: Option<Row> = read(sql).bind("since", Millis(since.start_ms())).fetch_optional(client).await?;
    Ok(row.map_or(0, |row| row.rows))
}

/// Ids that are stored with an event day from `since` to before `until`, of all tenants or of one.
pub async fn ids(
    client: &Client,
    lane: &Lane,
    tenant: Option<TenantNumber>,
    since: Day,
    until: Option<Day>,
) -> Result<Vec<(Day, Id)>, ClickHouseError> {
    let sql = format!(
        "SELECT tenant, event_hash, toUnixTimestamp64Milli(time) FROM {} \
         WHERE time >= {{since:DateTime64(3, 'UTC')}} AND time < {{until:DateTime64(3, 'UTC')}}{}",
        table(lane, Table::Raw),
        tenant.map_or_else(String::new, |tenant| format!(" AND tenant = {tenant}"))
    );
    let (mut ids, mut rest) = (Vec::new(), Vec::new());
    between(read(sql), since, until)
        .fetch_chunks("RowBinary", client, |chunk| {
            rest.extend_from_slice(chunk);
            let rows = rest.chunks_exact(32);
            ids.extend(rows.filter_map(|row| Some((Day::of(number(&row[24..]) as i64)?, id(row)))));
            rest.drain(..rest.len() / 32 * 32);
        })
        .await?;
    Ok(ids)
}

fn table(lane: &Lane, table: Table) -> String {
    format!("{}.{}", lane.database(), table.name())
}

fn read(sql: String) -> Query {
    Query::new(sql).read_only().max_execution_time(LIMIT)
}

fn between(query: Query, since: Day, until: Option<Day>) -> Query {
    // 2200: behind every event.
    let until = until.map_or(7_258_118_400_000, Day::start_ms);
    query.bind("since", Millis(since.start_ms())).bind("until", Millis(until))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn id(row: &[u8]) -> Id {
    let hash = row[8..].first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
    Id { tenant: TenantNumber(number(row)), hash: EventHash(hash) }
}

fn place(row: &[u8]) -> (u64, u32) {
    (number(row), row[8..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}
