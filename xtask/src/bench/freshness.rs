//! `bench freshness`: how soon an event is seen in its tenant's view while everything is busy.
//!
//! ```text
//! sustained = events / time from the first event to the last one's storage, sent as fast as answers come
//! probes at 70 % of it: pooled tenants with few dedicated lanes, then with as many as the insert budget has turns a second
//! ```

use std::process::ExitCode;
use std::time::Duration;

use super::crowd::{self, Member, SHARDS};
use super::figures::Verdict;
use super::probes;
use super::tables::Tables;
use super::throughput::Throughput;
use super::world::{Bench, CROWD_LANE_MIB, World};
use crate::platform::workloads::INSERTS_PER_SECOND;
use crate::{Error, Result};

const POOLED: usize = 800;
/// Dedicated lanes of the first part, and of the second.
const DEDICATED: [usize; 2] = [40, 200];
/// Share of the sustained rate at which probes are sent.
const SUSTAINED: f64 = 0.7;
/// How long the sustained rate is looked for: in a quarter of a minute merges fall behind without being noticed.
const FULL_SECONDS: f64 = 60.0;
/// How long a part is probed: a p99 needs a thousand probes.
pub(super) const PROBED_SECONDS: u64 = 150;

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or an event is not seen.
pub(super) fn run(tables: Tables, seconds: u64) -> Result<ExitCode> {
    let bench = Bench::prepare(tables)?;
    let world = World::start(&bench, &["operator", "ingest-1", "sink"], true, CROWD_LANE_MIB)?;
    let members = crowd::create(&world, DEDICATED[1], POOLED)?;
    println!("bench freshness: {}; {POOLED} tenants in {SHARDS} shards", bench.machine());
    let mut verdict = Verdict::default();
    for dedicated in DEDICATED {
        let busy: Vec<&Member> =
            members[..dedicated].iter().chain(members.iter().filter(|member| !member.dedicated)).collect();
        let (p99_ms, lanes) = part(&world, &busy, dedicated, seconds)?;
        if dedicated == DEDICATED[0] {
            verdict.at_most("p99, s", p99_ms / 1_000.0, 1.0);
        } else {
            let cycle = lanes as f64 / f64::from(INSERTS_PER_SECOND);
            verdict.at_most("p99 / (active lanes / insert budget)", p99_ms / 1_000.0 / cycle, 1.5);
        }
    }
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One part; returns the p99 in milliseconds and the lanes that were busy.
fn part(world: &World<'_>, busy: &[&Member], dedicated: usize, seconds: u64) -> Result<(f64, usize)> {
    let mut load = Throughput::new(world, busy.iter().copied())?;
    // Not measured: keys are fetched, slices are leased, lanes are taken.
    load.pass(|order| (order.seconds, order.connections, order.patient) = (5.0, 8, true))?;
    let full = load.pass(|order| order.seconds = FULL_SECONDS)?;
    let (sustained, lanes) = (full.rate(), dedicated + SHARDS);
    println!("{dedicated} dedicated lanes, requests of 1 to 100 events: sustained {sustained:.0} events/s");
    println!("  CPU s a million: {}", full.cpu.per_million(full.sent.all_events as f64));
    let stored = load.stored()?;
    let lasting = Duration::from_secs(seconds);
    let rate = Some(sustained * SUSTAINED);
    let clickhouse = world.clickhouse()?;
    let (sent, seen) = std::thread::scope(|scope| {
        let sending =
            scope.spawn(|| load.send(|order| (order.rate, order.seconds) = (rate, lasting.as_secs_f64())));
        let seen = probes::run(world, &clickhouse, busy, &format!("p{dedicated}"), lasting);
        (sending.join().unwrap_or(Err(Error::Interrupted)), seen)
    });
    let (sent, seen) = (sent?, seen?);
    load.await_stored(stored + sent.all_events + seen.len() as u64)?;
    println!(
        "  at {:.0} events/s: 202 p50 {:.1} ms, p99 {:.1} ms; seen in the view p50 {:.0} ms, p99 {:.0} ms ({} probes)",
        sent.rate(),
        f64::from(sent.p50_us) / 1_000.0,
        f64::from(sent.p99_us) / 1_000.0,
        seen.ms(0.5),
        seen.ms(0.99),
        seen.len()
    );
    Ok((seen.ms(0.99), lanes))
}
