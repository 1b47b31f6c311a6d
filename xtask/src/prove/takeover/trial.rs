//! One trial: the leader stops being there, the other takes over, and the first one comes back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::Job;
use super::super::enforcement::{LIMITS, enforced, own};
use super::super::proxy::Proxy;
use super::super::world::World;
use super::state::{State, differences, read};
use super::{OPERATORS, edits};
use crate::simulate::rng::Rng;
use crate::{Error, Result};

/// How long a takeover may take before it counts as one that never came.
const LED_WITHIN: Duration = Duration::from_secs(40);
/// How long everything may take to be settled once nobody edits any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Nothing has changed for so long: longer than the operator's slowest writers wait between two writes.
const SETTLED_FOR: Duration = Duration::from_secs(12);
/// How long a woken leader may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
/// How long it is waited for what a woken leader may have begun.
const AFTERMATH: Duration = Duration::from_secs(6);
/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What happens to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGSTOP, and SIGCONT when another leads.
    Frozen,
    /// SIGTERM.
    Terminated,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened.
    pub end: End,
    /// Until another led.
    pub led: Option<Duration>,
    /// Until a change that was made after the signal was enforced.
    pub enforced: Option<Duration>,
    /// From waking until the process ended.
    pub ended: Option<Duration>,
    /// What differed between before the waking and after it.
    pub changes: Vec<String>,
    /// Looks at which both said that they led.
    pub both: usize,
    /// Edits that were made.
    pub edits: usize,
}

impl Outcome {
    /// For the result file.
    pub fn json(&self) -> Value {
        let seconds = |took: Option<Duration>| took.map(|took| took.as_secs_f64());
        json!({
            "end": format!("{:?}", self.end), "edits": self.edits, "secondsToLeader": seconds(self.led),
            "secondsToEnforced": seconds(self.enforced), "secondsToEnd": seconds(self.ended), "changes": self.changes,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |took: Option<Duration>| {
            took.map_or("never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()))
        };
        write!(f, "another led after {}, enforced after {}", seconds(self.led), seconds(self.enforced))?;
        match self.end {
            End::Frozen => {
                write!(f, "; woken it ended after {}; {} changes", seconds(self.ended), self.changes.len())
            }
            End::Terminated => Ok(()),
        }
    }
}

/// Runs one, and leaves both operators running.
///
/// # Errors
/// When it could not be tried.
pub fn run(
    job: &Job<'_>,
    world: &World,
    proxy: &Proxy,
    tenants: usize,
    end: End,
    rng: &mut Rng,
) -> Result<Outcome> {
    let leader = leader(job, world)?;
    let other = OPERATORS.into_iter().find(|name| *name != leader).unwrap_or(OPERATORS[1]);
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (seed, moment) = (rng.bits(), Duration::from_millis(500 + rng.below(3_500) as u64));
    let mut outcome =
        Outcome { end, led: None, enforced: None, ended: None, changes: vec![], both: 0, edits: 0 };
    std::thread::scope(|scope| {
        scope.spawn(|| edits::edit(job, proxy, tenants, seed, &stop, &made));
        let taken = taken_over(job, world, proxy, (leader, other), moment, &mut outcome);
        stop.store(true, Ordering::Relaxed);
        taken
    })?;
    outcome.edits = made.load(Ordering::Relaxed);
    if end == End::Frozen {
        let before = settled(job, world, proxy)?;
        outcome.ended = woken(job, world, leader)?;
        job.cancel.pause(AFTERMATH)?;
        outcome.both += usize::from(leads(world, leader) && leads(world, other));
        outcome.changes = differences(&before, &read(world, proxy)?);
        if outcome.ended.is_none() {
            world.platform.kill9(leader)?;
        }
    }
    // As the kubelet does.
    world.platform.start_part(leader)?;
    Ok(outcome)
}

/// Ends or freezes the leader after `moment`, and measures how soon it is followed.
fn taken_over(
    job: &Job<'_>,
    world: &World,
    proxy: &Proxy,
    (leader, other): (&str, &str),
    moment: Duration,
    outcome: &mut Outcome,
) -> Result<()> {
    job.cancel.pause(moment)?;
    let signalled = Instant::now();
    match outcome.end {
        End::Frozen => world.platform.pause(leader)?,
        End::Terminated => world.platform.stop_part(leader)?,
    }
    let change = json!({"spec": {"warnAt": [10 + (moment.as_millis() % 80) as u32]}});
    let changed = proxy.patch(&own(0), &change)?;
    let generation = changed["metadata"]["generation"].as_i64().unwrap_or(i64::MAX);
    outcome.led =
        job.cancel.until(LED_WITHIN, LOOK, || Ok(leads(world, other).then(|| signalled.elapsed())))?;
    outcome.enforced = job.cancel.until(LED_WITHIN, LOOK, || {
        let reached = enforced(&proxy.get(&own(0))?).is_some_and(|seen| seen >= generation);
        Ok(reached.then(|| signalled.elapsed()))
    })?;
    Ok(())
}

/// Wakes the leader of yesterday and waits until it has ended.
fn woken(job: &Job<'_>, world: &World, leader: &str) -> Result<Option<Duration>> {
    world.platform.resume(leader)?;
    let woken = Instant::now();
    job.cancel.until(ENDED_WITHIN, LOOK, || {
        let ended = world.platform.crashes().iter().any(|crash| crash.part == leader);
        Ok(ended.then(|| woken.elapsed()))
    })
}

/// The one that leads, when there is one.
fn leader(job: &Job<'_>, world: &World) -> Result<&'static str> {
    let found =
        job.cancel.until(LED_WITHIN, LOOK, || Ok(OPERATORS.into_iter().find(|name| leads(world, name))))?;
    found.ok_or_else(|| Error::Program {
        program: "the operators".into(),
        detail: format!("none of them led within {} s", LED_WITHIN.as_secs()),
    })
}

/// Whether an operator says that it leads; one that does not answer does not.
fn leads(world: &World, operator: &str) -> bool {
    let Ok(url) = world.platform.url(&format!("{operator}-admin")) else { return false };
    // A frozen one accepts the connection and never answers.
    let quick = crate::http::Http::new(Duration::from_millis(500));
    let page = quick.get(&format!("{url}/metrics"), &[]);
    page.is_ok_and(|page| page.body.lines().any(|line| line.trim() == "meterplane_leader 1"))
}

/// The state when all edits are enforced and nothing has changed for a while.
fn settled(job: &Job<'_>, world: &World, proxy: &Proxy) -> Result<State> {
    let (mut last, mut since, mut why) = (State::new(), Instant::now(), vec![]);
    let settled = job.cancel.until(SETTLED_WITHIN, Duration::from_secs(1), || {
        let limits = proxy.get(LIMITS)?;
        let current = |limit: &Value| enforced(limit) == limit["metadata"]["generation"].as_i64();
        let all = limits["items"].as_array().is_some_and(|limits| limits.iter().all(current));
        let now = read(world, proxy)?;
        if !all || now != last {
            why = differences(&last, &now);
            (last, since) = (now, Instant::now());
        }
        Ok((since.elapsed() >= SETTLED_FOR).then(|| last.clone()))
    })?;
    settled.ok_or_else(|| Error::Program {
        program: "settling".into(),
        detail: format!("something changes all the time: {}", why.join(", ")),
    })
}
