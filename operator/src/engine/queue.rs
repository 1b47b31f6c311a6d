//! What is to be looked at: each key at most once at a time, later or now, failed ones ever later.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ObjectKey;

/// First delay after a failure; it doubles with every further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest delay after a failure.
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// When a key is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// When something changes.
    Await,
    /// After this time, or when something changes.
    After(Duration),
    /// Soon, because what was read is not what is there any more.
    Again,
    /// After a growing delay, because something outside failed.
    Backoff,
}

/// Keys to be looked at. A key that is added while a worker has it is handed out again afterwards, never twice at once.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<ObjectKey>,
    queued: HashSet<ObjectKey>,
    active: HashSet<ObjectKey>,
    again: HashSet<ObjectKey>,
    due: BTreeSet<(Instant, ObjectKey)>,
    due_of: HashMap<ObjectKey, Instant>,
    failures: HashMap<ObjectKey, u32>,
    added: u64,
    retried: u64,
}

/// Numbers of a queue, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Keys waiting for a worker.
    pub ready: usize,
    /// Keys a worker has.
    pub active: usize,
    /// Keys ever added.
    pub added: u64,
    /// Keys ever added because of a failure.
    pub retried: u64,
}

impl Queue {
    /// Adds a key to be looked at now.
    pub fn add(&self, key: ObjectKey) {
        self.state.lock().add(key);
        self.changed.notify_one();
    }

    /// Adds a key to be looked at after a time; the earliest time counts.
    pub fn add_after(&self, key: ObjectKey, delay: Duration) {
        self.state.lock().add_at(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The next key; the caller owes a [`Queue::done`].
    pub async fn next(&self) -> ObjectKey {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.due.first().map(|(due, _)| *due)
            };
            match due {
                Some(due) => drop(tokio::time::timeout_at(due, changed).await),
                None => changed.await,
            }
        }
    }

    /// Gives a key back.
    pub fn done(&self, key: &ObjectKey, action: Action) {
        self.state.lock().done(key, action, Instant::now());
        self.changed.notify_one();
    }

    /// Numbers for metrics.
    pub fn depth(&self) -> Depth {
        let state = self.state.lock();
        Depth {
            ready: state.ready.len(),
            active: state.active.len(),
            added: state.added,
            retried: state.retried,
        }
    }
}

impl State {
    fn add(&mut self, key: ObjectKey) {
        self.forget_due(&key);
        if self.active.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.added += 1;
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: ObjectKey, due: Instant) {
        if self.queued.contains(&key) || self.due_of.get(&key).is_some_and(|earlier| *earlier <= due) {
            return;
        }
        self.forget_due(&key);
        self.due.insert((due, key.clone()));
        self.due_of.insert(key, due);
    }

    fn forget_due(&mut self, key: &ObjectKey) {
        if let Some(due) = self.due_of.remove(key) {
            self.due.remove(&(due, key.clone()));
        }
    }

    fn promote(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.due.pop_first() else { return };
            self.due_of.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.active.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: &ObjectKey, action: Action, now: Instant) {
        self.active.remove(key);
        if action != Action::Backoff && action != Action::Again {
            self.failures.remove(key);
        }
        if self.again.remove(key) {
            return self.add(key.clone());
        }
        match action {
            Action::Await => {}
            Action::After(delay) => self.add_at(key.clone(), now + delay),
            Action::Again | Action::Backoff => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                let delay = if action == Action::Again && *failures < 8 {
                    Duration::from_millis(50)
                } else {
                    backoff(key, *failures)
                };
                self.retried += 1;
                self.add_at(key.clone(), now + delay);
            }
        }
    }
}

/// Doubling, bounded, and spread by up to a quarter so that objects which failed together do not return together.
fn backoff(key: &ObjectKey, failures: u32) -> Duration {
    let base = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_BACKOFF);
    base.mul_f64(1.0 + 0.25 * spread(key, failures))
}

/// A number from 0 to 1 that differs between keys and rounds and needs no random source.
pub fn spread(key: &ObjectKey, round: u32) -> f64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (key, round).hash(&mut hasher);
    (hasher.finish() % 1_000) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::cluster(name)
    }

    #[test]
    fn a_key_waits_once_and_is_never_handed_out_twice() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        let mut state = queue.state.lock();
        assert_eq!(state.take(), Some(key("a")));
        assert_eq!(state.take(), None);
        state.add(key("a"));
        assert_eq!(state.take(), None, "it is being looked at");
        state.done(&key("a"), Action::Await, Instant::now());
        assert_eq!(state.take(), Some(key("a")), "and changed meanwhile");
    }

    #[test]
    fn the_earliest_time_counts_and_a_change_overtakes_it() {
        let mut state = State::default();
        let now = Instant::now();
        let seconds = Duration::from_secs;
        state.add_at(key("a"), now + seconds(10));
        state.add_at(key("a"), now + seconds(5));
        state.add_at(key("a"), now + seconds(20));
        state.promote(now + seconds(4));
        assert_eq!(state.take(), None);
        state.promote(now + seconds(5));
        assert_eq!(state.take(), Some(key("a")));
        state.done(&key("a"), Action::After(seconds(30)), now);
        state.add(key("a"));
        assert!(state.due.is_empty() && state.due_of.is_empty());
    }

    #[test]
    fn failures_wait_longer_and_longer_until_a_success() {
        let mut state = State::default();
        let now = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            state.add(key("a"));
            state.take();
            state.done(&key("a"), Action::Backoff, now);
            let delay = state.due_of[&key("a")] - now;
            assert!(delay > last && delay <= LAST_BACKOFF.mul_f64(1.25), "{delay:?}");
            last = delay;
        }
        state.add(key("a"));
        state.take();
        state.done(&key("a"), Action::Await, now);
        assert!(state.failures.is_empty() && state.due.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn next_waits_for_the_due_time() {
        let queue = Queue::default();
        let begun = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(3));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }
}
