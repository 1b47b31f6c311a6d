//! Clients that send until they are answered, and keep books of what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tally::Tally;
use super::tenants::Tenant;
use crate::prove::client::{Answer, Client, Settled};
use crate::simulate::rng::Rng;
use crate::{Cancel, clock};

/// Clients at once.
const CLIENTS: usize = 16;
/// Most events a request: the API's own bound.
const BATCH: f64 = 1_000.0;
/// A request that was once not answered, or not accepted as a whole, is sent again this often at least, answered or not.
const REPEATS: u32 = 4;
/// One of so many requests that were answered at once is sent again all the same.
const REPEATED_ANYWAY: usize = 20;
/// One of so many events happened on one of the days before.
const OLD: usize = 8;
/// Pause after an attempt that was not answered 202.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause of a client that is ahead of the pace.
const AHEAD: Duration = Duration::from_millis(5);

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Distinct events at most.
    pub events: u64,
    /// Distinct events a second at most.
    pub per_second: u64,
}

/// Counts of answers.
#[derive(Debug, Default)]
pub struct Told {
    /// 202.
    pub accepted: AtomicU64,
    /// 429: every event was refused by a limit.
    pub limited: AtomicU64,
    /// 503 that says when to come again.
    pub later: AtomicU64,
    /// Nothing within the client's patience, or a closed connection.
    pub silent: AtomicU64,
    /// Requests whose counts and events do not agree.
    pub wrong: AtomicU64,
    /// Any other status, 503 without a time among them.
    others: Mutex<BTreeMap<u16, u64>>,
}

/// Load in progress.
pub struct Traffic {
    tenants: Vec<Tenant>,
    urls: Vec<String>,
    tallies: Vec<Mutex<Tally>>,
    seed: u64,
    pace: Pace,
    begun: AtomicU64,
    unanswered: AtomicU64,
    /// What clients were told.
    pub told: Told,
}

/// [`Told`] at one moment, or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// 202.
    pub accepted: u64,
    /// 429.
    pub limited: u64,
    /// 503 that says when to come again.
    pub later: u64,
    /// No answer.
    pub silent: u64,
    /// Anything else.
    pub others: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            limited: self.limited - before.limited,
            later: self.later - before.later,
            silent: self.silent - before.silent,
            others: self.others - before.others,
        }
    }
}

impl Told {
    /// At this moment.
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            accepted: of(&self.accepted),
            limited: of(&self.limited),
            later: of(&self.later),
            silent: of(&self.silent),
            others: self.others(),
        }
    }

    /// For the result file.
    pub fn json(&self) -> Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "202": of(&self.accepted), "429": of(&self.limited), "503 with Retry-After": of(&self.later),
            "no answer": of(&self.silent), "others": *locked(&self.others),
        })
    }

    /// Answers with another status than 202, 429 and 503 with a time.
    pub fn others(&self) -> u64 {
        locked(&self.others).values().sum()
    }

    fn count(&self, answer: &Answer) {
        let count = match answer {
            Answer::Settled(settled) if settled.accepted > 0 => &self.accepted,
            Answer::Settled(_) => &self.limited,
            Answer::Refused { status: 503, retry_after: true } => &self.later,
            Answer::Refused { status, .. } => return *locked(&self.others).entry(*status).or_default() += 1,
            Answer::Silent => &self.silent,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Traffic {
    /// To these pods.
    pub fn new(tenants: Vec<Tenant>, urls: Vec<String>, seed: u64, pace: Pace) -> Self {
        let tallies = (0..tenants.len()).map(|n| Mutex::new(Tally::new(n))).collect();
        let (begun, unanswered) = Default::default();
        Self { tenants, urls, tallies, seed, pace, begun, unanswered, told: Told::default() }
    }

    /// Sends until all is sent or `stop`; what was begun is repeated until it is answered, or `give_up`.
    pub fn run(&self, stop: &Cancel, give_up: &Cancel) {
        let (began, before) = (Instant::now(), self.begun());
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                scope.spawn(move || self.client(n as u64, (began, before), stop, give_up));
            }
        });
    }

    /// Distinct events that were sent.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed).min(self.pace.events)
    }

    /// Whether nothing is left to be sent for the first time.
    pub fn all_is_begun(&self) -> bool {
        self.begun() == self.pace.events
    }

    /// Events whose request was given up.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The tenants and what their clients know.
    pub fn books(&self) -> impl Iterator<Item = (&Tenant, MutexGuard<'_, Tally>)> {
        self.tenants.iter().zip(self.tallies.iter().map(locked))
    }

    /// Number of each tenant's next event.
    pub fn marks(&self) -> Vec<u64> {
        self.books().map(|(_, tally)| tally.next()).collect()
    }

    /// Sends one event of a tenant until it is answered, while nobody else sends.
    pub fn one(&self, tenant: usize, give_up: &Cancel) {
        let client = Client::new(&self.urls, &self.tenants[tenant].key, give_up);
        let at = self.begun.fetch_add(1, Ordering::Relaxed);
        let numbers = locked(&self.tallies[tenant]).begin(1);
        let mut rng = Rng::new(self.seed ^ (at << 20));
        let body = body(tenant, numbers.clone(), &mut rng);
        if !self.send(&client, tenant, &numbers, &body, &mut rng, give_up) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client(&self, number: u64, (began, before): (Instant, u64), stop: &Cancel, give_up: &Cancel) {
        let mut rng = Rng::new(self.seed.wrapping_mul(1_000).wrapping_add(number) ^ (before << 20));
        let clients: Vec<Client> =
            self.tenants.iter().map(|tenant| Client::new(&self.urls, &tenant.key, give_up)).collect();
        while !stop.is_set() && !give_up.is_set() {
            let allowed = began.elapsed().as_secs_f64() * self.pace.per_second as f64;
            if (self.begun() - before) as f64 > allowed {
                drop(stop.pause(AHEAD));
                continue;
            }
            // As many small requests as large ones, by magnitude.
            let size = BATCH.powf(rng.unit()).round() as u64;
            let at = self.begun.fetch_add(size, Ordering::Relaxed);
            let size = size.min(self.pace.events.saturating_sub(at));
            if size == 0 {
                return;
            }
            let tenant = rng.below(self.tenants.len());
            let numbers = locked(&self.tallies[tenant]).begin(size);
            let body = body(tenant, numbers.clone(), &mut rng);
            if !self.send(&clients[tenant], tenant, &numbers, &body, &mut rng, give_up) {
                self.unanswered.fetch_add(size, Ordering::Relaxed);
            }
        }
    }

    /// Sends one request until it is answered, and as often as the rules above say. `false`: it was given up.
    fn send(
        &self,
        client: &Client,
        tenant: usize,
        numbers: &std::ops::Range<u64>,
        body: &str,
        rng: &mut Rng,
        give_up: &Cancel,
    ) -> bool {
        let (mut answered, mut left) = (false, u32::from(rng.below(REPEATED_ANYWAY) == 0) + 1);
        let mut failed = false;
        while !answered || left > 0 {
            let answer = client.send(rng.below(self.urls.len()), body);
            self.told.count(&answer);
            left = left.saturating_sub(1);
            if let Answer::Settled(settled) = answer {
                self.settled(tenant, numbers, &settled);
                // A limit may refuse for now: units of a pod that stands still, a rate whose windows went with their server.
                let whole = settled.accepted > 0 && settled.rejected.is_empty();
                answered |= whole;
                if whole {
                    continue;
                }
            }
            if !failed {
                (failed, left) = (true, REPEATS);
            }
            if give_up.pause(PAUSE).is_err() {
                return answered;
            }
        }
        true
    }

    fn settled(&self, tenant: usize, numbers: &std::ops::Range<u64>, settled: &Settled) {
        if settled.accepted + settled.rejected.len() as u64 != numbers.end - numbers.start {
            self.told.wrong.fetch_add(1, Ordering::Relaxed);
        }
        if settled.accepted == 0 {
            return;
        }
        let rejected: std::collections::BTreeSet<usize> =
            settled.rejected.iter().map(|one| one.index).collect();
        let mut tally = locked(&self.tallies[tenant]);
        for (index, number) in numbers.clone().enumerate() {
            if !rejected.contains(&index) {
                tally.acknowledge(number);
            }
        }
    }
}

fn body(tenant: usize, numbers: std::ops::Range<u64>, rng: &mut Rng) -> String {
    let now = clock::now();
    let mut body = String::from("[");
    for number in numbers {
        if body.len() > 1 {
            body.push(',');
        }
        let (id, user, feature) = (Tally::id(tenant, number), rng.below(50), rng.below(8));
        // An intent with events of several days is inserted in several blocks.
        let days_ms = if rng.below(OLD) == 0 { (1 + rng.below(4)) as i64 * 86_400_000 } else { 0 };
        let time = jiff::Timestamp::from_millisecond(now.as_millisecond() - days_ms).unwrap_or(now);
        body.push_str(&format!(
            r#"{{"id":"{id}","time":"{time}","type":"f{feature}","subject":"user{user}","data":{{"value":1}}}}"#
        ));
    }
    body.push(']');
    body
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> Traffic {
        let tenant = Tenant { name: "a".into(), key: "k".into() };
        Traffic::new(vec![tenant], vec![], 1, Pace { events: 10, per_second: 1 })
    }

    #[test]
    fn what_a_request_names_as_rejected_is_not_acknowledged() {
        let traffic = traffic();
        let numbers = locked(&traffic.tallies[0]).begin(3);
        let settled: Settled =
            serde_json::from_str(r#"{"accepted":2,"rejected":[{"index":1}]}"#).unwrap_or_default();
        traffic.settled(0, &numbers, &settled);
        let verdict = traffic.books().next().map(|(_, tally)| tally.judge(["0-0"].into_iter()));
        let verdict = verdict.unwrap();
        assert_eq!((verdict.acknowledged, verdict.lost.named), (2, vec!["0-2".to_owned()]));
        assert_eq!(traffic.told.wrong.load(Ordering::Relaxed), 0);
        traffic.settled(0, &numbers, &Settled { accepted: 2, ..Settled::default() });
        assert_eq!(traffic.told.wrong.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn bodies_are_json_with_the_ids_that_were_taken() {
        let text = body(4, 7..9, &mut Rng::new(1));
        let events: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((events[0]["id"].as_str(), events[1]["id"].as_str()), (Some("4-7"), Some("4-8")));
    }
}
