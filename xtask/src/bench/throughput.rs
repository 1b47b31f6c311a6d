//! A crowd's load on everything at once, and when all of it is stored.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::crowd::{self, Member};
use super::figures::LOAD;
use super::load::{Of, Send, Sent, send};
use super::processes::Cpu;
use super::tenant::POD;
use super::world::World;
use crate::{Error, Result};

/// How long the sink may take to store what is left.
const STORED_WITHIN: Duration = Duration::from_secs(300);
/// Events a request, at least and at most.
const EVENTS: (u64, u64) = (1, 100);
const CONNECTIONS: u64 = 32;
const GLANCE: Duration = Duration::from_millis(200);

/// A load on its way from the generator to the tables.
pub(super) struct Throughput<'a> {
    pub world: &'a World<'a>,
    host: String,
    plan: PathBuf,
    runs: u32,
}

/// What a load came to.
pub(super) struct Passed {
    pub sent: Sent,
    /// From the first event to the last one's storage.
    pub took: Duration,
    /// Of every process in that time.
    pub cpu: Cpu,
}

impl Passed {
    /// Events stored a second: what the whole sustains.
    pub fn rate(&self) -> f64 {
        self.sent.all_events as f64 / self.took.as_secs_f64()
    }
}

impl<'a> Throughput<'a> {
    /// From these members.
    pub fn new<'m>(world: &'a World<'a>, members: impl Iterator<Item = &'m Member>) -> Result<Self> {
        let plan = world.bench.paths.dev.join("bench/plan.json");
        std::fs::write(&plan, crowd::plan(members).to_string())
            .map_err(Error::io(format!("cannot write {}", plan.display())))?;
        Ok(Self { world, host: world.host(POD)?, plan, runs: 0 })
    }

    /// Sends requests of 1 to 100 events but for what `change` changes, and does not wait until they are stored.
    pub fn send(&mut self, change: impl Fn(&mut Send<'_>)) -> Result<Sent> {
        self.runs += 1;
        let run = format!("t{:03}", self.runs);
        let mut order = Send::new(&self.host, Of::Plan(&self.plan), &run);
        (order.events, order.connections) = (EVENTS, CONNECTIONS);
        change(&mut order);
        send(&self.world.bench.programs.load, &order, &self.world.bench.cancel)
    }

    /// Sends, and waits until all of it is stored.
    pub fn pass(&mut self, change: impl Fn(&mut Send<'_>)) -> Result<Passed> {
        let platform = &self.world.platform;
        let (before, stored, began) = (Cpu::now(platform)?, self.stored()?, Instant::now());
        let sent = self.send(change)?;
        self.await_stored(stored + sent.all_events)?;
        let took = began.elapsed();
        let cpu = Cpu::now(platform)?.since(&before).with(LOAD, sent.cpu_seconds);
        Ok(Passed { sent, took, cpu })
    }

    /// Rows and repeats that the sink has dealt with, by its own word.
    pub fn stored(&self) -> Result<u64> {
        let url = format!("{}/metrics", self.world.platform.url("sink-admin")?);
        let metrics = self.world.http.get(&url, &[])?.accepted(&url)?.body;
        let counted = |line: &&str| {
            ["mp_sink_rows_total{", "mp_sink_duplicates_total{"].iter().any(|name| line.starts_with(name))
        };
        let samples = metrics.lines().filter(counted);
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until the sink has dealt with so many.
    pub fn await_stored(&self, events: u64) -> Result<()> {
        let mut stored = 0;
        let all = self.world.bench.cancel.until(STORED_WITHIN, GLANCE, || {
            stored = self.stored()?;
            Ok((stored >= events).then_some(()))
        })?;
        all.ok_or_else(|| Error::Program {
            program: "the sink".into(),
            detail: format!("it stored {stored} of {events} within {} s", STORED_WITHIN.as_secs()),
        })
    }
}
