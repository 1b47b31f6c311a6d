//! The load of the quota proof: many clients, large limits more often than small ones, some pods more often than others, until
//! every limit refuses at every pod.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client::Client;
use super::limits::{Limit, USERS};
use crate::simulate::rng::Rng;
use crate::{Cancel, Progress};

/// Clients at once.
const CLIENTS: usize = 24;
/// Most events a request.
const BATCH: usize = 60;
/// A feature is used up when so many requests in a row, over all pods, brought nothing in …
const MISSES: u64 = 40;
/// … and none has for this long, in which units that were held elsewhere would have come back.
const QUIET: Duration = Duration::from_secs(5);
/// The same for a quota that never starts anew: what dead pods held comes back as well, once they are known to be dead.
const QUIET_TOTAL: Duration = Duration::from_secs(30);

/// What the clients were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Events sent, each counted once.
    pub sent: AtomicU64,
    /// Events accepted.
    pub accepted: AtomicU64,
    /// Attempts without an answer.
    pub retries: AtomicU64,
    /// Events whose request was never answered.
    pub lost: AtomicU64,
    /// The longest time in which nobody got a 202, milliseconds, while limits were open.
    pub silence_ms: AtomicU64,
}

/// A feature and how far it is from being used up.
struct Feature {
    name: String,
    weight: f64,
    has_user_limit: bool,
    quiet: Duration,
    state: Mutex<State>,
}

struct State {
    misses: u64,
    last_hit: Instant,
    closed: bool,
}

/// The load in progress.
pub struct Load<'a> {
    features: Vec<Feature>,
    pods: &'a [String],
    key: &'a str,
    seed: u64,
    told: &'a Told,
    last_accepted: Mutex<Instant>,
    /// Until it is set nothing is given up: parts are down on purpose.
    storm: &'a Cancel,
    /// The units of all limits are to last as long as the faults do.
    lasting: Duration,
    units: u64,
    began: Instant,
}

impl<'a> Load<'a> {
    /// For these limits.
    pub fn new(
        limits: &[Limit],
        pods: &'a [String],
        key: &'a str,
        seed: u64,
        told: &'a Told,
        storm: &'a Cancel,
        lasting: Duration,
    ) -> Self {
        let feature = |limit: &Limit| Feature {
            name: limit.feature.clone(),
            // Large limits are busier, but not in proportion: small ones are fought for as well.
            weight: (limit.cap as f64).powf(0.8),
            quiet: if limit.total { QUIET_TOTAL } else { QUIET },
            has_user_limit: limits.iter().any(|other| other.per_user && other.feature == limit.feature),
            state: Mutex::new(State { misses: 0, last_hit: Instant::now(), closed: false }),
        };
        let of_tenant = || limits.iter().filter(|limit| !limit.per_user);
        let (features, units) =
            (of_tenant().map(feature).collect(), of_tenant().map(|limit| limit.cap).sum());
        let (began, last_accepted) = (Instant::now(), Mutex::new(Instant::now()));
        Self { features, pods, key, seed, told, last_accepted, storm, lasting, units, began }
    }

    /// Sends until every limit is used up, or `within` is over. Returns whether they are.
    pub fn run(&self, within: Duration, progress: &Progress, cancel: &Cancel) -> bool {
        let task = progress.task("load", "many clients, skewed over limits, users and pods");
        let (began, ended) = (Instant::now(), Cancel::default());
        let done = std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                let ended = &ended;
                scope.spawn(move || self.client(n as u64, ended));
            }
            loop {
                let open = self.open();
                let accepted = self.told.accepted.load(Ordering::Relaxed);
                task.comment(&format!("{accepted} events accepted, {} limits open", open.len()));
                if open.is_empty()
                    || began.elapsed() > within
                    || cancel.pause(Duration::from_millis(200)).is_err()
                {
                    ended.set();
                    break open.is_empty();
                }
            }
        });
        task.done(&format!("{} events accepted", self.told.accepted.load(Ordering::Relaxed)));
        done
    }

    /// Features that are not used up, with their weights.
    fn open(&self) -> Vec<(usize, f64)> {
        let may_close = self.storm.is_set();
        let mut open = Vec::new();
        for (n, feature) in self.features.iter().enumerate() {
            let mut state = locked(&feature.state);
            state.closed |= may_close && state.misses >= MISSES && state.last_hit.elapsed() > feature.quiet;
            if !state.closed {
                open.push((n, feature.weight / (1 + state.misses) as f64));
            }
        }
        open
    }

    /// Whether more was accepted than the time gone by allows.
    fn is_early(&self) -> bool {
        let share = self.began.elapsed().as_secs_f64() / self.lasting.as_secs_f64().max(f64::MIN_POSITIVE);
        share < 1.0 && self.told.accepted.load(Ordering::Relaxed) as f64 > share * self.units as f64
    }

    fn client(&self, number: u64, ended: &Cancel) {
        let mut rng = Rng::new(self.seed.wrapping_mul(1_000).wrapping_add(number));
        let client = Client::new(self.pods, self.key, ended);
        let mut sequence = 0_u64;
        while !ended.is_set() {
            if self.is_early() {
                drop(ended.pause(Duration::from_millis(20)));
                continue;
            }
            let open = self.open();
            let Some(at) = choose(&open, &mut rng) else { return };
            let feature = &self.features[at];
            // What is left of a limit may be a single unit.
            let most = if locked(&feature.state).misses > 0 { 1 } else { BATCH };
            let count = 1 + rng.below(most);
            let users: Vec<usize> = (0..count).map(|_| user(&mut rng, feature.has_user_limit)).collect();
            let body = self.body(number, &mut sequence, &feature.name, &users);
            let settled = client.settle(&body, pod(&mut rng, self.pods.len()), &mut rng);
            self.settled(feature, count as u64, settled);
        }
    }

    fn settled(&self, feature: &Feature, count: u64, settled: Option<super::client::Settled>) {
        self.told.sent.fetch_add(count, Ordering::Relaxed);
        let Some(settled) = settled else {
            self.told.lost.fetch_add(count, Ordering::Relaxed);
            return;
        };
        self.told.retries.fetch_add(u64::from(settled.retries), Ordering::Relaxed);
        self.told.accepted.fetch_add(settled.accepted, Ordering::Relaxed);
        let mut state = locked(&feature.state);
        if settled.accepted == 0 {
            state.misses += 1;
            return;
        }
        (state.misses, state.last_hit) = (0, Instant::now());
        let mut last = locked(&self.last_accepted);
        let silence = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.told.silence_ms.fetch_max(silence, Ordering::Relaxed);
        *last = Instant::now();
    }

    fn body(&self, client: u64, sequence: &mut u64, feature: &str, users: &[usize]) -> String {
        let mut body = String::from("[");
        for user in users {
            if body.len() > 1 {
                body.push(',');
            }
            *sequence += 1;
            let (seed, sequence) = (self.seed, *sequence);
            body.push_str(&format!(
                r#"{{"id":"{seed}-{client}-{sequence}","type":"{feature}","subject":"user{user}","data":{{"value":1}}}}"#
            ));
        }
        body.push(']');
        body
    }
}

/// A few users do most, but when there is little left all are asked.
fn user(rng: &mut Rng, limited: bool) -> usize {
    if limited && rng.unit() < 0.5 { rng.below(USERS) } else { (USERS as f64 * rng.unit().powi(3)) as usize }
}

/// The first pods get most.
fn pod(rng: &mut Rng, pods: usize) -> usize {
    if rng.unit() < 0.5 { rng.below(pods) } else { (pods as f64 * rng.unit().powi(2)) as usize }
}

fn choose(open: &[(usize, f64)], rng: &mut Rng) -> Option<usize> {
    let mut at = rng.unit() * open.iter().map(|(_, weight)| weight).sum::<f64>();
    for (n, weight) in open {
        at -= weight;
        if at <= 0.0 {
            return Some(*n);
        }
    }
    open.last().map(|(n, _)| *n)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
