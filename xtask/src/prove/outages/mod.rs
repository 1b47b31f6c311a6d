//! `prove outages`: a part is away for a while, a disk is full, answers are lost; nothing else is.
//!
//! ```text
//! world 1: ingest -> proxy -> nats, sink -> proxy -> clickhouse;   clickhouse away, nats away, answers lost, system calls
//! world 2: nats on a small disk;                                   disk full
//! ```

mod away;
pub mod disk;
mod lossy;
mod syncs;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::lossy::{Lossy, Marks};
use super::conservation::traffic::{Pace, Traffic};
use super::conservation::{self, Until, under_load};
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, pods};
use crate::platform::state::State;
use crate::platform::workloads;
use crate::signal::{self, Signal, Target};
use crate::{Error, Result};

const PODS: usize = 2;
const SINKS: usize = 2;
const PACE: Pace = Pace { events: 2_000_000, per_second: 1_500 };
/// Size of the disk that becomes full.
const DISK_MIB: u32 = 192;
/// How long an answer that can be lost may be waited for.
const LOST_WITHIN: Duration = Duration::from_secs(20);
/// Requests that are sent one by one while the system calls are watched.
const WATCHED: usize = 30;
/// The tenant, its place in the list and its stream, whose system calls are watched.
const WATCHED_TENANT: (usize, &str) = (0, "USAGE_own");
/// How long strace may take to attach.
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);

/// How long, and how often.
struct Plan {
    away: Duration,
    answers: u64,
    full: Duration,
}

fn plan(scale: Scale) -> Plan {
    let (away, answers, full) = match scale {
        Scale::Small => (20, 10, 10),
        Scale::Full => (120, 100, 60),
    };
    Plan { away: Duration::from_secs(away), answers, full: Duration::from_secs(full) }
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let (began, plan) = (Instant::now(), plan(job.args.scale));
    let mut round = Round { seed, ..Round::default() };
    let mut not_run = Vec::new();
    proxied(job, seed, &plan, &mut round, &mut not_run)?;
    full(job, seed, &plan, &mut round, &mut not_run)?;
    for what in &not_run {
        job.progress.say(&format!("not run: {what}"));
    }
    round.number("notRun", not_run);
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// Everything that happens behind proxies.
fn proxied(
    job: &Job<'_>,
    seed: u64,
    plan: &Plan,
    round: &mut Round,
    not_run: &mut Vec<String>,
) -> Result<()> {
    let acks = Lossy::start(Marks { request: b"", answer: br#""stream":"USAGE_"# }, port(job, "nats"))?;
    let insert = Marks { request: b"insert_deduplication_token=", answer: b"" };
    let inserts = Lossy::start(insert, port(job, "clickhouse"))?;
    let through = |name: &str, scheme: &str, proxy: &Lossy| {
        vec![(name.to_owned(), format!("{scheme}://{}", proxy.address()))]
    };
    let mut env = BTreeMap::new();
    env.extend((0..PODS).map(|n| (pods::name(n), through("MP_NATS_URL", "nats", &acks))));
    env.extend((0..SINKS).map(|n| (workloads::sink(n), through("MP_CLICKHOUSE_URL", "http", &inserts))));
    let shape = Shape { pods: PODS, sinks: SINKS, env, ..Shape::default() };
    let (world, traffic) = conservation::begin(job, seed, shape, PACE)?;
    under_load(job, &traffic, Until::Done, |traffic| {
        away::clickhouse(job, &world, traffic, plan.away, round)?;
        away::nats(job, &world, traffic, plan.away, round)?;
        lose(job, plan.answers, [("PubAcks", &acks), ("answers to inserts", &inserts)], round)
    })?;
    system_calls(job, &world, &traffic, round, not_run)?;
    round.part("behind proxies", |round| conservation::judge(job, &world, &traffic, round))
}

/// Where a part of the proof's platform listens: chosen when the platform starts, after the proxies.
fn port(job: &Job<'_>, part: &'static str) -> Box<dyn Fn() -> Option<SocketAddr> + Send + Sync> {
    let dir = job.paths.dev.join("prove");
    Box::new(move || {
        let port = State::load(&dir).ok()?.ports.get(part).ok()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    })
}

/// Loses answers of both kinds, one after the other.
fn lose(job: &Job<'_>, count: u64, proxies: [(&str, &Lossy); 2], round: &mut Round) -> Result<()> {
    let task = job.progress.task("lost answers", "PubAcks and answers to inserts, under load");
    for _ in 0..count {
        for (what, proxy) in proxies {
            let before = proxy.lost();
            proxy.arm();
            job.cancel.until(LOST_WITHIN, Duration::from_millis(10), || {
                Ok((proxy.lost() > before).then_some(()))
            })?;
            task.comment(&format!("{what}: {}", proxy.lost()));
        }
    }
    for (what, proxy) in proxies {
        round.number(&format!("lost {what}"), proxy.lost());
        round.at_most(
            format!("{what} that were to be lost and were not"),
            (count - proxy.lost().min(count)) as f64,
            0.0,
        );
    }
    task.done("lost");
    Ok(())
}

/// Watches NATS's system calls while requests are sent one by one.
fn system_calls(
    job: &Job<'_>,
    world: &World,
    traffic: &Traffic,
    round: &mut Round,
    not_run: &mut Vec<String>,
) -> Result<()> {
    let file = job.paths.dev.join("prove").join("strace.txt");
    let pid = world.platform.pid("nats")?;
    let mut strace = Command::new("strace");
    let strace = strace.args(syncs::ARGUMENTS).args(["-p", &pid.to_string()]).arg("-o").arg(&file);
    let Ok(mut child) = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    else {
        not_run.push("sync before PubAck by system calls: strace is not installed".into());
        return Ok(());
    };
    // Threads are attached one by one; the store is synced once a second at least, by heartbeats of pods.
    let attached = job.cancel.until(ATTACHED_WITHIN, Duration::from_millis(100), || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        Ok((text.lines().count() > 10 || matches!(child.try_wait(), Ok(Some(_)))).then_some(()))
    })?;
    if attached.is_none() || matches!(child.try_wait(), Ok(Some(_))) {
        drop(child.kill());
        drop(child.wait());
        not_run.push("sync before PubAck by system calls: strace cannot attach here".into());
        return Ok(());
    }
    for _ in 0..WATCHED {
        traffic.one(WATCHED_TENANT.0, job.cancel);
    }
    signal::send(Target::Process(child.id()), Signal::Term);
    drop(child.wait());
    let text = fs::read(&file).map_err(Error::io(format!("cannot read {}", file.display())))?;
    let seen = syncs::read(String::from_utf8_lossy(&text).lines(), WATCHED_TENANT.1);
    round.number("syncs: PubAcks seen", seen.acknowledged);
    round.number("syncs: syncs of the lane's blocks seen", seen.syncs);
    let unseen = (WATCHED as u64).saturating_sub(seen.acknowledged);
    round.at_most("syncs: PubAcks that were not seen", unseen as f64, 0.0);
    round.at_most("syncs: PubAcks that left before what they acknowledge was synced", seen.early as f64, 0.0);
    Ok(())
}

/// NATS on a disk that becomes full under load.
fn full(job: &Job<'_>, seed: u64, plan: &Plan, round: &mut Round, not_run: &mut Vec<String>) -> Result<()> {
    let probe = job.paths.dev.join("mount-probe");
    let mounted = disk::Disk::mount(&probe, 1).map(drop);
    drop(fs::remove_dir(&probe));
    if let Err(error) = mounted {
        not_run.push(format!("disk full: {error}"));
        return Ok(());
    }
    let shape = Shape { pods: PODS, sinks: SINKS, nats_disk_mib: Some(DISK_MIB), ..Shape::default() };
    let (world, traffic) = conservation::begin(job, seed, shape, PACE)?;
    under_load(job, &traffic, Until::Done, |traffic| away::disk(job, &world, traffic, plan.full, round))?;
    round.part("disk full", |round| conservation::judge(job, &world, &traffic, round))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watched_tenant_has_a_lane_of_its_own() {
        let lanes = conservation::tenants::lanes().unwrap();
        assert_eq!(lanes[WATCHED_TENANT.0].stream(), WATCHED_TENANT.1);
    }
}
