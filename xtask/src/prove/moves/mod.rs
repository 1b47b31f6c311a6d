//! `prove moves`: tenants move between lanes while their apps send, and a pod stands still across each cut-over.
//!
//! ```text
//! clients repeat until they are answered ──────────────────────────────────────────────────────────────.
//! somebody asks for a tenant's events, again and again: never fewer than before, no id twice           +-> as `faults`
//! packs that are in two lanes at once                                                                   |
//! pod stopped ─> isolation changed ─> cut-over noted ─> pod goes on, with what it held ─> lane settled ─'
//! ```
//! Clients, books and verdict are those of `prove faults`.

pub(super) mod echoes;
mod queries;

use std::time::{Duration, Instant};

use event::Lane;
use event::names::SEATS_BUCKET;
use event::seat::Seat;
use serde_json::{Value, json};

use super::conservation::traffic::Pace;
use super::conservation::{self, Until, under_load};
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, nats, pods};
use crate::platform::workloads;
use crate::simulate::rng::Rng;
use crate::{Error, Result};

/// How long one move may take, its faults included.
const MOVED_WITHIN: Duration = Duration::from_secs(120);
/// How often its progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two moves.
const BETWEEN: Duration = Duration::from_secs(2);
/// Pods and sinks.
const SHAPE: (usize, usize) = (3, 2);
/// Distinct events a second.
const PER_SECOND: u64 = 800;

/// Who moves, and whether it has a lane of its own at first.
const MOVERS: [(&str, bool); 3] = [("users", false), ("total", true), ("free", false)];

/// Those whose packs are put into both of their lanes: they have no quota that never starts anew.
const ECHOED: [&str; 2] = ["users", "free"];

/// A tenant's way to the other kind of lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    tenant: &'static str,
    to_own: bool,
    /// The pod that stands still across the cut-over.
    pod: usize,
    /// How long it stands still after that.
    longer: Duration,
    /// A sink that stands still meanwhile, for so long that another takes its lanes.
    sink: Option<usize>,
}

/// There and back as often as the scale says; the first that moves is back before the last one begins only at full scale.
fn steps(seed: u64, scale: Scale) -> Vec<Step> {
    let (movers, times) = match scale {
        Scale::Small => (&MOVERS[..2], 2),
        Scale::Full => (&MOVERS[..], 8),
    };
    let mut rng = Rng::new(seed ^ 0x5ea7);
    let mut steps = Vec::new();
    for time in 0..times {
        for (n, (tenant, own)) in movers.iter().enumerate() {
            let (pod, longer) = (rng.below(SHAPE.0), Duration::from_millis(rng.below(3_000) as u64));
            let sink = ((time + n) % 2 == 1).then(|| rng.below(SHAPE.1));
            steps.push(Step { tenant, to_own: *own == (time % 2 == 1), pod, longer, sink });
        }
    }
    steps
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let lanes =
        MOVERS.iter().filter(|(_, own)| !own).map(|(name, _)| own_lane(name)).collect::<Result<_>>()?;
    let steps = steps(seed, job.args.scale);
    let shape = Shape { pods: SHAPE.0, sinks: SHAPE.1, lanes, ..Shape::default() };
    let pace = Pace { events: 10_000_000, per_second: PER_SECOND };
    let (mut world, traffic) = conservation::begin(job, seed, shape, pace)?;
    let (moved, echoes, asked) = under_load(job, &traffic, Until::Done, |_| {
        let ((moved, echoes), asked) = queries::meanwhile(job, &world, &names(), || {
            echoes::meanwhile(&world, &ECHOED, job.args.planted, || move_all(job, &world, &steps))
        })?;
        Ok((moved, echoes, asked))
    })?;
    let mut round = Round { seed, ..Round::default() };
    // A lane of one's own is there only once somebody has moved to it.
    world.lanes.retain(|lane| steps.iter().any(|step| own_lane(step.tenant).is_ok_and(|own| own == *lane)));
    round.number("moves", moved.iter().map(Moved::json).collect::<Vec<_>>());
    round.number(
        "messages of a lane of its own behind its cut-over",
        moved.iter().map(|one| one.late).sum::<u64>(),
    );
    round.at_most("moves that did not arrive", (steps.len() - moved.len()) as f64, 0.0);
    round.number("packs that were in two lanes", echoes);
    round.at_most("rounds without a pack in two lanes", f64::from(u8::from(echoes == 0)), 0.0);
    asked.judge(&mut round);
    conservation::judge(job, &world, &traffic, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn names() -> Vec<&'static str> {
    MOVERS.iter().map(|(name, _)| *name).collect()
}

fn own_lane(tenant: &str) -> Result<Lane> {
    let wrong = |e: event::names::InvalidTenantName| Error::Format {
        what: format!("lane {tenant}"),
        detail: e.to_string(),
    };
    tenant.parse().map(Lane::Dedicated).map_err(wrong)
}

/// What came of one step.
#[derive(Debug)]
struct Moved {
    step: Step,
    took: Duration,
    /// Messages that the old lane got behind the cut-over, if nobody else writes there.
    late: u64,
}

impl Moved {
    fn json(&self) -> Value {
        let Step { tenant, to_own, pod, longer, sink } = self.step;
        json!({
            "tenant": tenant, "to": if to_own { "Dedicated" } else { "Pooled" }, "seconds": self.took.as_secs_f64(),
            "frozenPod": pods::name(pod), "frozenAfterCutOverMs": longer.as_millis() as u64,
            "frozenSink": sink.map(workloads::sink), "messagesBehindCutOver": self.late,
        })
    }
}

fn move_all(job: &Job<'_>, world: &World, steps: &[Step]) -> Result<Vec<Moved>> {
    let mut moved = Vec::new();
    for step in steps {
        job.cancel.pause(BETWEEN)?;
        let task = job.progress.task("move", &format!("{} to {}", step.tenant, isolation(step)));
        match one(job, world, *step)? {
            Some(done) => {
                task.done(&format!("arrived after {:.1} s", done.took.as_secs_f64()));
                moved.push(done);
            }
            None => {
                task.done("did not arrive");
                break;
            }
        }
    }
    Ok(moved)
}

fn isolation(step: &Step) -> &'static str {
    if step.to_own { "Dedicated" } else { "Pooled" }
}

/// One move, with a pod that stands still from before it until after its cut-over. `None`: it did not arrive.
fn one(job: &Job<'_>, world: &World, step: Step) -> Result<Option<Moved>> {
    let (began, platform) = (Instant::now(), &world.platform);
    let pod = pods::name(step.pod);
    platform.pause(&pod)?;
    if let Some(sink) = step.sink {
        platform.pause(&workloads::sink(sink))?;
    }
    let cut = cut_over(job, world, &step);
    drop(job.cancel.pause(step.longer));
    // Whatever came of it, everything runs again.
    platform.resume(&pod)?;
    if let Some(sink) = step.sink {
        platform.resume(&workloads::sink(sink))?;
    }
    let Some(cut) = cut? else { return Ok(None) };
    let arrived = job.cancel.until(MOVED_WITHIN, LOOK_EVERY, || {
        Ok(seat(world, step.tenant)?.filter(|(_, seat)| seat.moving.is_none()).map(drop))
    })?;
    let late = match step.to_own {
        true => 0,
        false => last_sequence(world, &own_lane(step.tenant)?)?.saturating_sub(cut),
    };
    Ok(arrived.map(|()| Moved { step, took: began.elapsed(), late }))
}

/// Changes the tenant's isolation; the last message of the old lane when no other pod wrote there any more.
fn cut_over(job: &Job<'_>, world: &World, step: &Step) -> Result<Option<u64>> {
    let patch = json!({"spec": {"isolation": isolation(step)}}).to_string();
    world.platform.kubectl().run(&["patch", "tenant", step.tenant, "--type=merge", "--patch", &patch])?;
    job.cancel.until(MOVED_WITHIN, LOOK_EVERY, || {
        let moving = seat(world, step.tenant)?.and_then(|(_, seat)| seat.moving);
        Ok(moving.and_then(|moving| moving.cut_over).map(|mark| mark.sequence))
    })
}

/// A tenant's seat and its key, once it has moved.
pub(super) fn seat(world: &World, tenant: &str) -> Result<Option<(String, Seat)>> {
    let entries = nats::bucket(&world.platform, SEATS_BUCKET)?;
    let seats = entries.into_iter().filter_map(|entry| {
        let seat: Seat = serde_json::from_value(entry.value).ok()?;
        Some((entry.key, seat))
    });
    Ok(seats.into_iter().find(|(_, seat)| seat.tenant.as_str() == tenant))
}

fn last_sequence(world: &World, lane: &Lane) -> Result<u64> {
    let info = nats::request(&world.platform, &format!("$JS.API.STREAM.INFO.{}", lane.stream()), "")?;
    Ok(info["state"]["last_seq"].as_u64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_moves_and_everybody_comes_back() {
        for scale in [Scale::Small, Scale::Full] {
            assert_eq!(steps(3, scale), steps(3, scale));
            for (tenant, own) in MOVERS {
                let of: Vec<bool> = steps(3, scale)
                    .iter()
                    .filter(|step| step.tenant == tenant)
                    .map(|step| step.to_own)
                    .collect();
                assert!(
                    of.iter().enumerate().all(|(at, to_own)| *to_own == (own == (at % 2 == 1))),
                    "{of:?}"
                );
                assert_eq!(of.len() % 2, 0);
            }
        }
        assert_eq!((steps(3, Scale::Small).len(), steps(3, Scale::Full).len()), (4, 24));
    }
}
