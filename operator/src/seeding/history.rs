//! Stored events that a limit would have counted and was not charged for.

use std::time::Duration;

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client, Query};
use event::names::CHARGED_VIEW;
use event::{Lane, Position};
use policy::limit::{Limit, Measure};
use policy::simulate::Stored as Event;
use policy::snapshot::Snapshot;
use policy::stored::Row;
use policy::tally::{Tally, Used};
use policy::window::Window;
use serde::Deserialize;

use crate::errors::{Failure, System};

/// Rows of one statement: the server keeps an answer until it is complete.
const ROWS: u64 = 200_000;
/// How long a statement may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// By how much the clock of a pod and of this process may differ: around the end of a period, both periods are counted.
const CLOCKS_MS: i64 = 5_000;
/// Days around its receipt in which an event's time lies at most, whatever window a tenant had: it tells which rows to read.
const DAYS_AROUND: i64 = 31;
const DAY_MS: i64 = 86_400_000;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Policy of the tenant.
    pub snapshot: &'a Snapshot,
    /// The limit.
    pub limit: &'a Limit,
    /// The ends of the tenant's lanes: events behind them are charged.
    pub ends: &'a [(Lane, Position)],
}

/// A span of receipt, Unix milliseconds: `from_ms <= t < to_ms`.
#[derive(Debug, Clone, Copy)]
struct Span {
    from_ms: i64,
    to_ms: i64,
}

#[derive(Deserialize)]
struct Extent {
    rows: u64,
    first_ms: i64,
    last_ms: i64,
}

/// Units that the limit was not charged for, by record, in the periods around `now_ms`.
///
/// # Errors
/// When ClickHouse fails, or more subjects are concerned than can be counted.
pub async fn uncharged(client: &Client, stored: &Stored<'_>, now_ms: i64) -> Result<Vec<Used>, Failure> {
    let defect = |detail: String| Failure::Defect { system: System::ClickHouse, detail };
    let mut tally = tally(stored)?;
    let all = Span { from_ms: stored.begin_ms(&tally, now_ms), to_ms: now_ms + DAY_MS };
    let extent = stored.query(
        "count() AS rows, toUnixTimestamp64Milli(min(received)) AS first_ms, \
         toUnixTimestamp64Milli(max(received)) AS last_ms",
        all,
    );
    let Some(extent) = extent.fetch_optional::<Extent>(client).await?.filter(|extent| extent.rows > 0) else {
        return Ok(Vec::new());
    };
    let step_ms = step_ms(&extent);
    let mut from_ms = extent.first_ms;
    while from_ms <= extent.last_ms {
        let span = Span { from_ms, to_ms: (from_ms + step_ms).min(extent.last_ms + 1) };
        read(client, stored, span, &mut tally).await?.map_err(defect)?;
        from_ms = span.to_ms;
    }
    Ok(tally.finish())
}

/// Units that the limit was charged, by record, in the periods around `now_ms`.
///
/// # Errors
/// When ClickHouse fails.
pub async fn charged(client: &Client, stored: &Stored<'_>, now_ms: i64) -> Result<Vec<Used>, Failure> {
    #[derive(Deserialize)]
    struct Sum {
        key: String,
        units: u64,
    }
    let tally = tally(stored)?;
    let all = Span { from_ms: stored.begin_ms(&tally, now_ms), to_ms: now_ms + DAY_MS };
    let query = stored.bound(
        "SELECT key, sum(taken) AS units FROM (SELECT arrayJoin(charges) AS one, one.1 AS key, one.2 AS taken",
        ") WHERE match(key, {charge:String}) GROUP BY key",
        all,
    );
    let sums: Vec<Sum> = query.fetch(client).await?;
    Ok(sums.into_iter().filter_map(|sum| tally.charged(&sum.key, sum.units)).collect())
}

fn tally(stored: &Stored<'_>) -> Result<Tally, Failure> {
    let defect = |detail: String| Failure::Defect { system: System::ClickHouse, detail };
    Tally::new(stored.snapshot, stored.limit.clone()).map_err(|error| defect(error.to_string()))
}

/// So much time at once that it holds about [`ROWS`] rows.
fn step_ms(extent: &Extent) -> i64 {
    let parts = i64::try_from(extent.rows.div_ceil(ROWS)).unwrap_or(i64::MAX).max(1);
    ((extent.last_ms - extent.first_ms + 1) / parts).max(1)
}

fn take(snapshot: &Snapshot, tally: &mut Tally, line: &[u8]) -> Result<(), String> {
    let row: Row<'_> = serde_json::from_slice(line).map_err(|error| format!("an unreadable row: {error}"))?;
    let (event, user) = row.event(snapshot)?;
    let event = Event { event: &event, user, received_ms: row.received_ms };
    tally.take(event).map_err(|error| error.to_string())
}

async fn read(
    client: &Client,
    stored: &Stored<'_>,
    span: Span,
    tally: &mut Tally,
) -> Result<Result<(), String>, ClickHouseError> {
    let (mut line, mut outcome) = (Vec::new(), Ok(()));
    let chunk = |chunk: &[u8]| {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.last() == Some(&b'\n') {
                if outcome.is_ok() {
                    outcome = take(stored.snapshot, tally, &line);
                }
                line.clear();
            }
        }
    };
    let query = stored.query(stored.columns(), span);
    query
        .setting("output_format_json_quote_64bit_integers", "0")
        .fetch_chunks("JSONEachRow", client, chunk)
        .await?;
    Ok(outcome)
}

impl Stored<'_> {
    /// No more than the limit looks at.
    fn columns(&self) -> &'static str {
        if self.limit.matches.expression.is_some() || self.limit.measure != Measure::Count {
            "toUnixTimestamp64Milli(received) AS received_ms, toString(user_key) AS user_text, user AS user_name, feature, \
             id, source AS source_name, data AS body"
        } else {
            "toUnixTimestamp64Milli(received) AS received_ms, toString(user_key) AS user_text, user AS user_name, feature, \
             id, '' AS source_name, '' AS body"
        }
    }

    /// The beginning of what is looked at.
    fn begin_ms(&self, tally: &Tally, now_ms: i64) -> i64 {
        match self.limit.window {
            Window::Total => 0,
            _ => tally.period_start_ms(now_ms - CLOCKS_MS),
        }
    }

    /// Rows of a span of receipt up to the mark, between `select` and `rest`.
    fn bound(&self, select: &str, rest: &str, span: Span) -> Query {
        let around_ms = DAYS_AROUND * DAY_MS;
        let sql = format!(
            "{select} FROM {}.{CHARGED_VIEW} \
             WHERE received >= {{from:DateTime64(3, 'UTC')}} AND received < {{to:DateTime64(3, 'UTC')}} \
             AND time >= {{earliest:DateTime64(3, 'UTC')}} AND time <= {{latest:DateTime64(3, 'UTC')}} \
             {}{rest}",
            self.snapshot.tenant.database(),
            self.behind()
        );
        Query::new(sql)
            .read_only()
            .max_execution_time(TIME_LIMIT)
            .bind("from", Millis(span.from_ms))
            .bind("to", Millis(span.to_ms))
            .bind("earliest", Millis(span.from_ms.saturating_sub(around_ms)))
            .bind("latest", Millis(span.to_ms.saturating_add(around_ms)))
            .bind("charge", self.charge())
    }

    /// Leaves out what is behind the ends. Names of lanes hold nothing that ends a text.
    fn behind(&self) -> String {
        let one = |(lane, end): &(Lane, Position)| {
            format!("AND NOT (lane = '{lane}' AND (epoch, seq) > ({}, {})) ", end.epoch, end.sequence)
        };
        self.ends.iter().map(one).collect::<String>().trim_end().to_owned()
    }

    fn query(&self, columns: &str, span: Span) -> Query {
        let mut rest = " AND NOT arrayExists(k -> match(k, {charge:String}), mapKeys(charges))".to_owned();
        let matches = &self.limit.matches;
        if !matches.features.is_empty() {
            rest.push_str(
                " AND (has({exact:Array(String)}, feature) OR arrayExists(p -> startsWith(feature, p), {prefixes:Array(String)}))",
            );
        }
        if !matches.users.is_empty() {
            rest.push_str(" AND has({users:Array(String)}, user)");
        }
        let mut query = self.bound(&format!("SELECT {columns}"), &rest, span);
        if !matches.features.is_empty() {
            let (prefixes, exact): (Vec<&String>, Vec<&String>) =
                matches.features.iter().partition(|pattern| pattern.ends_with('*'));
            let prefixes: Vec<&str> = prefixes.iter().map(|pattern| pattern.trim_end_matches('*')).collect();
            query = query.bind("exact", exact).bind("prefixes", prefixes);
        }
        if matches.users.is_empty() {
            query
        } else {
            query.bind("users", matches.users.iter().collect::<Vec<_>>())
        }
    }

    /// Pattern of the keys of this limit's records, whatever their period and subject.
    fn charge(&self) -> String {
        let literal = |text: &str| text.replace('.', r"\.");
        let (lineage, epoch) = (literal(&self.snapshot.lineage), literal(&self.limit.epoch));
        format!(r"^{lineage}\.{epoch}\.-?[0-9]+\.[a-z0-9]+\.{}$", literal(&self.limit.identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;

    #[test]
    fn a_statement_reads_what_the_limit_looks_at_and_was_not_charged_for() {
        let mut snapshot = snapshot_of(&[("ns.acme.a.b", 3)]);
        snapshot.limits[0].matches.features = vec!["x' OR 1".into(), "y*".into()];
        let limit = snapshot.limits[0].clone();
        let ends = [
            (Lane::Pooled(3), Position { epoch: 7, sequence: 9 }),
            (snapshot.lane.clone(), Position { epoch: 8, sequence: 2 }),
        ];
        let mut stored = Stored { snapshot: &snapshot, limit: &limit, ends: &ends };
        let text = format!("{:?}", stored.query(stored.columns(), Span { from_ms: 0, to_ms: 1 }));
        assert!(text.contains("FROM tenant_acme.charged WHERE") && !text.contains("data AS body"), "{text}");
        assert!(text.contains("NOT (lane = 'POOL_3' AND (epoch, seq) > (7, 9))"), "{text}");
        assert!(!text.contains("OR 1') "), "what is bound does not change the statement");
        assert!(stored.charge().ends_with(r"\.ns\.acme\.a\.b$"), "{}", stored.charge());
        let mut summed = limit.clone();
        summed.measure = Measure::Sum { field: "tokens".into() };
        stored.limit = &summed;
        assert!(stored.columns().contains("data AS body"));
    }

    #[test]
    fn much_is_read_in_parts() {
        let extent = |rows, last_ms| Extent { rows, first_ms: 1_000, last_ms };
        assert_eq!(step_ms(&extent(ROWS, 1_999)), 1_000);
        assert_eq!(step_ms(&extent(ROWS * 4, 1_999)), 250);
        assert_eq!(step_ms(&extent(ROWS * 4, 1_000)), 1);
    }
}
