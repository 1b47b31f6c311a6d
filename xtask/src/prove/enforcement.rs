//! `prove enforcement`: how soon a changed limit is in force on every pod, and what pods do that cannot follow.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::report::Round;
use super::world::World;
use super::{Job, Scale, frozen, lagging};
use crate::http::Http;
use crate::load::pool::quantile;
use crate::{Error, Result, clock};

/// Rules of each tenant: those of the plan and one of its own.
const RULES: usize = 20;
/// Changes at once.
const AT_ONCE: usize = 20;
/// How long a change may take before it counts as lost.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Limits as the apiserver serves them.
pub(super) const LIMITS: &str = "/apis/meterplane.io/v1alpha1/usagelimits";

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let (tenants, changes) = if job.args.scale == Scale::Small { (20, 60) } else { (1_000, 1_000) };
    let tenants = job.args.tenants.unwrap_or(tenants);
    let world = World::start(job)?;
    let mut round = Round { seed, ..Round::default() };
    let proxy = Proxy::start(&world, job)?;
    load(job, &world, &proxy, tenants, &mut round)?;
    changed(job, &proxy, tenants, changes, &mut round)?;
    frozen::prove(job, &world, &proxy, &mut round)?;
    lagging::prove(job, &world, &proxy, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

/// Creates the tenants and waits until all their limits are ready.
pub(super) fn load(
    job: &Job<'_>,
    world: &World,
    proxy: &Proxy,
    tenants: usize,
    round: &mut Round,
) -> Result<()> {
    let task = job.progress.task("tenants", &format!("{tenants} with {RULES} rules each"));
    task.measured(tenants as u64);
    let began = Instant::now();
    let mut items = vec![plan()];
    items.extend((0..tenants).flat_map(tenant));
    let file = job.paths.dev.join("prove/enforcement.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).map_err(Error::io(format!("cannot write {}", file.display())))?;
    world.platform.kubectl().apply(&[file])?;
    let within = Duration::from_secs(120) + Duration::from_millis(900) * tenants as u32;
    let mut ready = 0;
    let all = job.cancel.until(within, Duration::from_secs(1), || {
        let list = proxy.get(LIMITS)?;
        let limits = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        ready = limits.iter().filter(|limit| enforced(limit).is_some()).count();
        task.position(ready as u64);
        task.comment(&format!("{ready} of {tenants} are enforced"));
        Ok((ready == tenants).then_some(()))
    })?;
    task.done(&format!("{ready} are enforced"));
    round.number("tenants with 20 rules", ready);
    round.number("secondsUntilAllWereEnforced", began.elapsed().as_secs());
    all.ok_or_else(|| Error::Program {
        program: "loading tenants".into(),
        detail: format!("{ready} of {tenants} were enforced within {} s", within.as_secs()),
    })
}

fn plan() -> Value {
    let mut limits = vec![
        json!({"name": "room", "per": "Tenant", "mode": "Observe", "quota": {"max": 1000, "period": "Month"}}),
    ];
    limits.extend((2..RULES).map(|n| {
        json!({"name": format!("rule{n}"), "per": "User", "match": {"features": [format!("f{n}.*")]},
            "quota": {"max": 1_000_000, "period": "Day"}})
    }));
    json!({"apiVersion": "meterplane.io/v1alpha1", "kind": "Plan", "metadata": {"name": "proof"},
        "spec": {"displayName": "Proof", "limits": limits}})
}

/// The name of tenant `n`, and of its namespace.
pub(super) fn name(n: usize) -> String {
    format!("t{n}")
}

fn tenant(n: usize) -> Vec<Value> {
    let (name, version) = (name(n), "meterplane.io/v1alpha1");
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        json!({"apiVersion": version, "kind": "Tenant", "metadata": {"name": name},
            "spec": {"displayName": name, "planRef": {"name": "proof"}, "namespaces": [name]}}),
        json!({"apiVersion": version, "kind": "ApiKey", "metadata": {"name": "app", "namespace": name},
            "spec": {"scopes": ["ingest"]}}),
        json!({"apiVersion": version, "kind": "UsageLimit", "metadata": {"name": "own", "namespace": name},
            "spec": {"per": "Tenant", "quota": {"max": 1_000_000, "period": "Day"}}}),
    ]
}

/// The generation that every pod enforces, by the object's own status.
pub(super) fn enforced(object: &Value) -> Option<i64> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == "Enforced")?;
    (found["status"] == "True").then(|| found["observedGeneration"].as_i64()).flatten()
}

/// Generations that were seen enforced, by namespace, and when.
#[derive(Default)]
struct Seen(Mutex<HashMap<String, (i64, Instant)>>, Condvar);

/// Changes limits, many at once, and claims how soon they are enforced.
pub(super) fn changed(
    job: &Job<'_>,
    proxy: &Proxy,
    tenants: usize,
    changes: usize,
    round: &mut Round,
) -> Result<()> {
    let Latencies { mut times, lost } = latencies(job, proxy, tenants, changes, AT_ONCE)?;
    let ms = |share: f64, times: &mut Vec<Duration>| quantile(times, share).as_secs_f64() * 1_000.0;
    round.number("changes", times.len());
    round.number("enforcedMsP50", ms(0.5, &mut times));
    round.number("enforcedMsMax", ms(1.0, &mut times));
    round.at_most("changes that were not enforced in 30 s", lost as f64, 0.0);
    round.at_most(
        "p99 from the apiserver's answer to Enforced on every pod, ms",
        ms(0.99, &mut times),
        1_000.0,
    );
    Ok(())
}

/// How long changes took from the apiserver's answer to `Enforced` of that generation.
pub(super) struct Latencies {
    /// Those that were enforced.
    pub times: Vec<Duration>,
    /// Changes that were not.
    pub lost: usize,
}

/// Changes limits of tenants in turn, `at_once` at a time, and measures.
pub(super) fn latencies(
    job: &Job<'_>,
    proxy: &Proxy,
    tenants: usize,
    changes: usize,
    at_once: usize,
) -> Result<Latencies> {
    let task = job.progress.task("changes", &format!("{changes} limits, {at_once} at once"));
    task.measured(changes as u64);
    let (seen, next, times) = (Seen::default(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let watch = proxy.watch(LIMITS)?;
    let lost = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (seen, next, times, lost, task) = (&seen, &next, &times, &lost, &task);
        let (ended, end) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || follow(watch, seen, &end));
        let workers: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= changes || job.cancel.is_set() {
                            return;
                        }
                        match one(proxy, seen, n, tenants) {
                            Some(took) => times.lock().unwrap_or_else(PoisonError::into_inner).push(took),
                            None => drop(lost.fetch_add(1, Ordering::Relaxed)),
                        }
                        task.position(n as u64);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| drop(worker.join()));
        drop(ended);
        // The follower looks up at the next line of its watch: one more change makes one.
        let mark = json!({"metadata": {"annotations": {"proof/measured": clock::now().to_string()}}});
        drop(proxy.patch(&own(0), &mark));
    });
    let times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    task.done(&format!("{} measured", times.len()));
    Ok(Latencies { times, lost: lost.into_inner() })
}

/// Path of a tenant's own limit.
pub(super) fn own(n: usize) -> String {
    format!("/apis/meterplane.io/v1alpha1/namespaces/{}/usagelimits/own", name(n))
}

/// Changes one limit and waits until it is enforced.
fn one(proxy: &Proxy, seen: &Seen, n: usize, tenants: usize) -> Option<Duration> {
    let tenant = n % tenants;
    let max = 1_000_001 + n;
    let answer =
        proxy.patch(&own(tenant), &json!({"spec": {"quota": {"max": max, "period": "Day"}}})).ok()?;
    let (answered, generation) = (Instant::now(), answer["metadata"]["generation"].as_i64()?);
    let namespace = name(tenant);
    let reached = |map: &HashMap<String, (i64, Instant)>| {
        map.get(&namespace).filter(|(seen, _)| *seen >= generation).map(|(_, at)| *at)
    };
    let map = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (map, _) = seen
        .1
        .wait_timeout_while(map, CHANGE_WITHIN, |map| reached(map).is_none())
        .unwrap_or_else(PoisonError::into_inner);
    reached(&map).map(|at| at.saturating_duration_since(answered))
}

/// Notes every generation that a watch shows as enforced.
fn follow(watch: impl std::io::Read, seen: &Seen, end: &std::sync::mpsc::Receiver<()>) {
    for line in BufReader::new(watch).lines() {
        let Ok(line) = line else { return };
        let at = Instant::now();
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        let object = &event["object"];
        if let (Some(namespace), Some(generation)) =
            (object["metadata"]["namespace"].as_str(), enforced(object))
        {
            let mut map = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = map.get(namespace).is_some_and(|(known, _)| *known >= generation);
            if !known {
                map.insert(namespace.to_owned(), (generation, at));
            }
            seen.1.notify_all();
        }
        if end.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
            return;
        }
    }
}

/// The status of an object's `Enforced`: `True`, `False` or `Unknown`, and its reason.
pub(super) fn standing(proxy: &Proxy, path: &str) -> Result<(String, String)> {
    let object = proxy.get(path)?;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found =
        conditions.iter().find(|condition| condition["type"] == "Enforced").cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason")))
}

/// A client whose requests to a frozen pod end late.
pub(super) fn patient() -> Http {
    Http::new(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_twenty_rules() {
        let of_plan = plan()["spec"]["limits"].as_array().unwrap().len();
        let own = tenant(3).iter().filter(|object| object["kind"] == "UsageLimit").count();
        assert_eq!(of_plan + own, RULES);
    }

    #[test]
    fn only_a_true_condition_counts() {
        let with = |status: &str| json!({"status": {"conditions": [{"type": "Enforced", "status": status, "observedGeneration": 4}]}});
        assert_eq!(enforced(&with("True")), Some(4));
        assert_eq!(enforced(&with("False")), None);
        assert_eq!(enforced(&json!({})), None);
    }
}
