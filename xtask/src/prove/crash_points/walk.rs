//! One point after the other: arm it, see who is hit, let it happen, and see that work goes on.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crash_points::Action;

use super::points::{ALL, LONG_IN, Passes};
use crate::platform::workloads;
use crate::prove::conservation::accounts;
use crate::prove::conservation::traffic::Traffic;
use crate::prove::world::World;
use crate::prove::{Job, faults, pods};
use crate::{Error, Result, signal};

/// How long it may take until an armed point is passed: a lane of a sink that died is taken up after 5 s.
const HIT_WITHIN: Duration = Duration::from_secs(40);
/// How long a death may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take until work goes on.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// How long a process stands still: longer than a pod is counted, and than a sink's lease lasts.
const STANDS_STILL: Duration = Duration::from_secs(8);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// One action at one point.
#[derive(Debug, Clone)]
pub struct Step {
    /// The point.
    pub point: String,
    /// What it was to do.
    pub action: &'static str,
    /// Who passed it, if anybody did.
    pub hit: Option<String>,
    /// What happened then.
    pub outcome: String,
    /// Whether work went on.
    pub went_on: bool,
    /// Numbers of each tenant's next event when it was armed.
    pub from: Vec<u64>,
}

/// Where the walk takes place.
pub struct Walk<'a, 'b> {
    /// The proof.
    pub job: &'a Job<'b>,
    /// Its platform.
    pub world: &'a World,
    /// Its clients.
    pub traffic: &'a Traffic,
    /// Folder of the armed points.
    pub folder: PathBuf,
}

impl Walk<'_, '_> {
    /// Every action at every point that is walked.
    ///
    /// # Errors
    /// When a process does not come back.
    pub fn all(&self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for point in ALL {
            let Ok(passes) = point.passed else { continue };
            for action in [Action::Kill, Action::Stop, Action::Fail] {
                let step = self.step(point.name, action, passes)?;
                self.tell(&step);
                steps.push(step);
            }
        }
        Ok(steps)
    }

    /// Stops a sink in each of some points, one after the other, while the rest go on; resumes them all `still` after the last.
    ///
    /// # Errors
    /// When a process does not come back.
    pub fn long(&self, still: Duration) -> Result<Vec<Step>> {
        let (mut steps, mut stopped) = (Vec::new(), Vec::new());
        for point in LONG_IN {
            let (from, hit) = (self.traffic.marks(), self.arm(point, Action::Stop)?);
            let part = if hit { self.stopped(&stopped)? } else { None };
            stopped.extend(part.clone());
            let point = format!("P13 in {point}");
            let (_, went_on) = self.goes_on(Passes::Sink)?;
            steps.push(Step { point, action: "stop", hit: part, outcome: String::new(), went_on, from });
        }
        drop(self.job.cancel.pause(still));
        for part in &stopped {
            self.world.platform.resume(part)?;
        }
        let (on, went_on) = self.goes_on(Passes::Sink)?;
        for step in &mut steps {
            step.outcome =
                format!("stood still for {} s or more, another took its lanes; {on}", still.as_secs());
            step.went_on &= went_on;
            self.tell(step);
        }
        Ok(steps)
    }

    fn tell(&self, step: &Step) {
        let Step { point, action, hit, outcome, .. } = step;
        let hit = hit.as_deref().unwrap_or("nobody");
        self.job.progress.say(&format!("{point} {action}: hit {hit}; {outcome}"));
    }

    fn step(&self, point: &str, action: Action, passes: Passes) -> Result<Step> {
        let from = self.traffic.marks();
        let step = |hit: Option<String>, outcome: String, went_on: bool| Step {
            point: point.to_owned(),
            action: action.text(),
            hit,
            outcome,
            went_on,
            from: from.clone(),
        };
        if !self.arm(point, action)? {
            return Ok(step(None, String::new(), true));
        }
        let (hit, what) = match action {
            Action::Kill => (self.died()?, "died and was started again".to_owned()),
            Action::Stop => {
                let part = self.stopped(&[])?;
                if let Some(part) = &part {
                    drop(self.job.cancel.pause(STANDS_STILL));
                    self.world.platform.resume(part)?;
                }
                (part, format!("stood still for {} s", STANDS_STILL.as_secs()))
            }
            Action::Fail => (Some(format!("one {passes:?}").to_lowercase()), "failed there".to_owned()),
        };
        let (on, went_on) = self.goes_on(passes)?;
        Ok(step(hit, format!("{what}; {on}"), went_on))
    }

    /// Arms a point and waits until somebody passed it.
    fn arm(&self, point: &str, action: Action) -> Result<bool> {
        let file = self.folder.join(point);
        let failed = || Error::io(format!("cannot write {}", file.display()));
        // At once or not at all: nobody reads half a word.
        let aside = self.folder.join("aside");
        fs::write(&aside, action.text()).and_then(|()| fs::rename(&aside, &file)).map_err(failed())?;
        let passed =
            self.job.cancel.until(HIT_WITHIN, LOOK, || Ok((!file.exists()).then_some(())))?.is_some();
        // Nobody shall pass it later; whoever removes it first is the one who passed.
        Ok(passed || fs::remove_file(&file).is_err())
    }

    /// The part that died, which runs again.
    fn died(&self) -> Result<Option<String>> {
        self.job.cancel.until(SEEN_WITHIN, LOOK, || {
            let revived = faults::revive(&self.world.platform, self.job.cancel)?;
            Ok(revived.into_iter().next())
        })
    }

    /// The part that stands still, other than these.
    fn stopped(&self, known: &[String]) -> Result<Option<String>> {
        let pods = (0..self.world.pods).map(pods::name);
        let parts: Vec<String> = pods.chain((0..self.world.sinks).map(workloads::sink)).collect();
        self.job.cancel.until(SEEN_WITHIN, LOOK, || {
            let stands = |part: &&String| {
                !known.contains(part) && self.world.platform.pid(part).is_ok_and(signal::is_stopped)
            };
            Ok(parts.iter().find(stands).cloned())
        })
    }

    /// Waits for the next 202, or until every lane is sunk up to where it ends now; says after what time, and whether it came. Pods that were taken for dead and
    /// ended are started again.
    fn goes_on(&self, passes: Passes) -> Result<(String, bool)> {
        let (began, accepted) = (Instant::now(), &self.traffic.told.accepted);
        let answered = accepted.load(Ordering::Relaxed);
        let ends = accounts::ends(self.world)?;
        let on = self.job.cancel.until(GOES_ON_WITHIN, LOOK * 5, || {
            faults::revive(&self.world.platform, self.job.cancel)?;
            let further = match passes {
                Passes::Ingest => accepted.load(Ordering::Relaxed) > answered,
                Passes::Sink => accounts::are_sunk(self.world, &ends)?,
            };
            Ok(further.then_some(()))
        })?;
        let seconds = began.elapsed().as_secs_f64();
        let text = match (on, passes) {
            (None, _) => format!("work did not go on within {seconds:.0} s"),
            (Some(()), Passes::Ingest) => format!("the next 202 {seconds:.1} s later"),
            (Some(()), Passes::Sink) => format!("every lane sunk on {seconds:.1} s later"),
        };
        Ok((text, on.is_some()))
    }
}
