//! `prove crash-points`: sink and ingest die, stand still and fail at every named place, under load; nothing is lost or doubled.

mod points;
mod walk;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::points::ALL;
use self::walk::{Step, Walk};
use super::conservation::traffic::{Pace, Traffic};
use super::conservation::{self, Until, accounts, under_load};
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, nats, pods};
use crate::platform::workloads;
use crate::{Error, Result};

const PODS: usize = 2;
/// Three stand still at once, and one goes on.
const SINKS: usize = 4;
const PACE: Pace = Pace { events: 2_000_000, per_second: 600 };
/// The stream that is made anew, and its tenant.
const ANEW: (&str, &str) = ("USAGE_own", "own");
/// How long that may take.
const ANEW_WITHIN: Duration = Duration::from_secs(120);
/// How long clients send to the new stream.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// How long sinks stand still inside P6, P7 and P8.
fn still(scale: Scale) -> Duration {
    Duration::from_secs(if scale == Scale::Small { 20 } else { 600 })
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let folder = job.paths.dev.join("crash-points");
    // Armed points of an earlier run would be passed by its first process.
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).map_err(Error::io(format!("cannot create {}", folder.display())))?;
    let armed = (crash_points::FOLDER.to_owned(), folder.display().to_string());
    let parts = (0..PODS).map(pods::name).chain((0..SINKS).map(workloads::sink));
    let env = parts.map(|part| (part, vec![armed.clone()])).collect();
    let shape = Shape { pods: PODS, sinks: SINKS, crash_points: true, env, ..Shape::default() };
    let (world, traffic) = conservation::begin(job, seed, shape, PACE)?;
    let mut steps = under_load(job, &traffic, Until::Done, |traffic| {
        let walk = Walk { job, world: &world, traffic, folder };
        Ok([walk.all()?, walk.long(still(job.args.scale))?].concat())
    })?;
    steps.push(anew(job, &world, &traffic)?);
    let mut round = Round { seed, ..Round::default() };
    round.at_most(
        "actions at points that nobody passed",
        steps.iter().filter(|s| s.hit.is_none()).count() as f64,
        0.0,
    );
    let stuck = steps.iter().filter(|step| !step.went_on).count();
    round.at_most("actions after which work did not go on", stuck as f64, 0.0);
    conservation::judge(job, &world, &traffic, &mut round)?;
    let rows = rows(&world, &traffic, &steps)?;
    print!("{}", table(&rows));
    round.number("points", rows.iter().map(Row::json).collect::<Vec<_>>());
    round.number("actions", steps.len());
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// Deletes the stream of a lane of which everything is sunk, asks for an empty one as its tenant's status says, and sends on.
fn anew(job: &Job<'_>, world: &World, traffic: &Traffic) -> Result<Step> {
    accounts::settle(job, world)?;
    let from = traffic.marks();
    let api = |what: &str| nats::request(&world.platform, &format!("$JS.API.STREAM.{what}.{}", ANEW.0), "");
    let info = || api("INFO");
    let created = |info: &Value| info["created"].as_str().map(str::to_owned);
    let before = created(&info()?);
    api("DELETE")?;
    let deleted = Instant::now();
    // A stream that held data is never made anew unasked.
    let force = ["patch", "tenant", ANEW.1, "--type=merge", "--patch", r#"{"spec":{"adoption":"Force"}}"#];
    world.platform.kubectl().run(&force)?;
    let made = job.cancel.until(ANEW_WITHIN, Duration::from_millis(200), || {
        Ok(info().ok().and_then(|info| created(&info)).filter(|at| Some(at) != before.as_ref()))
    })?;
    let outcome = format!("made anew {:.1} s after it was asked for", deleted.elapsed().as_secs_f64());
    if made.is_none() {
        return Err(Error::Program {
            program: "the operator".into(),
            detail: format!("{} is not there again", ANEW.0),
        });
    }
    under_load(job, traffic, Until::Done, |_| job.cancel.pause(AFTERWARDS))?;
    let hit = made.map(|_| ANEW.0.to_owned());
    Ok(Step { point: "P14".into(), action: "recreate", hit, outcome, went_on: true, from })
}

/// A step and what became of the events that clients began to send in it.
struct Row<'a> {
    step: &'a Step,
    lost: u64,
    doubled: u64,
}

impl Row<'_> {
    fn json(&self) -> Value {
        let Step { point, action, hit, outcome, .. } = self.step;
        json!({
            "point": point, "action": action, "hit": hit, "outcome": outcome, "lost": self.lost, "doubled": self.doubled,
        })
    }
}

fn rows<'a>(world: &World, traffic: &Traffic, steps: &'a [Step]) -> Result<Vec<Row<'a>>> {
    let mut rows: Vec<Row<'a>> = steps.iter().map(|step| Row { step, lost: 0, doubled: 0 }).collect();
    for (n, (tenant, tally)) in traffic.books().enumerate() {
        let ids = conservation::stored(world, tenant)?;
        for (at, row) in rows.iter_mut().enumerate() {
            let until = steps.get(at + 1).map_or(u64::MAX, |next| next.from[n]);
            let (lost, doubled) = tally.within(steps[at].from[n]..until, ids.iter().map(String::as_str));
            row.lost += lost;
            row.doubled += doubled;
        }
    }
    Ok(rows)
}

/// Points by name, those that are not walked among them.
fn table(rows: &[Row<'_>]) -> String {
    let mut text =
        format!("{:<10} {:<9} {:<10} {:>4} {:>7}  outcome\n", "point", "action", "hit", "lost", "doubled");
    for point in ALL {
        let named = |row: &&Row<'_>| row.step.point.split(' ').next() == Some(point.name);
        let mut walked = rows.iter().filter(named).peekable();
        if let (None, Err(why)) = (walked.peek(), point.passed) {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{:<10} open: {why} ({})", point.name, point.between);
        }
        for Row { step, lost, doubled } in walked {
            let hit = step.hit.as_deref().unwrap_or("nobody");
            let Step { point: name, action, outcome, .. } = step;
            let _ = writeln!(
                text,
                "{name:<10} {action:<9} {hit:<10} {lost:>4} {doubled:>7}  {}: {outcome}",
                point.between
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_point() {
        let step = |point: &str| Step {
            point: point.into(),
            action: "kill",
            hit: None,
            outcome: "none".into(),
            went_on: true,
            from: vec![],
        };
        let steps = [step("P2"), step("P13 in P6")];
        let rows: Vec<Row<'_>> = steps.iter().map(|step| Row { step, lost: 1, doubled: 0 }).collect();
        let text = table(&rows);
        assert!(text.contains("P2         kill      nobody        1       0"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("P13 in P6")));
        assert!(text.lines().any(|line| line.starts_with("P12        open:")));
        assert!(!text.lines().any(|line| line.starts_with("P13        open:")));
    }
}
