//! `bench peak`: the busiest moment of the design, held: 6,600 events/s of 1 KB, everything on this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::crowd::{self, Member};
use super::figures::Verdict;
use super::probes;
use super::processes::Cpu;
use super::tables::Tables;
use super::throughput::Throughput;
use super::world::{Bench, CROWD_LANE_MIB, World};
use crate::platform::memory::Memory::Resident;
use crate::{Error, Result};

/// Events a second: five times the mean of the model's day.
const RATE: f64 = 6_600.0;
/// How long it is held.
pub(super) const HELD_SECONDS: u64 = 600;
const DEDICATED: usize = 40;
const POOLED: usize = 160;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Caches fill up before this; what grows afterwards grows.
const SETTLED_AFTER: usize = 5;
/// Memory of the sink for ids, as it is configured by default, and what it may take besides, MiB.
const SINK_MIB: f64 = 512.0 + 256.0;
/// Growth of ingest a minute, MiB.
const INGEST_GROWTH_MIB: f64 = 1.0;

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or an event is not seen.
pub(super) fn run(tables: Tables, seconds: u64) -> Result<ExitCode> {
    let bench = Bench::prepare(tables)?;
    let world = World::start(&bench, &["operator", "ingest-1", "sink"], true, CROWD_LANE_MIB)?;
    let members = crowd::create(&world, DEDICATED, POOLED)?;
    let mut load = Throughput::new(&world, members.iter())?;
    load.pass(|order| (order.seconds, order.connections, order.patient) = (5.0, 8, true))?;
    println!(
        "bench peak: {}; {RATE} events/s in requests of 1 to 100 for {seconds} s, {DEDICATED} dedicated and {POOLED} pooled tenants",
        bench.machine()
    );
    let (stored, before, rows) = (load.stored()?, Cpu::now(&world.platform)?, world.rows()?);
    let (lasting, clickhouse) = (Duration::from_secs(seconds), world.clickhouse()?);
    let rate = Some(RATE);
    let busy: Vec<&Member> = members.iter().collect();
    let (sent, seen, memory) = std::thread::scope(|scope| {
        let sending =
            scope.spawn(|| load.send(|order| (order.rate, order.seconds) = (rate, lasting.as_secs_f64())));
        let looking = scope.spawn(|| watch(&world, lasting));
        let seen = probes::run(&world, &clickhouse, &busy, "peak", lasting);
        let sent = sending.join().unwrap_or(Err(Error::Interrupted));
        (sent, seen, looking.join().unwrap_or(Err(Error::Interrupted)))
    });
    let (sent, seen, memory) = (sent?, seen?, memory?);
    let all = sent.all_events + seen.len() as u64;
    load.await_stored(stored + all)?;
    let cpu = Cpu::now(&world.platform)?.since(&before).with(super::figures::LOAD, sent.cpu_seconds);
    println!(
        "  {:.0} events/s, {} requests, half of them answered within {:.1} ms; CPU s a million: {}",
        sent.rate(),
        sent.requests,
        f64::from(sent.p50_us) / 1_000.0,
        cpu.per_million(all as f64)
    );
    println!("  RSS at the start and each minute, MiB: ingest {:?}, sink {:?}", memory.ingest, memory.sink);
    let mut verdict = Verdict::default();
    verdict.at_least("events/s", sent.rate(), RATE * 0.99);
    verdict.at_most("202 p99, ms", f64::from(sent.p99_us) / 1_000.0, 50.0);
    verdict.at_most(&format!("event to view p99, s, {} probes", seen.len()), seen.ms(0.99) / 1_000.0, 2.0);
    let there = world.rows()? - rows;
    verdict.at_most("events accepted that are not stored, or stored twice", all.abs_diff(there) as f64, 0.0);
    match growth(&memory.ingest) {
        Some(growth) => {
            verdict.at_most("growth of ingest after minute 5, MiB a minute", growth, INGEST_GROWTH_MIB);
        }
        None => println!("growth of ingest: not run, it takes more than {SETTLED_AFTER} minutes"),
    }
    verdict.at_most("RSS of the sink, MiB", memory.sink.iter().copied().max().unwrap_or(0) as f64, SINK_MIB);
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Resident memory, MiB, a number a minute.
#[derive(Debug, Default)]
struct Memory {
    ingest: Vec<u64>,
    sink: Vec<u64>,
}

fn watch(world: &World<'_>, lasting: Duration) -> Result<Memory> {
    let (began, mut memory) = (Instant::now(), Memory::default());
    while began.elapsed() < lasting {
        memory.ingest.push(world.platform.memory_mib("ingest-1", Resident)?);
        memory.sink.push(world.platform.memory_mib("sink", Resident)?);
        world.bench.cancel.pause(LOOK_EVERY.min(lasting.saturating_sub(began.elapsed())))?;
    }
    memory.ingest.push(world.platform.memory_mib("ingest-1", Resident)?);
    memory.sink.push(world.platform.memory_mib("sink", Resident)?);
    Ok(memory)
}

/// MiB a minute from minute [`SETTLED_AFTER`] on; `None` when it was not watched for longer.
fn growth(mib: &[u64]) -> Option<f64> {
    let (first, last) = (*mib.get(SETTLED_AFTER)?, *mib.last()?);
    let minutes = mib.len() - 1 - SETTLED_AFTER;
    (minutes > 0).then(|| (last as f64 - first as f64) / minutes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_from_when_caches_are_full() {
        assert_eq!(growth(&[1, 50, 60, 65, 66, 67]), None);
        assert_eq!(growth(&[1, 50, 60, 65, 66, 67, 67, 71]), Some(2.0));
    }
}
