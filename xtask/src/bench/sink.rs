//! `bench sink`: how fast a sink drains a lane, beside what its two halves could do alone.
//!
//! ```text
//! round: fill the lane, insert, fetch, DRAIN, insert, fetch          H = 1 / (1/insert + 1/fetch)
//! insert: the blocks that the sink made, byte for byte, by a client that does nothing else      fetch: nats.go, pushed in order
//! ```

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::clickhouse::{Block, ClickHouse};
use super::figures::{Figure, Run, Verdict, in_turn, show};
use super::load::{Nats, Of, Send, send};
use super::processes::Cpu;
use super::tables::Tables;
use super::tenant::{NAME as TENANT, POD, STREAM, YAML};
use super::world::{Bench, ONE_LANE_MIB, World};
use crate::{Error, Result};

/// Rounds; odd, so that the median is one of them.
const ROUNDS: usize = 5;
/// Packs of a round, each of [`BATCH`] events.
const PACKS: u64 = 3_000;
/// Events of a pack.
const BATCH: u64 = 100;
/// Requests at once while the lane is filled: one, so that each becomes a pack of its own.
const FILLERS: u64 = 1;
/// How often the sink is asked how far it is.
const GLANCE: Duration = Duration::from_millis(10);
/// How long a lane may take to be drained.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// A bench in progress.
struct Sink<'a> {
    world: &'a World<'a>,
    nats: Nats<'a>,
    clickhouse: ClickHouse,
    key: String,
    fills: u32,
    inserts: u32,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or does not answer as it should.
pub(super) fn run(tables: Tables) -> Result<ExitCode> {
    let bench = Bench::prepare(tables)?;
    let world = World::start(&bench, &["operator", POD], true, ONE_LANE_MIB)?;
    let key = world.tenant(TENANT, YAML, POD)?;
    let clickhouse = world.clickhouse()?;
    let mut sink = Sink { nats: world.nats()?, world: &world, clickhouse, key, fills: 0, inserts: 0 };
    sink.clear()?;
    // Not counted: it makes the blocks that the baseline inserts.
    sink.fill()?;
    sink.drain()?;
    let blocks = sink.clickhouse.blocks(TENANT)?;
    let bytes: usize = blocks.iter().map(|block| block.rows.len()).sum();
    println!("bench sink: {}; {ROUNDS} rounds of {PACKS} packs of {BATCH} events of 1 KB", bench.machine());
    println!("  the sink made {} blocks of them, {} MiB", blocks.len(), bytes >> 20);
    let (mut inserts, mut fetches, mut drains, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        sink.fill()?;
        let before = (sink.insert(&blocks)?, sink.fetch()?);
        let drained = sink.drain()?;
        let after = (sink.insert(&blocks)?, sink.fetch()?);
        let mean = |one: &Run, other: &Run| f64::midpoint(one.rate, other.rate);
        ratios.push(drained.rate / in_turn(mean(&before.0, &after.0), mean(&before.1, &after.1)));
        inserts.extend([before.0, after.0]);
        fetches.extend([before.1, after.1]);
        drains.push(drained);
    }
    show("insert", &inserts);
    show("fetch", &fetches);
    show("sink", &drains);
    let (mut verdict, ratio) = (Verdict::default(), Figure::of(ratios));
    verdict.at_least("sink / H, median", ratio.median(), 0.8);
    println!("       of all rounds: {ratio}");
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Sink<'_> {
    /// Sinks what came while the pod was asked whether it accepts events.
    fn clear(&self) -> Result<()> {
        self.world.platform.start_part("sink")?;
        let cleared = self.world.bench.cancel.until(DRAINED_WITHIN, GLANCE, || {
            Ok((self.clickhouse.count(TENANT, "events_raw")? > 0).then_some(()))
        })?;
        self.world.platform.stop_part("sink")?;
        cleared
            .ok_or_else(|| Error::Program { program: "the sink".into(), detail: "it stored nothing".into() })
    }

    /// Puts packs into the lane.
    fn fill(&mut self) -> Result<()> {
        self.fills += 1;
        let (run, host) = (format!("f{:03}", self.fills), self.world.host(POD)?);
        let order = Send {
            events: (BATCH, BATCH),
            connections: FILLERS,
            total: Some(PACKS * BATCH),
            ..Send::new(&host, Of::Key(&self.key), &run)
        };
        send(&self.world.bench.programs.load, &order, &self.world.bench.cancel).map(drop)
    }

    /// Reads the last packs as they come.
    fn fetch(&self) -> Result<Run> {
        let before = Cpu::of("nats", self.world.platform.pid("nats")?)?;
        let fetched = self.nats.fetch(STREAM, PACKS, &self.world.bench.cancel)?;
        let cpu = Cpu::of("nats", self.world.platform.pid("nats")?)?.since(&before);
        let events = (PACKS * BATCH) as f64;
        Ok(Run { rate: events / fetched.seconds, cpu: cpu.with("client", fetched.cpu_seconds), events })
    }

    /// Inserts the sink's blocks into a table like the lane's, one after the other as the sink does.
    fn insert(&mut self, blocks: &[Block]) -> Result<Run> {
        self.inserts += 1;
        self.clickhouse.twin(TENANT)?;
        let (before, began) =
            (Cpu::of("clickhouse", self.world.platform.pid("clickhouse")?)?, Instant::now());
        for block in blocks {
            self.clickhouse.insert(TENANT, block, &format!("{TENANT}:{}:{}", self.inserts, block.token))?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu = Cpu::of("clickhouse", self.world.platform.pid("clickhouse")?)?.since(&before);
        let events = blocks.iter().map(|block| block.count).sum::<u64>() as f64;
        let stored = self.clickhouse.count(TENANT, "twin")?;
        if stored as f64 != events || stored != PACKS * BATCH {
            let detail = format!("{stored} rows are there of {events}");
            return Err(Error::Program { program: "the plain insert".into(), detail });
        }
        Ok(Run { rate: events / seconds, cpu, events })
    }

    /// Starts a sink, and stops it when it has stored everything. The rate is that between its first rows and its last: how long
    /// a process takes to start and to take its lane is another question.
    fn drain(&self) -> Result<Run> {
        let platform = &self.world.platform;
        self.clickhouse.truncate(TENANT, "events_raw")?;
        platform.start_part("sink")?;
        let (url, all) = (format!("{}/metrics", platform.url("sink-admin")?), PACKS * BATCH);
        let mut first = None;
        let drained = self.world.bench.cancel.until(DRAINED_WITHIN, GLANCE, || {
            let rows = rows(&self.world.http.get(&url, &[])?.body);
            let now = Instant::now();
            let cpu = Cpu::now(platform)?;
            let (at, before, cpu_before) = first.get_or_insert_with(|| (now, rows, cpu.clone()));
            if *before == 0 {
                (*at, *before, *cpu_before) = (now, rows, cpu.clone());
            }
            let done = || {
                let events = (rows - *before) as f64;
                Run { rate: events / (now - *at).as_secs_f64(), cpu: cpu.since(cpu_before), events }
            };
            Ok((rows >= all).then(done))
        })?;
        platform.stop_part("sink")?;
        let stored = self.clickhouse.count(TENANT, "events_raw")?;
        match drained {
            Some(run) if stored == all => Ok(run),
            _ => Err(Error::Program {
                program: "the sink".into(),
                detail: format!("{stored} rows are there of {all} after {} s", DRAINED_WITHIN.as_secs()),
            }),
        }
    }
}

/// Rows that the sink has stored, by its own word.
fn rows(metrics: &str) -> u64 {
    let mut samples = metrics.lines().filter(|line| line.starts_with("mp_sink_rows_total{"));
    samples.find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
