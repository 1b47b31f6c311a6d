//! How soon an event is seen: single events of members of the crowd, each looked for in its tenant's view until it is there.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::clickhouse::ClickHouse;
use super::crowd::Member;
use super::world::World;
use crate::load::pool::quantile;
use crate::simulate::rng::Rng;
use crate::simulate::spread::Spread;
use crate::{Error, Result};

/// Probes at once.
const AT_ONCE: usize = 2;
/// Nobody looks sooner than this, because each look costs the tables some milliseconds …
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// … and then this often: what a probe tells is up to so much too long.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a probe may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long probes took to be seen.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<Duration>);

impl Seen {
    /// A quantile in milliseconds.
    pub fn ms(&self, share: f64) -> f64 {
        quantile(&mut self.0.clone(), share).as_secs_f64() * 1_000.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Sends probes for so long.
pub(super) fn run(
    world: &World<'_>,
    clickhouse: &ClickHouse,
    members: &[&Member],
    name: &str,
    lasting: Duration,
) -> Result<Seen> {
    let (began, seen) = (Instant::now(), Mutex::new(Vec::new()));
    // An event is more often of a large tenant, and so is a probe.
    let by_users = Spread::weighted(members.iter().map(|member| f64::from(member.users)));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let (seen, by_users) = (&seen, &by_users);
                scope.spawn(move || {
                    let mut rng = Rng::new(worker as u64);
                    for number in 0.. {
                        if began.elapsed() > lasting {
                            break;
                        }
                        let member = members[by_users.choose(&mut rng)];
                        let took = probe(world, clickhouse, member, &format!("{name}-{worker}-{number}"))?;
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(Error::Interrupted)))
    })?;
    Ok(Seen(seen.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

fn probe(world: &World<'_>, clickhouse: &ClickHouse, member: &Member, id: &str) -> Result<Duration> {
    let url = format!("{}/v1/usage/events", world.platform.url(super::tenant::POD)?);
    let bearer = format!("Bearer {}", member.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = format!(r#"{{"id":"{id}","type":"probe","subject":"probe","data":{{"value":1}}}}"#);
    let sql = format!(
        "SELECT count() FROM {}.events WHERE time > now() - 120 AND feature = 'probe' AND id = '{id}'",
        member.database()
    );
    let began = Instant::now();
    world.http.send("POST", &url, &headers, body)?.accepted("a probe")?;
    world.bench.cancel.pause(FIRST_LOOK)?;
    let found = world
        .bench
        .cancel
        .until(PATIENCE, LOOK_EVERY, || Ok((clickhouse.number(&sql)? == 1).then(|| began.elapsed())))?;
    found.ok_or_else(|| Error::Program {
        program: "a probe".into(),
        detail: format!("event {id} of {} was not seen within {} s", member.name, PATIENCE.as_secs()),
    })
}
