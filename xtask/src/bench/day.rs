//! `bench day`: a part of a day of the capacity model, at full speed through everything.

use std::process::{Command, ExitCode};

use super::crowd;
use super::figures::Verdict;
use super::tables::Tables;
use super::throughput::Throughput;
use super::world::{Bench, CROWD_LANE_MIB, World};
use crate::run::output;
use crate::{Error, Result};

/// Events of the model's day.
const EVENTS_A_DAY: f64 = 114_000_000.0;
const SECONDS_A_DAY: f64 = 86_400.0;
const DEDICATED: usize = 200;
const POOLED: usize = 800;
/// What an event takes on disk at most, in lanes and tables together, bytes.
const EVENT_BYTES: f64 = 2_200.0;
/// What must be left when everything is stored, bytes.
const SPARE_BYTES: f64 = 4e9;

/// Measures and prints.
///
/// # Errors
/// When the disk is too small, something cannot be started, or something was not stored.
pub(super) fn run(tables: Tables, fraction: f64) -> Result<ExitCode> {
    let bench = Bench::prepare(tables)?;
    let events = (EVENTS_A_DAY * fraction).round();
    let (free, needed) = (free_bytes(&bench)?, events * EVENT_BYTES + SPARE_BYTES);
    if free < needed {
        return Err(Error::Missing {
            what: format!("{:.0} GB of free disk ({:.0} GB are there)", needed / 1e9, free / 1e9),
            remedy: "make room, or ask for a smaller --fraction".into(),
        });
    }
    let world = World::start(&bench, &["operator", "ingest-1", "sink"], true, CROWD_LANE_MIB)?;
    let members = crowd::create(&world, DEDICATED, POOLED)?;
    let mut load = Throughput::new(&world, members.iter())?;
    load.pass(|order| (order.seconds, order.connections, order.patient) = (5.0, 8, true))?;
    let (rows, stored) = (world.rows()?, load.stored()?);
    let before = Stores::now(&world)?;
    println!(
        "bench day: {}; {events:.0} events ({fraction} of a day) of {DEDICATED} dedicated and {POOLED} pooled tenants",
        bench.machine()
    );
    let passed = load.pass(|order| (order.day, order.total) = (Some(events as u64), Some(events as u64)))?;
    let after = Stores::now(&world)?;
    let counted = load.stored()? - stored;
    let there = world.rows()? - rows;
    if counted as f64 != events || there as f64 != events {
        let detail = format!("{there} rows are there, {counted} by the sink's word, of {events}");
        return Err(Error::Program { program: "the day".into(), detail });
    }
    let rate = passed.rate();
    println!(
        "  {rate:.0} events/s from the first one sent to the last one stored, {:.0} s",
        passed.took.as_secs_f64()
    );
    println!("  CPU s a million: {}", passed.cpu.per_million(events));
    println!(
        "  bytes an event: lanes {:.0}, tables {:.0} (before later merges)",
        (after.lanes - before.lanes) / events,
        (after.tables - before.tables) / events
    );
    let mut verdict = Verdict::default();
    verdict.at_least("day factor", rate * SECONDS_A_DAY / EVENTS_A_DAY, 5.0);
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the stores hold, bytes.
struct Stores {
    lanes: f64,
    tables: f64,
}

impl Stores {
    fn now(world: &World<'_>) -> Result<Self> {
        let url = format!("{}/jsz", world.platform.urls()?.nats_monitor);
        let lanes = world.http.get(&url, &[])?.accepted(&url)?.json()["storage"].as_f64().unwrap_or_default();
        let sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'events_raw'";
        Ok(Self { lanes, tables: world.clickhouse()?.number(sql)? as f64 })
    }
}

fn free_bytes(bench: &Bench) -> Result<f64> {
    let mut command = Command::new("df");
    command.args(["--output=avail", "-B1"]).arg(&bench.paths.root);
    let text = output(&mut command, "df", &bench.cancel)?;
    text.lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| Error::Format { what: "df's answer".into(), detail: text })
}
