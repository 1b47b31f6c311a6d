//! What goes wrong, and when: schedules that the seed decides, and their execution.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pods::{self, PODS};
use crate::platform::Platform;
use crate::simulate::rng::Rng;
use crate::{Cancel, Error, Result};

/// How long a part that was killed may take until it serves again, other parts being down meanwhile.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often parts that ended by themselves are looked for.
const KEEP_EVERY: Duration = Duration::from_millis(200);

/// What happens to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It dies as in a power cut and is started again after this long.
    Kill(Duration),
    /// It stands still for this long.
    Freeze(Duration),
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The part's name.
    pub part: String,
    /// What happens to it.
    pub kind: Kind,
}

/// A fault and when it begins.
pub type Planned = (Duration, Fault);

/// What a storm did.
#[derive(Debug, Default)]
pub struct Storm {
    /// The faults, in the order in which they began.
    pub done: Vec<Planned>,
    /// Parts that ended by themselves and were started again, as a cluster does: pods that were taken for dead.
    pub ended: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Kill(down) => write!(f, "{} killed, down {:.1} s", self.part, down.as_secs_f64()),
            Kind::Freeze(pause) => write!(f, "{} frozen {:.1} s", self.part, pause.as_secs_f64()),
        }
    }
}

/// Faults of pods and NATS with the moments at which they begin, in order, within `lasting`.
pub fn schedule(seed: u64, lasting: Duration, every: Duration) -> Vec<Planned> {
    let mut rng = Rng::new(seed ^ 0xfa17);
    let count = (lasting.as_millis() / every.as_millis().max(1)) as u32;
    let nats = || "nats".to_owned();
    (0..count)
        .map(|n| {
            let at = every * n + every.mul_f64(0.2 + 0.6 * rng.unit());
            let (pod, pause) = (rng.below(PODS), Duration::from_millis(500 + rng.below(7_500) as u64));
            let (part, kind) = match rng.below(10) {
                0..4 => (pods::name(pod), Kind::Kill(Duration::ZERO)),
                4..8 => (pods::name(pod), Kind::Freeze(pause)),
                8 => (nats(), Kind::Kill(Duration::ZERO)),
                _ => (nats(), Kind::Freeze(pause.min(Duration::from_secs(3)))),
            };
            (at, Fault { part, kind })
        })
        .collect()
}

/// `count` faults over all of `parts`: each part is killed once and frozen once before any is a second time. They overlap when
/// one lasts longer than `every`.
pub fn over_all(seed: u64, parts: &[String], count: usize, every: Duration) -> Vec<Planned> {
    let mut rng = Rng::new(seed ^ 0xfa11_0a11);
    let mut deck: Vec<(String, bool)> = Vec::new();
    (0..count as u32)
        .map(|n| {
            if deck.is_empty() {
                deck = parts.iter().flat_map(|part| [(part.clone(), true), (part.clone(), false)]).collect();
            }
            let (part, kills) = deck.swap_remove(rng.below(deck.len()));
            let at = every * n + every.mul_f64(rng.unit());
            let kind = if kills {
                Kind::Kill(Duration::from_millis(rng.below(3_000) as u64))
            } else {
                Kind::Freeze(Duration::from_millis(1_500 + rng.below(8_500) as u64))
            };
            (at, Fault { part, kind })
        })
        .collect()
}

impl Fault {
    /// Makes it happen, and waits until the part runs again, however the wait ends.
    ///
    /// # Errors
    /// When the part does not come back.
    pub fn inflict(&self, platform: &Platform, cancel: &Cancel) -> Result<()> {
        match self.kind {
            Kind::Freeze(pause) => {
                platform.pause(&self.part)?;
                drop(cancel.pause(pause));
                platform.resume(&self.part)
            }
            Kind::Kill(down) => {
                platform.kill9(&self.part)?;
                drop(cancel.pause(down));
                bring_back(platform, &self.part, cancel)
            }
        }
    }
}

/// Starts a part until it stays: what it needs may be down at the same time, and then it ends, as it does in a cluster.
///
/// # Errors
/// When it does not come back.
pub fn bring_back(platform: &Platform, part: &str, cancel: &Cancel) -> Result<()> {
    let began = Instant::now();
    let mut started = platform.start_part(part);
    loop {
        match started {
            Err(Error::Crashed(_) | Error::NotReady { .. })
                if began.elapsed() < BACK_WITHIN && !cancel.is_set() =>
            {
                drop(cancel.pause(Duration::from_millis(500)));
                started = platform.restart(part);
            }
            done => return done,
        }
    }
}

/// Starts every part again that ended by itself, as a cluster does, and names them.
///
/// # Errors
/// When a part does not come back.
pub fn revive(platform: &Platform, cancel: &Cancel) -> Result<Vec<String>> {
    let ended: Vec<String> = platform.crashes().into_iter().map(|crash| crash.part).collect();
    ended.iter().try_for_each(|part| bring_back(platform, part, cancel))?;
    Ok(ended)
}

/// Makes the faults happen one after the other until the schedule or `cancel` ends; every part runs afterwards. Returns what was
/// done.
///
/// # Errors
/// When a part does not come back.
pub fn inflict(platform: &Platform, plan: &[Planned], cancel: &Cancel) -> Result<Vec<Fault>> {
    let (began, mut done) = (Instant::now(), Vec::new());
    for (at, fault) in plan {
        if cancel.pause(at.saturating_sub(began.elapsed())).is_err() {
            break;
        }
        fault.inflict(platform, cancel)?;
        done.push(fault.clone());
    }
    Ok(done)
}

/// Makes the faults happen, those of different parts at the same time when the schedule says so; parts that end by themselves
/// are started again. Every part runs afterwards.
///
/// # Errors
/// When a part does not come back.
pub fn storm(platform: &Platform, plan: &[Planned], cancel: &Cancel) -> Result<Storm> {
    let (began, over) = (Instant::now(), Cancel::default());
    // Whoever stops or starts a part holds its lock.
    let parts: BTreeSet<&str> = plan.iter().map(|(_, fault)| fault.part.as_str()).collect();
    let hands: Vec<(&str, Mutex<()>)> = parts.into_iter().map(|part| (part, Mutex::new(()))).collect();
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| keep(platform, &hands, &over, cancel));
        let threads: Vec<_> = hands
            .iter()
            .map(|(part, hand)| scope.spawn(move || on_part(platform, plan, part, hand, began, cancel)))
            .collect();
        let results: Vec<Result<Vec<Planned>>> =
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Interrupted))).collect();
        over.set();
        let ended = keeper.join().unwrap_or(Err(Error::Interrupted))?;
        let mut done = results.into_iter().collect::<Result<Vec<_>>>()?.concat();
        done.sort_by_key(|(at, _)| *at);
        Ok(Storm { done, ended })
    })
}

/// The faults of one part, in order.
fn on_part(
    platform: &Platform,
    plan: &[Planned],
    part: &str,
    hand: &Mutex<()>,
    began: Instant,
    cancel: &Cancel,
) -> Result<Vec<Planned>> {
    let mut done = Vec::new();
    for (at, fault) in plan.iter().filter(|(_, fault)| fault.part == part) {
        if cancel.pause(at.saturating_sub(began.elapsed())).is_err() {
            break;
        }
        let _hand = hand.lock().unwrap_or_else(PoisonError::into_inner);
        fault.inflict(platform, cancel)?;
        done.push((*at, fault.clone()));
    }
    Ok(done)
}

/// Starts what ended by itself until `over`, and looks once more then.
fn keep(
    platform: &Platform,
    hands: &[(&str, Mutex<()>)],
    over: &Cancel,
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let (mut ended, mut waiting) = (Vec::new(), Vec::new());
    loop {
        let last = over.pause(KEEP_EVERY).is_err();
        waiting.extend(platform.crashes().into_iter().map(|crash| crash.part));
        let mut later = Vec::new();
        for part in std::mem::take(&mut waiting) {
            let hand = hands.iter().find(|(name, _)| *name == part).map(|(_, hand)| hand.try_lock());
            match hand {
                // Its fault has it in hand: it may be starting it at this moment.
                Some(Err(_)) => later.push(part),
                _ if platform.pid(&part).is_ok() => {}
                _ => {
                    bring_back(platform, &part, cancel)?;
                    ended.push(part);
                }
            }
        }
        waiting = later;
        if (last && waiting.is_empty()) || cancel.is_set() {
            return Ok(ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_in_order() {
        let plan = |seed| schedule(seed, Duration::from_secs(300), Duration::from_secs(6));
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert_eq!(plan(1).len(), 50);
        assert!(plan(1).windows(2).all(|pair| pair[0].0 < pair[1].0));
        let kills = plan(1).iter().filter(|(_, fault)| matches!(fault.kind, Kind::Kill(_))).count();
        assert!((10..35).contains(&kills), "{kills}");
    }

    #[test]
    fn every_part_is_killed_and_frozen_before_any_is_again() {
        let parts = ["a", "b", "c"].map(str::to_owned);
        let plan = |seed| over_all(seed, &parts, 8, Duration::from_secs(2));
        assert_eq!(plan(5), plan(5));
        assert_ne!(plan(5), plan(6));
        assert!(plan(5).windows(2).all(|pair| pair[0].0 <= pair[1].0));
        let first: BTreeSet<(String, bool)> = plan(5)[..6]
            .iter()
            .map(|(_, fault)| (fault.part.clone(), matches!(fault.kind, Kind::Kill(_))))
            .collect();
        assert_eq!(first.len(), 6);
    }
}
