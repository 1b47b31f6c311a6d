//! `prove mixed`: replicas of two versions side by side, as in a rolling upgrade and its roll-backs.
//!
//! ```text
//! all old ─> some new ─> back ─> … ─> all new ─> the tenant moves ─> all sinks old ─> all sinks new
//!              '─ a tenant is to move: it is told to wait ─┘            '─ they keep away from its lanes
//! ```
//! The operator is the new one throughout, as it is upgraded first. Clients, books and verdict are those of `prove faults`; beside them a
//! tenant's hundred limits are used up, as in `prove quotas`.

mod crossed;
mod mover;
mod rollout;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use event::Lane;
use serde_json::json;

use self::crossed::Sightings;
use self::rollout::{Fleet, Step, Version};
use super::check::{self, Stored};
use super::conservation::traffic::{Pace, Traffic};
use super::conservation::{self, Until, sums, tenants, under_load};
use super::limits::{self, Limit};
use super::load::{Load, Told};
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, versions};
use crate::{Cancel, Error, Result};

/// The last commit whose sinks knew neither seats (`docs/adr/0016-moves.md`) nor rollups nor dead letters: what the others changed since
/// is all that a rolling upgrade can meet. There is no release yet to take instead.
const BEFORE_SEATS: &str = "b50312675438f1ab08d8caf0e3dc05580e8fe374";
/// Pods and sinks.
const SHAPE: (usize, usize) = (4, 4);
/// Distinct events a second, beside those of the limits.
const PER_SECOND: u64 = 1_200;
/// The tenant whose limits are used up.
const LIMITED: &str = "limited";
/// How long all replicas are old at first.
const AT_FIRST: Duration = Duration::from_secs(3);
/// How long both versions run side by side before an upgrade is taken back: lanes have gone to the sinks that they fall to by then.
const SIDE_BY_SIDE: Duration = Duration::from_secs(15);
/// How long clients go on for limits that are not used up.
const USED_UP_WITHIN: Duration = Duration::from_secs(240);
/// Packs of each of the four kinds, at least.
const CROSSED: u64 = 20;

/// What was done to replicas, and what came of the move.
struct Rolled {
    steps: Vec<Step>,
    told: Option<String>,
    /// Steps behind which the move had begun although an old sink ran.
    early: u64,
    arrived: Option<Duration>,
    back: mover::RolledBack,
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let old = versions::build(job, job.args.old.as_deref().unwrap_or(BEFORE_SEATS), &["ingest", "sink"])?;
    let all = [rollout::parts_of(false), rollout::parts_of(true)].concat();
    let programs = all.into_iter().map(|part| (part, old.bins.clone())).collect::<BTreeMap<_, _>>();
    let env = sums::soon(SHAPE.1);
    let lanes = vec![own(LIMITED)?, own(mover::MOVER)?];
    let shape = Shape { pods: SHAPE.0, sinks: SHAPE.1, lanes, programs, env, ..Shape::default() };
    let (mut world, traffic) =
        conservation::begin(job, seed, shape, Pace { events: 10_000_000, per_second: PER_SECOND })?;
    // As many events as its own proof sends at small scale: here the replicas are what is tried.
    let limits = limits::all(Scale::Small);
    let room: u64 = limits.iter().filter(|limit| !limit.per_user).map(|limit| limit.cap).sum();
    let key = world.tenant(job, LIMITED, &limits::yaml(LIMITED, &limits, room * 4))?;
    let (fleet, urls) = (Fleet::new(&world, old.bins.clone()), world.urls()?);
    let (told, seen) = (Told::default(), Mutex::new(Sightings::default()));
    let (rolled, used_up) = under_load(job, &traffic, Until::Done, |_| {
        let over = Cancel::default();
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| crossed::watch(&fleet, &seen, &over));
            let limited = Limited { limits: &limits, key: &key, urls: &urls, seed, told: &told };
            let done = using_up(job, &limited, || roll(job, &fleet, seed));
            over.set();
            drop(watching.join());
            done
        })
    })?;
    let mut round = Round { seed, ..Round::default() };
    round.number("old", old.commit);
    judge_steps(&rolled, &mut round);
    if rolled.arrived.is_none() {
        let own = own(mover::MOVER)?;
        world.lanes.retain(|lane| *lane != own);
    }
    judge(job, &world, &traffic, &mut round)?;
    judge_limits(&world, &limits, &told, used_up, &mut round)?;
    judge_crossed(&world, &seen.into_inner().unwrap_or_else(PoisonError::into_inner), &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn own(tenant: &str) -> Result<Lane> {
    tenant.parse().map(Lane::Dedicated).map_err(|error: event::names::InvalidTenantName| Error::Format {
        what: format!("lane {tenant}"),
        detail: error.to_string(),
    })
}

/// A tenant's limits, and its key.
struct Limited<'a> {
    limits: &'a [Limit],
    key: &'a str,
    urls: &'a [String],
    seed: u64,
    told: &'a Told,
}

/// Uses up the limits while `act` runs and afterwards; whether they are.
fn using_up<T: Send>(
    job: &Job<'_>,
    limited: &Limited<'_>,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<(T, bool)> {
    let (over, give_up, lasting) = (Cancel::default(), Cancel::default(), lasting(job.args.scale));
    let Limited { limits, key, urls, seed, told } = *limited;
    let load = Load::new(limits, urls, key, seed, told, &over, lasting);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| load.run(lasting + USED_UP_WITHIN, job.progress, &give_up));
        let acting = scope.spawn(|| {
            let done = act();
            over.set();
            if done.is_err() {
                give_up.set();
            }
            done
        });
        while !clients.is_finished() {
            if job.cancel.pause(Duration::from_millis(100)).is_err() {
                give_up.set();
                break;
            }
        }
        let done = acting.join().unwrap_or(Err(Error::Interrupted))?;
        Ok((done, clients.join().unwrap_or(false)))
    })
}

/// About how long replicas are replaced: units of the limits are to last as long.
fn lasting(scale: Scale) -> Duration {
    Duration::from_secs(if scale == Scale::Small { 100 } else { 180 })
}

/// Replaces replicas, and lets a tenant move as soon as it may.
fn roll(job: &Job<'_>, fleet: &Fleet<'_>, seed: u64) -> Result<Rolled> {
    job.cancel.pause(AT_FIRST)?;
    let (mut steps, mut told, mut early) = (Vec::new(), None, 0);
    let waves = rollout::waves(seed, job.args.scale);
    let last = waves.len() - 1;
    for (n, wave) in waves.into_iter().enumerate() {
        for step in wave {
            let task = job.progress.task("replaced", &format!("{}: {}", step.part, step.to.name()));
            fleet.replace(&step, job.cancel)?;
            task.done(if step.kills { "it was killed" } else { "it was stopped" });
            let mixed = !fleet.sinks(Version::Old).is_empty();
            early += u64::from(mixed && mover::has_begun(fleet.world)?);
            steps.push(step);
        }
        if n == 0 {
            told = mover::ask(job, fleet)?;
        }
        if n % 2 == 0 && n < last {
            job.cancel.pause(SIDE_BY_SIDE)?;
        }
    }
    let arrived = mover::arrive(job, fleet.world)?;
    let back = match arrived {
        Some(_) => mover::roll_back(job, fleet)?,
        None => mover::RolledBack::default(),
    };
    Ok(Rolled { steps, told, early, arrived, back })
}

fn judge_steps(rolled: &Rolled, round: &mut Round) {
    let Rolled { steps, told, early, arrived, back } = rolled;
    let line = |step: &Step| {
        let freeze =
            step.freeze.as_ref().map(|(sink, longer)| format!("{sink}, {:.1} s", longer.as_secs_f64()));
        json!({"part": step.part, "to": step.to.name(), "killed": step.kills, "thenStoodStill": freeze})
    };
    round.number("replacements", steps.len());
    round.number("replacementsInOrder", steps.iter().map(line).collect::<Vec<_>>());
    round.number("whatTheTenantSaysThatIsToMove", told.clone());
    round.number("moveArrivedAfterTheLastOldSinkSeconds", arrived.map(|took| took.as_secs_f64()));
    round.at_most("moves not held back by name", f64::from(u8::from(told.is_none())), 0.0);
    round.at_most("replacements behind which a move had begun beside an old sink", *early as f64, 0.0);
    round.at_most(
        "moves that did not arrive when all sinks were new",
        f64::from(u8::from(arrived.is_none())),
        0.0,
    );
    back.judge(round);
}

fn judge(job: &Job<'_>, world: &World, traffic: &Traffic, round: &mut Round) -> Result<()> {
    conservation::judge(job, world, traffic, round)?;
    sums::judge(job, world, round)
}

/// Whether limits are used up, and no further.
fn judge_limits(world: &World, all: &[Limit], told: &Told, used_up: bool, round: &mut Round) -> Result<()> {
    let stored = Stored::read(world, LIMITED)?;
    let ledger = check::ledger(world, LIMITED)?;
    let (mut over, mut exact, mut unused_total, mut unused, mut held) = (0, 0, 0, 0, 0);
    for limit in all {
        let outcome = stored.of(limit);
        over += outcome.over;
        exact += u64::from(outcome.most == limit.cap);
        // Features with a limit per user as well may be used up by their users.
        if !all.iter().any(|other| other != limit && other.feature == limit.feature) {
            let left = limit.cap.saturating_sub(outcome.stored);
            *(if limit.total { &mut unused_total } else { &mut unused }) += left;
            held += ledger.get(&limit.name).map_or(0, |units| units.held_gone + units.held_live);
        }
    }
    let repeats = check::repeats(world, LIMITED)?;
    let sql = format!("SELECT count(), count() - uniqExact(id) FROM tenant_{LIMITED}.events FORMAT TSV");
    let rows = world.clickhouse(&sql)?.concat();
    let numbers: Vec<u64> = rows.split('\t').flat_map(str::parse).collect();
    let [rows, twice] = numbers.as_slice() else { return Err(Error::Format { what: sql, detail: rows }) };
    let accepted = told.accepted.load(Ordering::Relaxed);
    round.number("limits used up to the last unit, of 100", exact);
    round.number("unused of limits that stand alone and start anew", unused);
    round.number("held by pods of those", held);
    round.number("repeats removed of the tenant with limits", repeats);
    round.number("events stored of the tenant with limits", *rows);
    round.at_most("events stored beyond a limit, over 100 limits and their periods", over as f64, 0.0);
    let beyond = unused.saturating_sub(held + repeats);
    round.at_most(
        "unused of others that stand alone, beyond slices of dead pods and repeats",
        beyond as f64,
        0.0,
    );
    round.at_most("unused of limits that stand alone and never start anew", unused_total as f64, 0.0);
    round.at_most("runs in which limits were not used up in the end", f64::from(u8::from(!used_up)), 0.0);
    round.at_most("events of that tenant stored twice", *twice as f64, 0.0);
    round.at_most(
        "events of that tenant answered 202 that are not stored",
        accepted.saturating_sub(*rows) as f64,
        0.0,
    );
    Ok(())
}

/// Whether both versions stored what both wrote.
fn judge_crossed(world: &World, seen: &Sightings, round: &mut Round) -> Result<()> {
    let lanes: Vec<Lane> = tenants::lanes()?.into_iter().chain(world.lanes.iter().cloned()).collect();
    let crossed = crossed::count(world, &lanes, seen)?;
    round.number("packs", crossed.json());
    for writer in [Version::Old, Version::New] {
        for storer in [Version::Old, Version::New] {
            let packs = crossed.of(writer, storer);
            let (writer, storer) = (writer.name(), storer.name());
            round.number(&format!("packs of {writer} pods stored by {storer} sinks"), packs);
            round.at_most(
                format!("packs missing to {CROSSED} of {writer} pods stored by {storer} sinks"),
                CROSSED.saturating_sub(packs) as f64,
                0.0,
            );
        }
    }
    Ok(())
}
