//! `prove interrupted`: whatever the operator loses, itself, its statuses or its cluster, what stands in the end is the same.
//!
//! ```text
//! a tenant comes, and goes, and nobody dies: what stands after each, and in how many changes       (the model)
//! for each change n: a tenant comes, the operator dies before n and comes back: as in the model; the same while it goes
//! every status is wiped while the operator is away: nothing changes outside, the same statuses come back
//! the cluster is lost and built anew from the same YAML: tenants take over what is theirs, repeats are still known
//! ```

mod scene;
mod standing;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::scene::{Model, Passage, Scene};
use self::standing::Subject;
use super::outside::{self, State};
use super::proxy::Proxy;
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale};
use crate::{Error, Result};

/// Those who enforce.
const PODS: usize = 2;
/// How long it may take until everything is as before.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// How long it is watched for changes that should not come.
const AFTERMATH: Duration = Duration::from_secs(15);
/// The tenant that stays.
const STAYS: &str = "zstays";
const EVENTS: usize = 20;
const EVENTS_MORE: usize = 5;

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let folder = job.paths.dev.join("interrupted");
    // A point that an earlier run armed would end the first operator.
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).map_err(Error::io(format!("cannot create {}", folder.display())))?;
    let armed = (crash_points::FOLDER.to_owned(), folder.display().to_string());
    let env = [("operator".to_owned(), vec![armed])].into();
    let world = World::of(job, Shape { pods: PODS, crash_points: true, env, ..Shape::default() })?;
    let proxy = Proxy::start(&world, job)?;
    let scene = Scene { job, world: &world, proxy: &proxy, folder };
    scene.prepare()?;
    let mut round = Round { seed, ..Round::default() };
    every_change(&scene, &mut round)?;
    scene.declare(STAYS, "Never")?;
    let stays = Subject { name: STAYS.to_owned(), uids: vec![] };
    let before = scene.settled(&stays, || standing::is_in_force(&proxy, STAYS))?;
    wiped(&scene, &mut round)?;
    let subject = stays.met(&proxy)?;
    rebuilt(&scene, &subject, &before, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// The operator dies before each change of a tenant that comes, and of one that goes.
fn every_change(scene: &Scene<'_>, round: &mut Round) -> Result<()> {
    let task = scene.job.progress.task("model", "a tenant comes and goes, and nobody dies");
    let subject = Subject { name: "zmodel".to_owned(), uids: vec![] };
    let coming = scene.model_of_coming(&subject)?;
    let subject = subject.met(scene.proxy)?;
    let going = scene.model_of_going(&subject)?;
    task.done(&format!("{} changes and {} changes", coming.changes, going.changes));
    round.number("changesOfComing", coming.changes);
    round.number("changesOfGoing", going.changes);
    let most = coming.changes.max(going.changes);
    let step = if scene.job.args.scale == Scale::Small { most.div_ceil(3).max(1) } else { 1 };
    let task = scene.job.progress.task("deaths", "the operator dies before each change");
    task.measured(u64::from(most));
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for n in (1..=most).step_by(step as usize) {
        let (name, known) = (format!("zdies{n:03}"), |model: &Model| n <= model.changes);
        let (subject, passage) = scene.come(&name, n, &coming)?;
        note(&mut came, n, passage, known(&coming));
        note(&mut went, n, scene.go(&subject, n, &going)?, known(&going));
        task.position(u64::from(n));
    }
    task.done(&format!("{} deaths", came.iter().chain(&went).filter(|(_, passage)| passage.died).count()));
    for (what, passages) in [("coming", &came), ("going", &went)] {
        let died = passages.iter().filter(|(_, passage)| passage.died).count();
        let broken: Vec<Value> = passages
            .iter()
            .filter(|(_, p)| !p.differences.is_empty())
            .map(|(n, p)| json!([n, p.differences]))
            .collect();
        round.number(&format!("{what}: deaths"), died);
        let missed = passages.len() - died;
        round.number(&format!("{what}: places that were not reached"), missed);
        // Without deaths nothing was shown.
        round.at_most(
            format!("{what}: share of places that were not reached"),
            missed as f64 / passages.len().max(1) as f64,
            0.4,
        );
        round.at_most(format!("{what}: deaths after which something else stood"), broken.len() as f64, 0.0);
        if !broken.is_empty() {
            round.number(&format!("{what}: what else stood"), broken);
        }
    }
    Ok(())
}

/// A place that is beyond what the model needed counts only when somebody died there.
fn note(passages: &mut Vec<(u32, Passage)>, n: u32, passage: Passage, known: bool) {
    if known || passage.died {
        passages.push((n, passage));
    }
}

/// Every status is wiped while no operator looks.
fn wiped(scene: &Scene<'_>, round: &mut Round) -> Result<()> {
    let task = scene.job.progress.task("statuses", "all are wiped, and come back");
    let (before, kept) = (standing::statuses(scene.proxy)?, outside::read(scene.world)?);
    scene.world.platform.kill9("operator")?;
    standing::wipe(scene.proxy)?;
    let left = outside::differences(&before, &standing::statuses(scene.proxy)?);
    let unwiped = before.len() - left.len().min(before.len());
    round.at_most("wiped: statuses that were still there", unwiped as f64, 0.0);
    scene.world.platform.start_part("operator")?;
    let back = same(scene.job, &before, || standing::statuses(scene.proxy))?;
    scene.job.cancel.pause(AFTERMATH)?;
    let changed = outside::differences(&kept, &outside::read(scene.world)?);
    round.number("statuses", before.len());
    told(round, "wiped: statuses that did not come back the same", &back);
    told(round, "wiped: changes of NATS, ClickHouse and Vault", &changed);
    task.done("they are back");
    Ok(())
}

/// The cluster is lost; the same YAML, with leave to take over what is there, is applied to a new one.
fn rebuilt(scene: &Scene<'_>, subject: &Subject, before: &State, round: &mut Round) -> Result<()> {
    let (job, world) = (scene.job, scene.world);
    let task = job.progress.task("cluster", "is lost, and built anew");
    send(job, world, 0..EVENTS)?;
    world.await_stored(job, STAYS)?;
    for part in ["operator", "console"] {
        world.platform.stop_part(part)?;
    }
    world.platform.rebuild_cluster()?;
    for part in ["operator", "console"] {
        world.platform.start_part(part)?;
    }
    let began = Instant::now();
    scene.prepare()?;
    scene.declare(STAYS, "Force")?;
    let after = scene.settled(subject, || standing::is_in_force(scene.proxy, STAYS))?;
    round.number("secondsUntilTheRebuiltClusterIsInForce", began.elapsed().as_secs_f64());
    round.number("rebuilt: what is another", outside::differences(before, &after));
    send(job, world, 0..EVENTS + EVENTS_MORE)?;
    let stored = world.await_stored(job, STAYS)?;
    let sql = format!("SELECT uniqExact(id) FROM tenant_{STAYS}.events");
    let distinct: u64 = world.clickhouse(&sql)?.first().and_then(|line| line.parse().ok()).unwrap_or(0);
    let lost = (EVENTS + EVENTS_MORE) as u64 - distinct.min((EVENTS + EVENTS_MORE) as u64);
    round.at_most("rebuilt: events lost", lost as f64, 0.0);
    round.at_most("rebuilt: events stored twice", stored.abs_diff(distinct) as f64, 0.0);
    task.done(&format!("{stored} events"));
    Ok(())
}

/// Posts events, each with an id of its own, until all are acknowledged.
fn send(job: &Job<'_>, world: &World, events: std::ops::Range<usize>) -> Result<()> {
    let events: Vec<Value> =
        events.map(|n| json!({"id": format!("e-{n}"), "type": "login", "subject": "ann"})).collect();
    let (url, body) = (format!("{}/v1/usage/events", world.urls()?[0]), Value::Array(events).to_string());
    let mut said = String::new();
    let sent = job.cancel.until(BACK_WITHIN, Duration::from_millis(300), || {
        let key = format!("Bearer {}", world.key(STAYS)?);
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        let answer = world.http.send("POST", &url, &headers, body.clone())?;
        said = format!("{} {}", answer.status, answer.body);
        Ok((answer.status == 202).then_some(()))
    })?;
    sent.ok_or_else(|| Error::Program { program: "posting events".into(), detail: said })
}

/// Waits until a state is the one of before; what still differs.
fn same(job: &Job<'_>, before: &State, now: impl Fn() -> Result<State>) -> Result<Vec<String>> {
    let mut differ = Vec::new();
    job.cancel.until(BACK_WITHIN, Duration::from_millis(500), || {
        differ = outside::differences(before, &now()?);
        Ok(differ.is_empty().then_some(()))
    })?;
    Ok(differ)
}

fn told(round: &mut Round, claim: &str, found: &[String]) {
    round.at_most(claim, found.len() as f64, 0.0);
    if !found.is_empty() {
        round.number(claim, found.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_beyond_the_model_count_when_somebody_died_there() {
        let mut passages = Vec::new();
        note(&mut passages, 1, Passage::default(), true);
        note(&mut passages, 9, Passage::default(), false);
        note(&mut passages, 9, Passage { died: true, differences: vec![] }, false);
        assert_eq!(passages.len(), 2);
    }
}
