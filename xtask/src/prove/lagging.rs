//! A pod that beats and does not follow makes `Enforced` False: pods lose their right to read policy, and a limit is changed.

use std::time::{Duration, Instant};

use serde_json::json;

use super::enforcement::{own, standing};
use super::proxy::Proxy;
use super::report::Round;
use super::world::World;
use super::{Job, nats};
use crate::Result;

/// The tenant whose limit is changed.
const TENANT: usize = 1;

/// Withdraws the right, ends the consumers that pods follow policy with, changes a limit and measures until `Enforced` is False.
/// Gives the right back and waits until it is True.
///
/// # Errors
/// When it could not be tried.
pub fn prove(job: &Job<'_>, world: &World, proxy: &Proxy, round: &mut Round) -> Result<()> {
    let task = job.progress.task("lagging pods", "beat, but may not read policy any more");
    let withdrawn = world.platform.withdraw("ingest", "policy")?;
    let names = nats::request(&world.platform, "$JS.API.CONSUMER.NAMES.KV_policy", "{}")?;
    for name in names["consumers"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
        nats::request(&world.platform, &format!("$JS.API.CONSUMER.DELETE.KV_policy.{name}"), "")?;
    }
    proxy.patch(&own(TENANT), &json!({"spec": {"quota": {"max": 77_777, "period": "Day"}}}))?;
    let answered = Instant::now();
    let await_status = |wanted: &str, within| {
        job.cancel.until(within, Duration::from_millis(50), || {
            let (status, reason) = standing(proxy, &own(TENANT))?;
            Ok((status == wanted).then_some(reason))
        })
    };
    let reason = await_status("False", Duration::from_secs(15))?;
    let took = answered.elapsed();
    // A change that is on its way is False for a moment as well: it must stay so.
    drop(job.cancel.pause(Duration::from_secs(5).saturating_sub(answered.elapsed())));
    let (after, _) = standing(proxy, &own(TENANT))?;
    withdrawn.give_back()?;
    let recovered = await_status("True", Duration::from_secs(60))?;
    task.done(&format!("False after {} ms", took.as_millis()));
    round.number("lagging: reason", reason.clone().unwrap_or_default());
    round.number("lagging: Enforced after 5 s", after.clone());
    let seconds = if reason.is_some() { took.as_secs_f64() } else { f64::INFINITY };
    round.at_most("lagging: seconds until Enforced is False", seconds, 5.0);
    round.at_most("lagging: Enforced while pods do not follow (1 = yes)", f64::from(after != "False"), 0.0);
    let lost = f64::from(recovered.is_none());
    round.at_most("lagging: not Enforced 60 s after the right came back (1 = yes)", lost, 0.0);
    Ok(())
}
