//! `bench dashboard`: how long the console's routes take over 30 days of a large tenant, beside the same questions put to its rows.
//!
//! ```text
//! fill the lane's table -> the sink sums it up -> for each route: rows, ROUTE, rows     every answer compared with that of the rows
//! ```

mod fill;
mod routes;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::routes::{Route, Span};
use super::clickhouse::ClickHouse;
use super::figures::{Figure, Verdict};
use super::tables::Tables;
use crate::clock::now;
use crate::http::Http;
use crate::load::interruptible;
use crate::platform::{Options, Platform};
use crate::{Cancel, Error, Paths, Progress, Result};

/// Rows of the tenant.
const ROWS: u64 = 12_000_000;
/// Its users.
const USERS: u64 = 10_000;
/// Its features.
const FEATURES: u64 = 30;
/// Times that each route is asked.
const SAMPLES: u32 = 170;
/// Times that the rows are asked, before and after.
const RAW_SAMPLES: u32 = 5;
/// Answers of each route that are compared.
const COMPARED: i64 = 5;
/// What 95 of 100 answers may take, milliseconds.
const TARGET_MS: f64 = 100.0;
/// How long the lane may take to be summed up.
const SUMMED_WITHIN: Duration = Duration::from_secs(300);
const DAY_MS: i64 = 86_400_000;

/// A bench in progress.
struct Dashboard {
    url: String,
    http: Http,
    key: String,
    clickhouse: ClickHouse,
    cancel: Cancel,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or an answer is not that of the rows.
pub(super) fn run(tables: &Tables) -> Result<ExitCode> {
    let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), interruptible()?);
    let platform = start(&paths, tables, &progress, &cancel)?;
    let bench = Dashboard::prepare(&platform, &paths, &progress, &cancel)?;
    println!(
        "bench dashboard: {}; {ROWS} rows of {USERS} users and {FEATURES} features over 30 days, {SAMPLES} answers a route",
        tables.machine(&paths.dev)
    );
    bench.tell_sizes()?;
    let mut verdict = Verdict::default();
    for route in routes::all() {
        bench.compare(&route)?;
        let before = bench.time_rows(&route)?;
        let answers = bench.time_route(&route)?;
        let after = bench.time_rows(&route)?;
        let rows = Figure::of(before.into_iter().chain(after));
        let name = &route.name;
        println!(
            "  {name}: p50 {:.1} ms, p95 {:.1}, p99 {:.1}, longest {:.1}; rows {:.0} ms, {:.1} times p50",
            at(&answers, 0.5),
            at(&answers, 0.95),
            at(&answers, 0.99),
            at(&answers, 1.0),
            rows.median(),
            rows.median() / at(&answers, 0.5)
        );
        verdict.at_most(&format!("{name}, p95 ms"), at(&answers, 0.95), TARGET_MS);
    }
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts that a dashboard needs, with empty data.
fn start(paths: &Paths, tables: &Tables, progress: &Progress, cancel: &Cancel) -> Result<Platform> {
    let dir = paths.dev.join("bench");
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(Error::io(format!("cannot remove {}", dir.display())))?;
    }
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    // Nobody waits here for ten minutes until rows are settled.
    let sink = vec![set("MP_ROLLUP_AGE_SECONDS", "1"), set("MP_ROLLUP_EVERY_SECONDS", "12")];
    Platform::start(Options {
        dir,
        env: BTreeMap::from([("sink".to_owned(), sink)]),
        installation: "bench".into(),
        workloads: ["operator", "ingest-1", "sink", "console"].map(str::to_owned).to_vec(),
        new_ports: true,
        progress: progress.clone(),
        cancel: cancel.clone(),
        tables: tables.emptied()?,
        ..Options::dev()?
    })
}

impl Dashboard {
    /// A tenant whose rows are there and summed up.
    fn prepare(platform: &Platform, paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<Self> {
        let password = platform.secrets().get("clickhouse-tool")?;
        let clickhouse = ClickHouse::new(platform.url("clickhouse")?, password.trim().to_owned());
        let task = progress.task("rows", "applies the tenant and fills its table");
        let key = fill::tenant(platform, &paths.dev.join("bench"))?;
        fill::first_event(platform, &key, &clickhouse, cancel)?;
        fill::rows(&clickhouse)?;
        task.done(&format!("{ROWS} inserted"));
        let task = progress.task("rollups", "the sink sums them up, day by day");
        let days = clickhouse.number(&fill::days_of("events_raw"))?;
        let summed = cancel.until(SUMMED_WITHIN, Duration::from_secs(1), || {
            let done = clickhouse.number(&fill::days_of("rollups_raw")).unwrap_or_default();
            task.comment(&format!("{done} of {days} days"));
            // The rows that let it begin lie in days of their own.
            Ok((done + fill::DAYS_BEFORE >= days).then_some(()))
        })?;
        summed.ok_or_else(|| Error::Program {
            program: "the sink".into(),
            detail: format!("it did not sum up {days} days within {} s", SUMMED_WITHIN.as_secs()),
        })?;
        task.done("all of them");
        let bench = Self {
            url: platform.url("console")?,
            http: Http::new(Duration::from_secs(30)),
            key,
            clickhouse,
            cancel: cancel.clone(),
        };
        bench.await_key(progress)?;
        Ok(bench)
    }

    /// Waits until the console knows the key.
    fn await_key(&self, progress: &Progress) -> Result<()> {
        let task = progress.task("console", "learns the tenant's key");
        let known = self.cancel.until(Duration::from_secs(60), Duration::from_millis(200), || {
            Ok(self.answer("/v1/dashboard/summary?from=now-1m").is_ok().then_some(()))
        })?;
        known.ok_or_else(|| Error::Program {
            program: "the console".into(),
            detail: "it does not know the key after a minute".into(),
        })?;
        task.done("it answers");
        Ok(())
    }

    fn answer(&self, path: &str) -> Result<serde_json::Value> {
        let url = format!("{}{path}", self.url);
        Ok(self.http.get(&url, &[("x-api-key", self.key.as_str())])?.accepted(path)?.json())
    }

    fn tell_sizes(&self) -> Result<()> {
        for table in ["events_raw", "rollups_raw", "users_raw"] {
            let sql = format!(
                "SELECT sum(rows), intDiv(sum(bytes_on_disk), 1048576), count() FROM system.parts \
                 WHERE active AND database = 'tenant_board' AND table = '{table}'"
            );
            for line in self.clickhouse.lines(&sql)? {
                println!("  {table}: {} rows, {} MiB, {} parts", line[0], line[1], line[2]);
            }
        }
        Ok(())
    }

    /// Compares answers over ranges that begin and end anywhere with those of the rows.
    fn compare(&self, route: &Route) -> Result<()> {
        let now = now().as_millisecond();
        for i in 0..COMPARED {
            // Behind the last row, within an hour, within yesterday.
            let to_ms = now - i * 7_654_321;
            let span = Span { from_ms: to_ms - 30 * DAY_MS + i * 1_234_567, to_ms };
            let told = (route.told)(&self.answer(&route.path(span))?);
            let counted = self.clickhouse.lines(&route.raw(span))?;
            if told != counted || told.is_empty() {
                let differ = told.iter().zip(&counted).find(|(told, counted)| told != counted);
                let detail = format!(
                    "{} over {span:?}: {} lines told, {} counted, first difference {differ:?}",
                    route.name,
                    told.len(),
                    counted.len()
                );
                return Err(Error::Program { program: "the console".into(), detail });
            }
        }
        Ok(())
    }

    fn time_rows(&self, route: &Route) -> Result<Vec<f64>> {
        (0..RAW_SAMPLES)
            .map(|_| {
                let sql = route.raw(self.last_30_days());
                timed(|| self.clickhouse.query(&sql).map(drop))
            })
            .collect()
    }

    fn time_route(&self, route: &Route) -> Result<Vec<f64>> {
        let mut answers = Vec::new();
        for _ in 0..SAMPLES {
            if self.cancel.is_set() {
                return Err(Error::Interrupted);
            }
            // Of this moment: no two questions are the same.
            let path = route.path(self.last_30_days());
            answers.push(timed(|| self.answer(&path).map(drop))?);
        }
        answers.sort_by(f64::total_cmp);
        Ok(answers)
    }

    fn last_30_days(&self) -> Span {
        let to_ms = now().as_millisecond();
        Span { from_ms: to_ms - 30 * DAY_MS, to_ms }
    }
}

/// Milliseconds that something takes.
fn timed(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    act()?;
    Ok(began.elapsed().as_secs_f64() * 1_000.0)
}

/// The value below which this share of sorted values lies.
fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_answers() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!((at(&sorted, 0.5), at(&sorted, 0.95), at(&sorted, 1.0)), (50.0, 95.0, 100.0));
        assert_eq!(at(&[], 0.5), 0.0);
    }
}
