//! Replicas replaced by those of the other version, a few at a time, and back: what a rolling upgrade and its roll-backs do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::SHAPE;
use crate::platform::workloads;
use crate::prove::faults::{self, Fault, Kind};
use crate::prove::world::World;
use crate::prove::{Scale, pods};
use crate::simulate::rng::Rng;
use crate::{Cancel, Result};

/// How long a replica runs before the next one is replaced.
const BETWEEN: Duration = Duration::from_secs(2);
/// One of so many replacements is followed by a sink that stands still for so long that others take its lanes.
const FREEZES: usize = 3;

/// A build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Of the earlier commit.
    Old,
    /// Of the working tree.
    New,
}

impl Version {
    /// For the result file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// One replica replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The part's name.
    pub part: String,
    /// What it runs afterwards.
    pub to: Version,
    /// Whether it is killed instead of stopped.
    pub kills: bool,
    /// A sink that stands still afterwards, and for how long.
    pub freeze: Option<(String, Duration)>,
}

/// Upgrades that are broken off with so many pods and so many sinks replaced, and taken back; the last is not.
pub fn waves(seed: u64, scale: Scale) -> Vec<Vec<Step>> {
    let broken_off: &[usize] = match scale {
        Scale::Small => &[2],
        Scale::Full => &[2, 3, 1],
    };
    let mut rng = Rng::new(seed ^ 0x7011);
    let mut waves = Vec::new();
    for count in broken_off {
        let some: Vec<String> = [shuffled(&mut rng, parts_of(false)), shuffled(&mut rng, parts_of(true))]
            .into_iter()
            .flat_map(|parts| parts.into_iter().take(*count))
            .collect();
        for to in [Version::New, Version::Old] {
            let parts = shuffled(&mut rng, some.clone());
            waves.push(steps(&mut rng, parts, to));
        }
    }
    let all = shuffled(&mut rng, [parts_of(false), parts_of(true)].concat());
    waves.push(steps(&mut rng, all, Version::New));
    waves
}

/// Every pod, or every sink.
pub fn parts_of(sinks: bool) -> Vec<String> {
    if sinks { (0..SHAPE.1).map(workloads::sink).collect() } else { (0..SHAPE.0).map(pods::name).collect() }
}

fn steps(rng: &mut Rng, parts: Vec<String>, to: Version) -> Vec<Step> {
    let step = |part| {
        let freeze = (rng.below(FREEZES) == 0).then(|| {
            let longer = Duration::from_millis(5_500 + rng.below(2_500) as u64);
            (workloads::sink(rng.below(SHAPE.1)), longer)
        });
        Step { part, to, kills: rng.below(2) == 0, freeze }
    };
    parts.into_iter().map(step).collect()
}

fn shuffled(rng: &mut Rng, mut parts: Vec<String>) -> Vec<String> {
    for n in (1..parts.len()).rev() {
        parts.swap(n, rng.below(n + 1));
    }
    parts
}

/// Which replica runs which version.
pub struct Fleet<'a> {
    /// The platform.
    pub world: &'a World,
    old: PathBuf,
    versions: Mutex<BTreeMap<String, Version>>,
}

impl<'a> Fleet<'a> {
    /// All of the older version, which lies in `old`.
    pub fn new(world: &'a World, old: PathBuf) -> Self {
        let all = [parts_of(false), parts_of(true)].concat();
        let versions = all.into_iter().map(|part| (part, Version::Old)).collect();
        Self { world, old, versions: Mutex::new(versions) }
    }

    /// What a part runs, or is about to.
    pub fn version(&self, part: &str) -> Option<Version> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(part).copied()
    }

    /// Sinks that run a version.
    pub fn sinks(&self, version: Version) -> Vec<String> {
        parts_of(true).into_iter().filter(|sink| self.version(sink) == Some(version)).collect()
    }

    /// Starts a part that does not run, as this version.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(&self, part: &str, version: Version, cancel: &Cancel) -> Result<()> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned(), version);
        self.world.platform.run_from(part, (version == Version::Old).then(|| self.old.clone()));
        faults::bring_back(&self.world.platform, part, cancel)
    }

    /// Replaces one replica.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn replace(&self, step: &Step, cancel: &Cancel) -> Result<()> {
        let platform = &self.world.platform;
        if step.kills {
            platform.kill9(&step.part)?
        } else {
            platform.stop_part(&step.part)?
        }
        self.start(&step.part, step.to, cancel)?;
        cancel.pause(BETWEEN)?;
        match &step.freeze {
            Some((part, longer)) => {
                Fault { part: part.clone(), kind: Kind::Freeze(*longer) }.inflict(platform, cancel)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_waves_and_in_the_end_everything_is_new() {
        for scale in [Scale::Small, Scale::Full] {
            assert_eq!(waves(3, scale), waves(3, scale));
            assert_ne!(waves(3, scale), waves(4, scale));
            let mut versions: BTreeMap<String, Version> = BTreeMap::new();
            let (mut mixed, all) = (0, waves(3, scale));
            for (n, wave) in all.iter().enumerate() {
                for step in wave {
                    assert_ne!(versions.insert(step.part.clone(), step.to), Some(step.to), "{step:?}");
                }
                let new = versions.values().filter(|version| **version == Version::New).count();
                mixed += usize::from(new > 0 && new < SHAPE.0 + SHAPE.1);
                assert_eq!(new == SHAPE.0 + SHAPE.1, n + 1 == all.len(), "only the last wave is whole");
            }
            assert_eq!(mixed, all.len() / 2);
        }
    }
}
