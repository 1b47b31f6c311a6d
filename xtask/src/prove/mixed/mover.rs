//! A tenant that is to move meanwhile: it stays while an old sink lives, moves when none does, and old sinks that come back afterwards
//! keep away from both of its lanes.

use std::time::{Duration, Instant};

use event::Lane;
use event::names::INTENTS_BUCKET;
use event::position::{INTENT_VERSION, is_seated};
use serde_json::{Value, json};

use super::rollout::{Fleet, Version, parts_of};
use crate::prove::conservation::accounts::{self, Place};
use crate::prove::moves::{echoes, seat};
use crate::prove::report::Round;
use crate::prove::world::World;
use crate::prove::{Job, nats};
use crate::{Error, Result};

/// Who moves, from a pool to a lane of its own.
pub const MOVER: &str = "users";
/// How long the operator may take to say what a move waits for.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// How long the move may take once no old sink runs.
const MOVED_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long only old sinks run behind the move.
const ROLLED_BACK: Duration = Duration::from_secs(20);
/// How long new ones run before and behind that, while packs are in both lanes.
const AROUND: Duration = Duration::from_secs(5);

/// What the operator says of the tenant's lane: reason and message.
fn told(world: &World) -> Result<(String, String)> {
    let tenant = world.platform.kubectl().json(&["get", "tenant", MOVER])?;
    let conditions = tenant["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == "LaneReady");
    let text = |field: &str| found.and_then(|found| found[field].as_str()).unwrap_or_default().to_owned();
    Ok((text("reason"), text("message")))
}

/// Asks for a lane of its own; what the operator says once it names every old sink. `None`: it never did.
///
/// # Errors
/// When the apiserver refuses.
pub fn ask(job: &Job<'_>, fleet: &Fleet<'_>) -> Result<Option<String>> {
    let patch = json!({"spec": {"isolation": "Dedicated"}}).to_string();
    let kubectl = fleet.world.platform.kubectl();
    kubectl.run(&["patch", "tenant", MOVER, "--type=merge", "--patch", &patch])?;
    let old = fleet.sinks(Version::Old);
    job.cancel.until(TOLD_WITHIN, LOOK_EVERY, || {
        let (reason, message) = told(fleet.world)?;
        let names_all = old.iter().all(|sink| message.contains(sink.as_str()));
        Ok((reason == "SinksOutdated" && names_all).then_some(message))
    })
}

/// Whether the move has begun.
///
/// # Errors
/// When NATS cannot be asked.
pub fn has_begun(world: &World) -> Result<bool> {
    Ok(seat(world, MOVER)?.is_some())
}

/// Waits until the tenant is in its own lane; how long that took. `None`: it never came there.
///
/// # Errors
/// When NATS cannot be asked.
pub fn arrive(job: &Job<'_>, world: &World) -> Result<Option<Duration>> {
    let (began, task) = (Instant::now(), job.progress.task("move", "the last old sink is gone: it goes on"));
    let arrived = job.cancel.until(MOVED_WITHIN, LOOK_EVERY, || {
        Ok(seat(world, MOVER)?.filter(|(_, seat)| seat.moving.is_none()).map(drop))
    })?;
    task.done(if arrived.is_some() { "arrived" } else { "did not arrive" });
    Ok(arrived.map(|()| began.elapsed()))
}

/// What a roll-back of all sinks behind the move came to.
#[derive(Debug, Default)]
pub struct RolledBack {
    /// Packs that were in both lanes.
    echoes: u64,
    /// Messages of closed lanes that were sunk while only old sinks ran.
    sunk_closed: u64,
    /// Messages of those lanes that waited for new sinks.
    waited: u64,
    /// The same of all other lanes together.
    sunk_open: u64,
    /// Old sinks whose metrics say that a closed lane is not for them.
    stuck: Vec<String>,
}

impl RolledBack {
    /// Puts it into the round.
    pub fn judge(&self, round: &mut Round) {
        let Self { echoes, sunk_closed, waited, sunk_open, stuck } = self;
        round.number("packs in two lanes behind the move", *echoes);
        round.number("rolledBack", json!({
            "messagesOfClosedLanesThatWaited": waited, "messagesSunkInOtherLanes": sunk_open, "sinksThatSayStuck": stuck,
        }));
        let none = |count: u64| f64::from(u8::from(count == 0));
        round.at_most("rounds without a pack in two lanes", none(*echoes), 0.0);
        round.at_most("messages of closed lanes that old sinks dealt with", *sunk_closed as f64, 0.0);
        round.at_most("rounds in which closed lanes had nothing to wait for", none(*waited), 0.0);
        round.at_most("rounds in which old sinks dealt with no other lane", none(*sunk_open), 0.0);
        round.at_most("rounds in which no old sink says why", none(stuck.len() as u64), 0.0);
    }
}

/// All sinks go back to the old version and come again, while packs of the tenant are in both of its lanes.
///
/// # Errors
/// When a part does not come back.
pub fn roll_back(job: &Job<'_>, fleet: &Fleet<'_>) -> Result<RolledBack> {
    let task = job.progress.task("roll-back", "all sinks are old ones again, behind a move");
    let (mut rolled, echoes) = echoes::meanwhile(fleet.world, &[MOVER], false, || {
        job.cancel.pause(AROUND)?;
        all_sinks(job, fleet, Version::Old)?;
        let before = accounts::places(fleet.world)?;
        job.cancel.pause(ROLLED_BACK)?;
        let rolled = compare(fleet, &before)?;
        all_sinks(job, fleet, Version::New)?;
        job.cancel.pause(AROUND)?;
        Ok(rolled)
    })?;
    rolled.echoes = echoes;
    task.done(&format!("{} messages waited, {} of other lanes were sunk", rolled.waited, rolled.sunk_open));
    Ok(rolled)
}

fn compare(fleet: &Fleet<'_>, before: &[Place]) -> Result<RolledBack> {
    let (mut rolled, closed) = (RolledBack::default(), closed(fleet.world)?);
    for (before, after) in before.iter().zip(accounts::places(fleet.world)?) {
        let sunk = after.sunk.saturating_sub(before.sunk);
        if closed.contains(&after.lane) {
            rolled.sunk_closed += sunk;
            rolled.waited += after.last.saturating_sub(after.sunk);
        } else {
            rolled.sunk_open += sunk;
        }
    }
    for sink in fleet.sinks(Version::Old) {
        let url = format!("{}/metrics", fleet.world.platform.url(&format!("{sink}-admin"))?);
        let text = fleet.world.http.get(&url, &[])?.accepted(&url)?.body;
        if text.lines().any(|line| line.starts_with("mp_sink_lane_state") && line.ends_with(" 3")) {
            rolled.stuck.push(sink);
        }
    }
    Ok(rolled)
}

/// Lanes of the tenant.
fn closed(world: &World) -> Result<Vec<Lane>> {
    Ok(seat(world, MOVER)?.map(|(_, seat)| seat.lanes).unwrap_or_default())
}

/// Stops every sink, then starts all as `version`.
fn all_sinks(job: &Job<'_>, fleet: &Fleet<'_>, version: Version) -> Result<()> {
    for sink in parts_of(true) {
        fleet.world.platform.stop_part(&sink)?;
    }
    if job.args.planted && version == Version::Old {
        reopen(fleet.world)?;
    }
    parts_of(true).iter().try_for_each(|sink| fleet.start(sink, version, job.cancel))
}

/// The fault that the checker must find: lanes that are closed to old sinks are opened to them.
fn reopen(world: &World) -> Result<()> {
    let wrong = |detail: String| Error::Format { what: "an intent".into(), detail };
    for entry in nats::bucket(&world.platform, INTENTS_BUCKET)? {
        if is_seated(entry.value.to_string().as_bytes()).unwrap_or(false) {
            let mut record = entry.value;
            record["version"] = Value::from(INTENT_VERSION);
            let text = serde_json::to_string(&record).map_err(|error| wrong(error.to_string()))?;
            nats::request(&world.platform, &format!("$KV.{INTENTS_BUCKET}.{}", entry.key), &text)?;
        }
    }
    Ok(())
}
