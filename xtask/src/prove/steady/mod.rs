//! `prove steady`: many tenants at once, then nothing, then an operator that is killed: what each costs and what is written.
//!
//! ```text
//! create all -> in force everywhere -> idle: no write -> kill -9, restart: no write -> ten limits a tenant -> a plan of most is edited
//! ```

mod crowd;
mod writes;

pub(super) use self::crowd::is;

use std::time::{Duration, Instant};

use self::crowd::{LIMITS_MORE, LIMITS_OF_EACH, SHARED};
use self::writes::Writes;
use super::enforcement;
use super::outside::{self, State};
use super::proxy::Proxy;
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale, versions};
use crate::platform::memory::Memory::Highest;
use crate::{Error, Result};

/// What an edited plan changes: the snapshots.
const POLICY: &str = "stream KV_policy is another";
/// Two pods have to follow.
const PODS: usize = 2;
/// How long nothing must be written for everything to count as done.
const QUIET: Duration = Duration::from_secs(20);
/// How long that may take.
const QUIET_WITHIN: Duration = Duration::from_secs(300);

/// How many, and for how long.
struct Plan {
    tenants: usize,
    idle: Duration,
    changes: usize,
    /// Tenants on the plan that is edited.
    shared: usize,
}

fn plan(scale: Scale) -> Plan {
    match scale {
        Scale::Small => Plan { tenants: 24, idle: Duration::from_secs(20), changes: 100, shared: 12 },
        Scale::Full => Plan { tenants: 1_000, idle: Duration::from_secs(600), changes: 100, shared: 512 },
    }
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let mut plan = plan(job.args.scale);
    if let Some(tenants) = job.args.tenants {
        (plan.tenants, plan.shared) = (tenants, plan.shared.min(tenants));
    }
    let old =
        job.args.old.as_deref().map(|commit| versions::build(job, commit, &["operator"])).transpose()?;
    let programs = old.iter().map(|old| ("operator".to_owned(), old.bins.clone())).collect();
    let world = World::of(job, Shape { pods: PODS, programs, ..Shape::default() })?;
    let mut round = Round { seed, ..Round::default() };
    if let Some(old) = old {
        round.number("upgradedFrom", old.commit);
    }
    let proxy = Proxy::start(&world, job)?;
    create(job, &world, &proxy, &plan, &mut round)?;
    idle(job, &world, plan.idle, &mut round)?;
    restart(job, &world, &mut round)?;
    more(job, &world, &proxy, &plan, &mut round)?;
    edit(job, &world, &proxy, &plan, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// Everything at once, until every pod enforces all of it.
fn create(job: &Job<'_>, world: &World, proxy: &Proxy, plan: &Plan, round: &mut Round) -> Result<()> {
    let limits = plan.tenants * LIMITS_OF_EACH;
    let task = job.progress.task("tenants", &format!("{} with {LIMITS_OF_EACH} limits each", plan.tenants));
    let began = Instant::now();
    crowd::create(job, proxy, plan.tenants, plan.shared)?;
    round.number("secondsToCreate", began.elapsed().as_secs_f64());
    crowd::await_all(job, proxy, plan.tenants, limits, &task)?;
    round.number("secondsUntilAllWereInForce", began.elapsed().as_secs_f64());
    task.done("all are ready and in force");
    await_quiet(job, world)?;
    let writes = Writes::of_operator(world)?;
    let objects = (plan.tenants + limits) as f64;
    round.number("objects", objects);
    round.number("writesAnObject", writes.calls as f64 / objects);
    round.number("writesByResource", serde_json::json!(writes.by_resource));
    round.number("operatorPeakMiB", world.platform.memory_mib("operator", Highest)?);
    Ok(())
}

/// Nothing happens, so nothing is written.
fn idle(job: &Job<'_>, world: &World, lasting: Duration, round: &mut Round) -> Result<()> {
    let task = job.progress.task("idle", &format!("nothing happens for {} s", lasting.as_secs()));
    let (before, kept) = (Writes::of_operator(world)?, outside::read(world)?);
    job.cancel.pause(lasting)?;
    round.part("idle", |round| nothing_written(world, &before, &kept, round))?;
    task.done("over");
    Ok(())
}

/// The operator dies, and comes back to what it left; if it was an older one, it comes back as today's.
fn restart(job: &Job<'_>, world: &World, round: &mut Round) -> Result<()> {
    let task = job.progress.task("restart", "the operator is killed and comes back");
    let (before, kept) = (Writes::of_operator(world)?, outside::read(world)?);
    world.platform.kill9("operator")?;
    world.platform.run_from("operator", None);
    let began = Instant::now();
    world.platform.start_part("operator")?;
    round.at_most("seconds from the kill to ready", began.elapsed().as_secs_f64(), 30.0);
    await_quiet(job, world)?;
    round.part("restart", |round| nothing_written(world, &before, &kept, round))?;
    round.number("operatorPeakMiBAfterRestart", world.platform.memory_mib("operator", Highest)?);
    task.done("it is where it was");
    Ok(())
}

/// Twice as many limits; then some of them change.
fn more(job: &Job<'_>, world: &World, proxy: &Proxy, plan: &Plan, round: &mut Round) -> Result<()> {
    let limits = plan.tenants * (LIMITS_OF_EACH + LIMITS_MORE);
    let task = job.progress.task("limits", &format!("{limits} in all"));
    crowd::create_more(job, proxy, plan.tenants)?;
    crowd::await_all(job, proxy, plan.tenants, limits, &task)?;
    task.done("all are in force");
    await_quiet(job, world)?;
    round.number("limits", limits);
    round.number("operatorPeakMiBWithThem", world.platform.memory_mib("operator", Highest)?);
    enforcement::changed(job, proxy, plan.tenants, plan.changes, round)
}

/// The plan of most tenants gets tighter: all follow, and nothing else happens to them.
fn edit(job: &Job<'_>, world: &World, proxy: &Proxy, plan: &Plan, round: &mut Round) -> Result<()> {
    let task = job.progress.task("plan", &format!("{} tenants are on the plan that is edited", plan.shared));
    await_quiet(job, world)?;
    let kept = outside::read(world)?;
    let (answer, warnings) = proxy.patch_warned(&crowd::plan_path(SHARED), &crowd::tighter())?;
    let (began, generation) = (Instant::now(), answer["metadata"]["generation"].clone());
    let reached = job.cancel.until(Duration::from_secs(120), Duration::from_millis(100), || {
        let plan = proxy.get(&crowd::plan_path(SHARED))?;
        let compiled = plan["status"]["observedGeneration"] == generation && crowd::is(&plan, "Ready");
        let everywhere = crowd::is(&proxy.get(&crowd::data_plane())?, "Enforced");
        Ok((compiled && everywhere).then_some(()))
    })?;
    let took = began.elapsed().as_secs_f64();
    reached.ok_or_else(|| Error::Program {
        program: "editing a plan".into(),
        detail: "it was not in force after two minutes".into(),
    })?;
    round.number("tenantsOnThePlan", plan.shared);
    let told = warnings.iter().any(|warning| warning.contains(&format!("{} tenants", plan.shared)));
    round.number("warningsOfTheEdit", warnings);
    round.at_most(
        "edits of a plan that did not warn with the number of its tenants",
        f64::from(u8::from(!told)),
        0.0,
    );
    round.at_most("seconds until every pod decides by the edited plan for all its tenants", took, 10.0);
    await_quiet(job, world)?;
    let mut changed = outside::differences(&kept, &outside::read(world)?);
    changed.retain(|change| change != POLICY);
    if !changed.is_empty() {
        round.number("changedByAnEditedPlan", serde_json::json!(changed));
    }
    round.at_most("streams, databases and keys that an edited plan changed", changed.len() as f64, 0.0);
    task.done("all follow");
    Ok(())
}

fn nothing_written(world: &World, before: &Writes, kept: &State, round: &mut Round) -> Result<()> {
    let written = Writes::of_operator(world)?.since(before);
    let changed = outside::differences(kept, &outside::read(world)?);
    if written.calls > 0 || !changed.is_empty() {
        round.number("written", serde_json::json!([written.by_resource, changed]));
    }
    round.at_most("writes to the apiserver but leases", written.calls as f64, 0.0);
    round.at_most("changes of NATS, ClickHouse and Vault", changed.len() as f64, 0.0);
    Ok(())
}

/// Waits until the operator has written nothing for a while.
fn await_quiet(job: &Job<'_>, world: &World) -> Result<()> {
    let (mut last, mut since) = (Writes::of_operator(world)?, Instant::now());
    let quiet = job.cancel.until(QUIET_WITHIN, Duration::from_secs(2), || {
        let now = Writes::of_operator(world)?;
        if now.calls != last.calls {
            (last, since) = (now, Instant::now());
        }
        Ok((since.elapsed() >= QUIET).then_some(()))
    })?;
    quiet.ok_or_else(|| Error::Program {
        program: "the operator".into(),
        detail: format!("it was still writing after {} s: {:?}", QUIET_WITHIN.as_secs(), last.by_resource),
    })
}
