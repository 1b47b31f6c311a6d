//! `prove faults`: no event lost, none stored twice, none invented, whatever dies or stands still.
//!
//! ```text
//! clients (ids that were answered 202) --.
//! faults over every process              +-> calm -> every lane sunk and audited -> ids that are stored -> verdict
//! ```
//! Other proofs about the same promise use the same world, clients and verdict.

pub mod accounts;
pub mod sums;
pub mod tally;
pub mod tenants;
pub mod traffic;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::tally::Verdict;
use self::tenants::Tenant;
use self::traffic::{Pace, Traffic};
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, faults, pods};
use crate::platform::workloads;
use crate::{Cancel, Error, Result};

/// How long requests are repeated after the last fault.
const ANSWERED_WITHIN: Duration = Duration::from_secs(240);

/// What is sent, and what goes wrong meanwhile.
struct Plan {
    pace: Pace,
    faults: usize,
    every: Duration,
}

fn plan(scale: Scale) -> Plan {
    match scale {
        Scale::Small => Plan {
            pace: Pace { events: 60_000, per_second: 1_500 },
            faults: 20,
            every: Duration::from_secs(2),
        },
        Scale::Full => Plan {
            pace: Pace { events: 1_000_000, per_second: 3_000 },
            faults: 54,
            every: Duration::from_secs(6),
        },
    }
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let plan = plan(job.args.scale);
    let shape = Shape { pods: 3, sinks: 2, env: sums::soon(2), ..Shape::default() };
    let (world, traffic) = begin(job, seed, shape, plan.pace)?;
    let parts = everything(&world);
    let count = if job.args.calm { 0 } else { plan.faults };
    let schedule = faults::over_all(seed, &parts, count, plan.every);
    let storm = under_load(job, &traffic, Until::AllIsSent, |_| {
        let task = job.progress.task("faults", "kills and freezes every process in turn");
        let storm = faults::storm(&world.platform, &schedule, job.cancel)?;
        task.done(&format!("{} inflicted", storm.done.len()));
        Ok(storm)
    })?;
    let mut round = Round { seed, ..Round::default() };
    let at = |(at, fault): &faults::Planned| format!("{:.1} s: {fault}", at.as_secs_f64());
    round.number("faults", storm.done.len());
    round.number("faultsInOrder", storm.done.iter().map(at).collect::<Vec<_>>());
    round.number("processes", parts);
    round.number("endedByThemselvesAndStartedAgain", storm.ended);
    let missing = schedule.len() - storm.done.len();
    round.at_most("faults that were planned and not inflicted", missing as f64, 0.0);
    judge(job, &world, &traffic, &mut round)?;
    sums::judge(job, &world, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// Every process of ours, and what they keep their state in.
fn everything(world: &World) -> Vec<String> {
    let pods = (0..world.pods).map(pods::name);
    let sinks = (0..world.sinks).map(workloads::sink);
    let others = ["operator", "console", "nats", "clickhouse", "vault"].map(str::to_owned);
    pods.chain(sinks).chain(others).collect()
}

/// A platform with tenants, and clients that are ready to send.
///
/// # Errors
/// When something does not become ready.
pub fn begin(job: &Job<'_>, seed: u64, shape: Shape, pace: Pace) -> Result<(World, Traffic)> {
    let world = World::of(job, shape)?;
    // Repeats take room as well.
    let tenants = tenants::create(job, &world, pace.events.max(100_000) * 2)?;
    let traffic = Traffic::new(tenants, world.urls()?, seed, pace);
    Ok((world, traffic))
}

/// How long clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until everything is sent.
    AllIsSent,
    /// As long as what happens meanwhile.
    Done,
}

/// Does something while clients send, and waits until they have their answers.
///
/// # Errors
/// Those of `act`, and when the proof was interrupted.
pub fn under_load<T: Send>(
    job: &Job<'_>,
    traffic: &Traffic,
    until: Until,
    act: impl FnOnce(&Traffic) -> Result<T> + Send,
) -> Result<T> {
    let task = job.progress.task("load", "clients repeat until they are answered");
    let (stop, give_up) = (Cancel::default(), Cancel::default());
    let done = std::thread::scope(|scope| {
        let clients = scope.spawn(|| traffic.run(&stop, &give_up));
        let acting = scope.spawn(|| act(traffic));
        let mut acted = None;
        while !clients.is_finished() {
            if acting.is_finished() && acted.is_none() {
                acted = Some(Instant::now());
                if until == Until::Done {
                    stop.set();
                }
            }
            task.comment(&format!("{} events sent", traffic.begun()));
            let late = acted.is_some_and(|at| at.elapsed() > ANSWERED_WITHIN && stop_is_due(traffic, until));
            if job.cancel.pause(Duration::from_millis(100)).is_err() || late {
                give_up.set();
                stop.set();
            }
        }
        acting.join().unwrap_or(Err(Error::Interrupted))
    })?;
    if job.cancel.is_set() {
        return Err(Error::Interrupted);
    }
    task.done(&format!("{} events sent", traffic.begun()));
    Ok(done)
}

/// Whether clients have nothing new to send.
fn stop_is_due(traffic: &Traffic, until: Until) -> bool {
    until == Until::Done || traffic.all_is_begun()
}

/// Ids in a tenant's view, one a row.
///
/// # Errors
/// ClickHouse's words.
pub fn stored(world: &World, tenant: &Tenant) -> Result<Vec<String>> {
    world.clickhouse(&format!("SELECT id FROM tenant_{}.events FORMAT TSV", tenant.name))
}

/// Waits until everything is stored, and compares.
///
/// # Errors
/// When a part cannot be asked.
pub fn judge(job: &Job<'_>, world: &World, traffic: &Traffic, round: &mut Round) -> Result<()> {
    accounts::settle(job, world)?;
    let mut all = Verdict::default();
    let mut tenants = serde_json::Map::new();
    for (tenant, tally) in traffic.books() {
        let rows = stored(world, tenant)?;
        let verdict = tally.judge(rows.iter().map(String::as_str));
        tenants.insert(tenant.name.clone(), verdict.json());
        all = all.and(verdict);
    }
    round.number("tenants", tenants);
    for (name, count) in [
        ("events attempted", all.attempted),
        ("events acknowledged", all.acknowledged),
        ("events stored", all.stored),
    ] {
        round.number(name, count);
    }
    round.number("answers", traffic.told.json());
    round.at_most("events acknowledged and not stored", all.lost.count as f64, 0.0);
    round.at_most("events stored twice", all.doubled.count as f64, 0.0);
    round.at_most("events stored that no client sent to that tenant", all.invented.count as f64, 0.0);
    round.at_most("events never acknowledged", (all.attempted - all.acknowledged) as f64, 0.0);
    round.at_most("events whose client gave up", traffic.unanswered() as f64, 0.0);
    let wrong = traffic.told.wrong.load(Ordering::Relaxed);
    round.at_most("answers that do not count their events", wrong as f64, 0.0);
    round.at_most(
        "answers that are neither 202, 429 nor 503 with Retry-After",
        traffic.told.others() as f64,
        0.0,
    );
    accounts::judge(job, world, traffic, round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_round_hits_every_process_in_both_ways() {
        // Three pods, two sinks, five others; each killed and frozen.
        assert_eq!(plan(Scale::Small).faults, 20);
        assert_eq!(plan(Scale::Full).pace.events, 1_000_000);
    }
}
