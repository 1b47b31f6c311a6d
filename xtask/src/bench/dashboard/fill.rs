//! The tenant and its rows, made by the server itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::routes::ZONE;
use super::{FEATURES, ROWS, USERS};
use crate::bench::clickhouse::ClickHouse;
use crate::http::Http;
use crate::platform::Platform;
use crate::{Cancel, Error, Result};

/// How long everything that was applied may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// One row in so many of the last week is newer than its build: a day is built again every hour, and one in a hundred of an hour's
/// events is late by up to a week.
const STRAGGLERS: u64 = 17_000;
/// A row of a day so long before all others: a sink sums up days from before its time when older ones are there still.
pub(super) const DAYS_BEFORE: u64 = 1;

/// Applies the tenant and returns its key.
pub(super) fn tenant(platform: &Platform, dir: &Path) -> Result<String> {
    let file = dir.join("board.yaml");
    let yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: board}}\n---\n\
         apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {{name: board}}\nspec: {{isolation: Dedicated}}\n---\n\
         apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: board}}\n\
         spec: {{planRef: {{name: board}}, namespaces: [board], timeZone: {ZONE}}}\n---\n\
         apiVersion: meterplane.io/v1alpha1\nkind: ApiKey\nmetadata: {{name: app, namespace: board}}\nspec: {{scopes: [ingest, read]}}\n"
    );
    fs::write(&file, yaml).map_err(Error::io(format!("cannot write {}", file.display())))?;
    let kubectl = platform.kubectl();
    kubectl.apply(&[file])?;
    kubectl.wait("condition=Ready", &["tenant/board"], READY_WITHIN)?;
    let namespace = "--namespace=board";
    kubectl.wait("condition=Ready", &["apikeys.meterplane.io", "--all", namespace], READY_WITHIN)?;
    let path = "--output=jsonpath={.data.MP_API_KEY}";
    let encoded = kubectl.run(&["get", "secret", "app-apikey", namespace, path])?;
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| Error::Format {
        what: "Secret board/app-apikey".into(),
        detail: "it holds no key".into(),
    })
}

/// Sends one event, so that the lane has an intent, and waits until it is stored.
pub(super) fn first_event(
    platform: &Platform,
    key: &str,
    clickhouse: &ClickHouse,
    cancel: &Cancel,
) -> Result<()> {
    let (http, url) =
        (Http::new(Duration::from_secs(10)), format!("{}/v1/usage/events", platform.url("ingest-1")?));
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    let body = r#"{"id":"first","type":"feature.0","subject":"u0"}"#;
    let stored = cancel.until(READY_WITHIN, Duration::from_millis(200), || {
        drop(http.send("POST", &url, &headers, body.into()));
        Ok((clickhouse.count("board", "events_raw")? > 0).then_some(()))
    })?;
    stored.ok_or_else(|| Error::Program { program: "the sink".into(), detail: "it stored nothing".into() })
}

/// Days that hold rows of a table.
pub(super) fn days_of(table: &str) -> String {
    let day = if table == "events_raw" { "toDate(time)" } else { "day" };
    format!("SELECT uniqExact({day}) FROM tenant_board.{table}")
}

/// Inserts the rows: over 30 days up to now, latencies with a long tail, a few features that are used much. Their intent is the
/// lane's first, so they are settled; but those of the last twelve minutes, and some of the last week, came later
/// than anything that is summed up.
pub(super) fn rows(clickhouse: &ClickHouse) -> Result<()> {
    let tenant = clickhouse.number(
        "SELECT extract(as_select, 'tenant = (\\\\d+)') FROM system.tables \
        WHERE database = 'tenant_board' AND name = 'events'",
    )?;
    let step_ms = 30 * 86_400_000 / ROWS;
    let columns = format!(
        "toUInt64({tenant}) AS tenant, \
         bitXor(bitShiftLeft(toUInt128(cityHash64(number)), 64), toUInt128(cityHash64(number, 9))) AS event_hash, \
         'bench' AS source, concat('e', toString(number)) AS id, \
         concat('feature.', toString(toUInt32(pow((cityHash64(number, 1) % 1000000) / 1000000, 2) * {FEATURES}))) AS feature, \
         cityHash64(number, 2) % {USERS} AS who, \
         bitXor(bitShiftLeft(toUInt128(cityHash64(who)), 64), toUInt128(cityHash64(who, 9))) AS user_key, \
         concat('u', toString(who)) AS user, time AS received, \
         toDecimal64((cityHash64(number, 3) % 1000) / 10, 6) AS value, \
         toUInt32(5 + pow((cityHash64(number, 4) % 10000) / 10000, 4) * 3000) AS latency_ms, \
         '{{\"value\":1}}' AS data, 'board' AS lane, 1 AS epoch, intDiv(number, 100) AS seq, number % 100 AS idx, \
         (age_ms < 720000 OR (age_ms < 604800000 AND cityHash64(number, 5) % {STRAGGLERS} = 0)) ? 1000000000 : 1 AS intent"
    );
    let insert = |time: &str, count: u64| {
        format!(
            "INSERT INTO tenant_board.events_raw (tenant, event_hash, source, id, feature, user_key, user, time, received, value, \
             latency_ms, data, lane, epoch, seq, idx, intent) \
             SELECT tenant, event_hash, source, id, feature, user_key, user, time, received, value, latency_ms, data, lane, epoch, \
             seq, idx, intent FROM (SELECT number, now64(3, 'UTC') AS end, {time} AS age_ms, \
             end - toIntervalMillisecond(age_ms) AS time, {columns} FROM numbers({count})) \
             SETTINGS max_partitions_per_insert_block = 0, max_memory_usage = 8000000000, max_execution_time = 50"
        )
    };
    clickhouse.query(&insert("toInt64(36) * 86400000", 1))?;
    clickhouse.query(&insert(&format!("toInt64(number * {step_ms})"), ROWS)).map(drop)
}
