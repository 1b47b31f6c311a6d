//! `prove quotas`: nothing beyond a limit is stored, whatever happens to pods and NATS; and little is left unused.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::check::{self, Stored};
use super::load::{Load, Told};
use super::report::Round;
use super::world::World;
use super::{Job, Nats, Scale, failover, faults, limits, pods};
use crate::{Cancel, Error, Result};

const TENANT: &str = "proof";

/// How long faults go on, and how often one begins.
fn storm(job: &Job<'_>) -> (Duration, Duration) {
    match job.args.scale {
        _ if job.args.calm => (Duration::ZERO, Duration::from_secs(1)),
        Scale::Small => (Duration::from_secs(15), Duration::from_secs(3)),
        Scale::Full => (Duration::from_secs(180), Duration::from_secs(6)),
    }
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let world = World::start(job)?;
    let all = limits::all(job.args.scale);
    let room: u64 = all.iter().filter(|limit| !limit.per_user).map(|limit| limit.cap).sum();
    let key = world.tenant(job, TENANT, &limits::yaml(TENANT, &all, room * 4))?;
    let urls = world.urls()?;
    let (told, storm_over) = (Told::default(), Cancel::default());
    let (lasting, every) = storm(job);
    let load = Load::new(&all, &urls, &key, seed, &told, &storm_over, lasting);
    let within = lasting + Duration::from_secs(600);
    let mut round = Round { seed, ..Round::default() };
    let (used_up, inflicted) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let done = if job.args.nats == Nats::R3 && !job.args.calm {
                failover::inflict(&world.platform, job, seed, &urls, &key)
            } else {
                let plan = faults::schedule(seed, lasting, every);
                faults::inflict(&world.platform, &plan, job.cancel).map(|done| {
                    let text = done.iter().map(ToString::to_string).collect::<Vec<_>>();
                    failover::Inflicted { faults: text, unavailable_ms: vec![] }
                })
            };
            storm_over.set();
            done
        });
        let used_up = load.run(within, job.progress, job.cancel);
        (used_up, storm.join().unwrap_or(Err(Error::Interrupted)))
    });
    let inflicted = inflicted?;
    if job.cancel.is_set() {
        return Err(Error::Interrupted);
    }
    let stored = world.await_stored(job, TENANT)?;
    round.number("faults", inflicted.faults.len());
    round.number("faultsInOrder", inflicted.faults);
    if !inflicted.unavailable_ms.is_empty() {
        round.number("unavailableMsPerFailover", inflicted.unavailable_ms.clone());
        let worst = inflicted.unavailable_ms.iter().flatten().max().copied().unwrap_or_default();
        round.number("unavailableMsWorst", worst);
    }
    round.number("limitsUsedUp", used_up);
    round.number("stored", stored);
    for (name, value) in [
        ("sent", &told.sent),
        ("accepted", &told.accepted),
        ("unanswered", &told.lost),
        ("retries", &told.retries),
        ("longestSilenceMs", &told.silence_ms),
    ] {
        round.number(name, value.load(Ordering::Relaxed));
    }
    let silent = inflicted.unavailable_ms.iter().filter(|answered| answered.is_none()).count();
    round.at_most("failovers without any 202 in 60 s", silent as f64, 0.0);
    judge(job, &world, &all, &told, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn judge(job: &Job<'_>, world: &World, all: &[limits::Limit], told: &Told, round: &mut Round) -> Result<()> {
    let (stored, ledger) = (Stored::read(world, TENANT)?, check::ledger(world, TENANT)?);
    let repeats = check::repeats(world, TENANT)?;
    let marks = [r#"outcome="unknown""#];
    let unknown = pods::metric(&world.platform, &world.http, "mp_ingest_events_total", &marks)? as u64;
    let (mut over, mut lines, mut unused_share) = (0, Vec::new(), 0.0_f64);
    let (mut unused, mut held_gone, mut held_live) = (0, 0, 0);
    for limit in all {
        let outcome = stored.of(limit);
        let units = ledger.get(&limit.name).cloned().unwrap_or_default();
        over += outcome.over;
        // Features with a limit per user as well may be used up by their users.
        let alone = !all.iter().any(|other| other != limit && other.feature == limit.feature);
        if alone {
            let left = limit.cap.saturating_sub(outcome.stored);
            unused += left;
            held_gone += units.held_gone;
            held_live += units.held_live;
            if limit.cap >= 100_000 {
                unused_share = unused_share.max(left as f64 / limit.cap as f64);
            }
        }
        lines.push(check::line(limit, &outcome, &units));
    }
    round.number("unusedOfLimitsThatStandAlone", unused);
    round.number("heldByGonePodsOfThose", held_gone);
    round.number("heldByLivePodsOfThose", held_live);
    round.number("repeatsRemoved", repeats);
    round.number("eventsOfUnknownFate", unknown);
    round.number("limits", lines);
    round.at_most("events stored beyond a limit, over 100 limits and their periods", over as f64, 0.0);
    let accepted = told.accepted.load(Ordering::Relaxed);
    let kept = round.numbers.get("stored").and_then(serde_json::Value::as_u64).unwrap_or_default();
    round.at_most("events answered 202 that are not stored", accepted.saturating_sub(kept) as f64, 0.0);
    if job.args.calm {
        if job.args.scale == Scale::Full {
            round.at_most("unused share of caps >= 100,000", unused_share, 0.001);
        }
    } else {
        // A lost answer costs units twice: when the pack was stored, the repeat is charged again; when it was not, nobody
        // knows that, and its charge stays. The rest died with its pods.
        let bound = held_gone + held_live + repeats + unknown;
        round.at_most(
            "unused beyond slices of dead pods, repeats and packs of unknown fate",
            unused.saturating_sub(bound) as f64,
            0.0,
        );
    }
    Ok(())
}
