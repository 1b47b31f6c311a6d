//! What goes wrong, and when: a schedule that the seed decides, and its execution.

use std::time::{Duration, Instant};

use super::pods::PODS;
use crate::platform::Platform;
use crate::simulate::rng::Rng;
use crate::{Cancel, Result};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A pod dies and is started again.
    KillPod(usize),
    /// A pod stands still for this long.
    FreezePod(usize, Duration),
    /// The only NATS server dies and is started again.
    KillNats,
    /// The only NATS server stands still for this long.
    FreezeNats(Duration),
}

/// Faults with the moments at which they begin, in order, within `lasting`.
pub fn schedule(seed: u64, lasting: Duration, every: Duration) -> Vec<(Duration, Fault)> {
    let mut rng = Rng::new(seed ^ 0xfa17);
    let count = (lasting.as_millis() / every.as_millis().max(1)) as u32;
    (0..count)
        .map(|n| {
            let at = every * n + every.mul_f64(0.2 + 0.6 * rng.unit());
            let (pod, pause) = (rng.below(PODS), Duration::from_millis(500 + rng.below(7_500) as u64));
            let fault = match rng.below(10) {
                0..4 => Fault::KillPod(pod),
                4..8 => Fault::FreezePod(pod, pause),
                8 => Fault::KillNats,
                _ => Fault::FreezeNats(pause.min(Duration::from_secs(3))),
            };
            (at, fault)
        })
        .collect()
}

/// Makes the faults happen until the schedule or `cancel` ends; every part runs afterwards. Returns what was done.
///
/// # Errors
/// When a part does not come back.
pub fn inflict(platform: &Platform, plan: &[(Duration, Fault)], cancel: &Cancel) -> Result<Vec<Fault>> {
    let (began, mut done) = (Instant::now(), Vec::new());
    for (at, fault) in plan {
        if cancel.pause(at.saturating_sub(began.elapsed())).is_err() {
            break;
        }
        let (name, pause) = match *fault {
            Fault::KillPod(pod) => (super::pods::name(pod), None),
            Fault::FreezePod(pod, pause) => (super::pods::name(pod), Some(pause)),
            Fault::KillNats => ("nats".to_owned(), None),
            Fault::FreezeNats(pause) => ("nats".to_owned(), Some(pause)),
        };
        if let Some(pause) = pause {
            platform.pause(&name)?;
            // However the pause ends, the part must go on.
            drop(cancel.pause(pause));
            platform.resume(&name)?;
        } else {
            platform.kill9(&name)?;
            platform.start_part(&name)?;
        }
        done.push(*fault);
    }
    Ok(done)
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
        let kills = plan(1).iter().filter(|(_, fault)| matches!(fault, Fault::KillPod(_))).count();
        assert!((10..35).contains(&kills), "{kills}");
    }
}
