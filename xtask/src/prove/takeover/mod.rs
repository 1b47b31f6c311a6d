//! `prove takeover`: two operators, of which one leads.
//!
//! ```text
//! edits ──────────────────────────────────────────────────── end
//!        leader frozen ─> the other leads ─> an edit is enforced ─> all is settled ─> [state] ─> leader wakes, ends ─> [state]
//!        leader ended  ─> the other leads ─> an edit is enforced
//! ```
//! Both states must be the same: every object at the apiserver by its version, streams and their last sequences, tables, users, keys.

mod edits;
mod state;
mod trial;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, enforcement};
use crate::cargo::{self, Programs};
use crate::load::pool::quantile;
use crate::platform::workloads::SECOND_OPERATOR;
use crate::simulate::rng::Rng;
use crate::{Error, Result};

use trial::{End, Outcome};

/// Who stands for election.
const OPERATORS: [&str; 2] = ["operator", SECOND_OPERATOR];
/// Ingest pods: those that enforce what is edited.
const PODS: usize = 2;

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let (tenants, freezes, ends) = if job.args.scale == Scale::Small { (4, 2, 1) } else { (20, 20, 10) };
    let tenants = job.args.tenants.unwrap_or(tenants);
    let mut shape = Shape { pods: PODS, ..Shape::default() };
    if job.args.planted {
        let unfenced = unfenced(job)?;
        shape.programs = OPERATORS.map(|name| (name.to_owned(), unfenced.clone())).into();
    }
    let world = World::of(job, shape)?;
    world.platform.start_part(SECOND_OPERATOR)?;
    let mut round = Round { seed, ..Round::default() };
    let proxy = Proxy::start(&world, job)?;
    enforcement::load(job, &world, &proxy, tenants, &mut round)?;
    let mut rng = Rng::new(seed ^ 0x1ead);
    let mut outcomes = Vec::new();
    for (n, end) in order(freezes, ends, &mut rng).into_iter().enumerate() {
        let task =
            job.progress.task(&format!("trial {}", n + 1), &format!("{end:?} while edits are under way"));
        let outcome = trial::run(job, &world, &proxy, tenants, end, &mut rng)?;
        task.done(&outcome.to_string());
        outcomes.push(outcome);
    }
    judge(&mut round, &outcomes);
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// The trials in an order of the seed's.
fn order(freezes: usize, ends: usize, rng: &mut Rng) -> Vec<End> {
    let mut left = [(End::Frozen, freezes), (End::Terminated, ends)];
    let mut order = Vec::new();
    while order.len() < freezes + ends {
        let (end, left) = &mut left[rng.below(2)];
        if *left > 0 {
            *left -= 1;
            order.push(*end);
        }
    }
    order
}

fn judge(round: &mut Round, outcomes: &[Outcome]) {
    round.number("trials", outcomes.iter().map(Outcome::json).collect::<Vec<_>>());
    for (end, name, most) in [(End::Frozen, "frozen", 15.0), (End::Terminated, "terminated", 5.0)] {
        let of_kind = || outcomes.iter().filter(move |outcome| outcome.end == end);
        for (what, pick) in [
            ("another leads", (|outcome| outcome.led) as fn(&Outcome) -> Option<Duration>),
            ("an edit made after it is enforced", |outcome| outcome.enforced),
        ] {
            // One that never came counts as endless.
            let mut times: Vec<Duration> =
                of_kind().map(|outcome| pick(outcome).unwrap_or(Duration::MAX)).collect();
            let median = quantile(&mut times, 0.5).as_secs_f64();
            let max = times.iter().max().map_or(f64::INFINITY, Duration::as_secs_f64);
            round.number(&format!("{name}: seconds until {what}, median"), median);
            round.at_most(format!("{name}: seconds until {what}, max of {}", times.len()), max, most);
        }
    }
    let woken = || outcomes.iter().filter(|outcome| outcome.end == End::Frozen);
    let count = |wanted: fn(&Outcome) -> bool| woken().filter(|outcome| wanted(outcome)).count() as f64;
    let ends: Vec<f64> = woken().filter_map(|outcome| outcome.ended).map(|took| took.as_secs_f64()).collect();
    round.number("woken leaders: seconds until they ended, max", ends.iter().copied().fold(0.0, f64::max));
    round.at_most("woken leaders that did not end", count(|outcome| outcome.ended.is_none()), 0.0);
    let changes: usize = woken().map(|outcome| outcome.changes.len()).sum();
    round.at_most("things that changed when a leader of yesterday woke", changes as f64, 0.0);
    round.at_most("moments at which both led", outcomes.iter().map(|outcome| outcome.both as f64).sum(), 0.0);
}

/// Operators whose gate never closes and that never end: what they change when they wake must be found.
fn unfenced(job: &Job<'_>) -> Result<PathBuf> {
    let task = job.progress.task("unfenced operator", "the planted fault");
    let features = ["operator/unfenced".to_owned()];
    let programs = Programs { packages: &["operator"], features: &features, ..Programs::default() };
    let built = cargo::build(job.paths, programs, &task, job.cancel)?.join("operator");
    // The fenced one is built in the same place.
    let folder = job.paths.dev.join("unfenced");
    let copied =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::copy(&built, folder.join("operator")));
    copied.map_err(Error::io(format!("cannot copy {}", built.display())))?;
    task.done("built");
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End, seconds: Option<u64>, changes: usize) -> Outcome {
        let led = seconds.map(Duration::from_secs);
        let changes = vec!["plan/proof".to_owned(); changes];
        Outcome { end, led, enforced: led, ended: Some(Duration::ZERO), changes, both: 0, edits: 1 }
    }

    #[test]
    fn every_trial_is_there_once() {
        let order = order(20, 10, &mut Rng::new(3));
        assert_eq!(order.iter().filter(|end| **end == End::Frozen).count(), 20);
        assert_eq!(order.len(), 30);
    }

    #[test]
    fn a_change_by_a_woken_leader_or_a_late_successor_breaks_the_round() {
        let holds = |outcomes: &[Outcome]| {
            let mut round = Round::default();
            judge(&mut round, outcomes);
            round.checks.iter().all(|check| check.holds)
        };
        let good = || vec![outcome(End::Frozen, Some(11), 0), outcome(End::Terminated, Some(2), 0)];
        assert!(holds(&good()));
        for bad in [
            outcome(End::Frozen, Some(11), 1),
            outcome(End::Frozen, Some(16), 0),
            outcome(End::Frozen, None, 0),
            outcome(End::Terminated, Some(6), 0),
            Outcome { ended: None, ..outcome(End::Frozen, Some(11), 0) },
            Outcome { both: 1, ..outcome(End::Terminated, Some(1), 0) },
        ] {
            assert!(!holds(&[good(), vec![bad]].concat()));
        }
    }
}
