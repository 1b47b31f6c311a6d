//! `prove ledger-cost`: what limits cost in ledger operations, for one large limit and for very many small ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::report::Round;
use super::world::World;
use super::{Job, Scale, pods};
use crate::simulate::rng::Rng;
use crate::{Error, Result};

/// Events a second that the large limit is measured at.
const RATE: f64 = 6_600.0;
/// Clients at once.
const CLIENTS: usize = 16;
/// Events of each user.
const EVENTS_OF_USER: usize = 30;
/// Limits that count an event: the one that is measured, and the plan's, which only gives the lane its room. Both are large, so
/// each has half of the operations.
const LARGE_LIMITS: f64 = 2.0;
/// Counts operations of the ledger by kind and result.
const OPERATIONS: &str = "mp_ingest_ledger_operations_total";

const YAML: &str = r"apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {name: NAME}
spec:
  displayName: Proof
  limits:
  - {name: room, per: Tenant, mode: Observe, quota: {max: 20M, period: Month}}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {name: NAME}
spec: {displayName: Proof, planRef: {name: NAME}, namespaces: [NAME]}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {name: app, namespace: NAME}
spec: {scopes: [ingest]}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: limit, namespace: NAME}
spec: {per: PER, quota: {max: MAX, period: Day}}
";

/// What the clients saw.
#[derive(Default)]
struct Seen {
    accepted: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let world = World::start(job)?;
    let mut round = Round { seed, ..Round::default() };
    large(job, &world, &mut round)?;
    many(job, &world, seed, &mut round)?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn operations(world: &World) -> Result<f64> {
    pods::metric(&world.platform, &world.http, OPERATIONS, &[])
}

/// One limit of 1,000,000 at 6,600 events a second.
fn large(job: &Job<'_>, world: &World, round: &mut Round) -> Result<()> {
    let yaml = YAML.replace("NAME", "large").replace("PER", "Tenant").replace("MAX", "1000000");
    let key = world.tenant(job, "large", &yaml)?;
    let lasting = Duration::from_secs(if job.args.scale == Scale::Small { 10 } else { 120 });
    let before = operations(world)?;
    let task = job.progress.task("large limit", "6,600 events a second over eight pods");
    let (seen, began, urls) = (Seen::default(), Instant::now(), world.urls()?);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (seen, sent, urls, key) = (&seen, &sent, &urls, &key);
            scope.spawn(move || {
                let client_of = Client::new(urls, key, job.cancel);
                let mut rng = Rng::new(client as u64);
                while began.elapsed() < lasting && !job.cancel.is_set() {
                    let first = sent.fetch_add(50, Ordering::Relaxed);
                    let due = Duration::from_secs_f64(first as f64 / RATE);
                    drop(job.cancel.pause(due.saturating_sub(began.elapsed())));
                    let body = events((first..first + 50).map(|n| (n, n as usize % 1_000)));
                    seen.count(50, client_of.settle(&body, rng.below(pods::PODS), &mut rng));
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let accepted = seen.accepted.load(Ordering::Relaxed) as f64;
    let operations = operations(world)? - before;
    task.done(&format!("{accepted} events in {seconds:.0} s, {operations} ledger operations"));
    round.number("large: events accepted", accepted);
    round.number("large: events a second", accepted / seconds);
    round.number("large: ledger operations", operations);
    round.at_most("large: unanswered", seen.lost.load(Ordering::Relaxed) as f64, 0.0);
    let each = operations / accepted.max(1.0) / LARGE_LIMITS;
    round.at_most("large: ledger operations an admitted event and limit", each, 0.001);
    Ok(())
}

/// 100 a day for each of very many users.
fn many(job: &Job<'_>, world: &World, seed: u64, round: &mut Round) -> Result<()> {
    let yaml = YAML.replace("NAME", "many").replace("PER", "User").replace("MAX", "100");
    let key = world.tenant(job, "many", &yaml)?;
    let users = if job.args.scale == Scale::Small { 2_000 } else { 100_000 };
    let before = operations(world)?;
    let total = (users * EVENTS_OF_USER) as u64;
    let task = job.progress.task("many users", &format!("{EVENTS_OF_USER} events of each of {users} users"));
    task.measured(total);
    let (seen, next, urls) = (Seen::default(), AtomicU64::new(0), world.urls()?);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (seen, next, urls, key, task) = (&seen, &next, &urls, &key, &task);
            scope.spawn(move || {
                let client_of = Client::new(urls, key, job.cancel);
                let mut rng = Rng::new(seed ^ client as u64);
                loop {
                    let first = next.fetch_add(200, Ordering::Relaxed);
                    if first >= total || job.cancel.is_set() {
                        return;
                    }
                    // Users come in no order, and each event to any pod: nothing helps a user to stay with one.
                    let batch = (first..(first + 200).min(total)).map(|n| (n, scattered(n, users as u64)));
                    let body = events(batch.map(|(n, user)| (n, user as usize)));
                    seen.count(
                        200.min(total - first),
                        client_of.settle(&body, rng.below(pods::PODS), &mut rng),
                    );
                    task.position(first);
                }
            });
        }
    });
    if job.cancel.is_set() {
        return Err(Error::Interrupted);
    }
    let accepted = seen.accepted.load(Ordering::Relaxed) as f64;
    let operations = operations(world)? - before;
    task.done(&format!("{accepted} of {total} events, {operations} ledger operations"));
    let rss = pods::rss_mib(&world.platform, pods::PODS)?;
    round.number("many: events accepted", accepted);
    round.number("many: events refused", seen.refused.load(Ordering::Relaxed));
    round.number("many: events a second", accepted / began.elapsed().as_secs_f64());
    round.number("many: ledger operations", operations);
    round.number("many: RSS of each pod, MiB", json!(rss).to_string());
    round.at_most("many: unanswered", seen.lost.load(Ordering::Relaxed) as f64, 0.0);
    round.at_most("many: ledger operations an event", operations / accepted.max(1.0), 0.5);
    world.await_stored(job, "many")?;
    let sql =
        "SELECT max(n) FROM (SELECT count() AS n FROM tenant_many.events GROUP BY user, toDate(received))";
    let most = world.clickhouse(sql)?.first().and_then(|line| line.parse().ok()).unwrap_or(f64::MAX);
    round.at_most("many: events of a user and day", most, 100.0);
    Ok(())
}

impl Seen {
    fn count(&self, events: u64, settled: Option<super::client::Settled>) {
        match settled {
            Some(settled) => {
                self.accepted.fetch_add(settled.accepted, Ordering::Relaxed);
                self.refused.fetch_add(settled.rejected.len() as u64, Ordering::Relaxed);
            }
            None => drop(self.lost.fetch_add(events, Ordering::Relaxed)),
        }
    }
}

/// A user for event `n` so that every user has the same number of events and neighbours are strangers.
fn scattered(n: u64, users: u64) -> u64 {
    // An odd multiplier that shares no factor with powers of ten runs through all users before it repeats one.
    n.wrapping_mul(7_919) % users
}

fn events(of: impl Iterator<Item = (u64, usize)>) -> String {
    let texts: Vec<String> = of
        .map(|(n, user)| format!(r#"{{"id":"{n}","type":"login","subject":"u{user}","data":{{"value":1}}}}"#))
        .collect();
    format!("[{}]", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_its_events() {
        let mut counts = vec![0; 2_000];
        (0..60_000).for_each(|n| counts[scattered(n, 2_000) as usize] += 1);
        assert!(counts.iter().all(|count| *count == 30));
    }
}
