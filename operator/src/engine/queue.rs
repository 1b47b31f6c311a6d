//! What is to be looked at: each key at most once at a time, later or now, failed ones ever later; fairly among tenants (`ready`), and
//! none all the time (`pace`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ObjectKey;
use super::pace::{Pace, Permit};
use super::ready::{Group, Priority, Ready};

/// First delay after a failure; it doubles with every further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest delay after a failure.
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// Whoever is looked at again after as long as this has nobody who waits for it.
const RESYNC: Duration = Duration::from_secs(20);

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
    group_of: Option<GroupOf>,
}

/// Which group a key belongs to.
pub type GroupOf = Arc<dyn Fn(&ObjectKey) -> String + Send + Sync>;

#[derive(Default)]
struct State {
    ready: Ready,
    queued: HashMap<ObjectKey, Queued>,
    active: HashMap<ObjectKey, Active>,
    active_of: HashMap<Group, usize>,
    due: BTreeSet<(Instant, ObjectKey)>,
    due_of: HashMap<ObjectKey, Due>,
    failures: HashMap<ObjectKey, u32>,
    pace: Pace,
    /// For the log.
    controller: &'static str,
    /// Workers; 0: as many as come.
    workers: usize,
    /// What is added now can wait: it was there before.
    initial: bool,
    added: u64,
    retried: u64,
    storms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    priority: Priority,
    since: Instant,
}

struct Active {
    group: Group,
    since: Instant,
    again: Option<Priority>,
}

#[derive(Clone)]
struct Due {
    at: Instant,
    group: Group,
    priority: Priority,
}

/// A key for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handout {
    /// The key.
    pub key: ObjectKey,
    /// How long it was ready.
    pub waited: Duration,
}

/// Numbers of a queue, for metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depth {
    /// Keys waiting for a worker.
    pub ready: usize,
    /// Keys a worker has.
    pub active: usize,
    /// Keys ever added.
    pub added: u64,
    /// Keys ever added because of a failure.
    pub retried: u64,
    /// Keys that are slowed.
    pub slowed: usize,
    /// How often a key began to be slowed.
    pub storms: u64,
    /// How long workers have been at what they have, in sum.
    pub unfinished: Duration,
    /// The longest of those.
    pub longest: Duration,
}

impl Queue {
    /// The queue of a controller, whose keys share the workers by these groups; otherwise by namespace or name.
    pub fn grouped(controller: &'static str, group_of: GroupOf) -> Self {
        let state = State { controller, ..State::default() };
        Self { group_of: Some(group_of), state: Mutex::new(state), ..Self::default() }
    }

    /// Adds a key to be looked at now.
    pub fn add(&self, key: ObjectKey) {
        let group = self.group(&key);
        let mut state = self.state.lock();
        let priority = state.news();
        state.add(key, group, priority, Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key to be looked at after a time; the earliest time counts.
    pub fn add_after(&self, key: ObjectKey, delay: Duration) {
        let (at, group) = (Instant::now() + delay, self.group(&key));
        let mut state = self.state.lock();
        let priority = state.news();
        state.add_at(key, Due { at, group, priority });
        drop(state);
        self.changed.notify_one();
    }

    /// From now on (`true`) what is added was there before, and goes behind what somebody changes; or it is news again (`false`).
    pub fn initial(&self, initial: bool) {
        self.state.lock().initial = initial;
    }

    /// Says how many workers there are: no group has more than half of them at once.
    pub fn shared_by(&self, workers: usize) {
        self.state.lock().workers = workers;
    }

    /// The next key; the caller owes a [`Queue::done`].
    pub async fn next(&self) -> Handout {
        loop {
            let changed = self.changed.notified();
            let due = {
                let (mut state, now) = (self.state.lock(), Instant::now());
                state.promote(now);
                if let Some(handout) = state.take(now) {
                    if !state.queued.is_empty() {
                        self.changed.notify_one();
                    }
                    return handout;
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
        let (state, now) = (self.state.lock(), Instant::now());
        let at_work = || state.active.values().map(|active| now.saturating_duration_since(active.since));
        Depth {
            ready: state.queued.len(),
            active: state.active.len(),
            added: state.added,
            retried: state.retried,
            slowed: state.pace.slowed(),
            storms: state.storms,
            unfinished: at_work().sum(),
            longest: at_work().max().unwrap_or_default(),
        }
    }

    fn group(&self, key: &ObjectKey) -> Group {
        match &self.group_of {
            Some(group_of) => group_of(key).into(),
            None if key.namespace.is_empty() => key.name.as_str().into(),
            None => key.namespace.as_str().into(),
        }
    }
}

impl State {
    /// How soon what is told just now is wanted.
    fn news(&self) -> Priority {
        if self.initial { Priority::Later } else { Priority::Now }
    }

    fn add(&mut self, key: ObjectKey, group: Group, priority: Priority, now: Instant) {
        self.forget_due(&key);
        if let Some(active) = self.active.get_mut(&key) {
            active.again = active.again.max(Some(priority));
            return;
        }
        let since = match self.queued.get(&key) {
            Some(queued) if queued.priority >= priority => return,
            Some(queued) => queued.since,
            None => {
                self.added += 1;
                now
            }
        };
        // One that stood further back stays there as well; whoever comes to it finds that it is not queued any more.
        self.queued.insert(key.clone(), Queued { priority, since });
        self.ready.push(key, group, priority);
    }

    fn add_at(&mut self, key: ObjectKey, mut due: Due) {
        if self.queued.get(&key).is_some_and(|queued| queued.priority >= due.priority) {
            return;
        }
        if let Some(known) = self.due_of.get(&key) {
            due.at = due.at.min(known.at);
            due.priority = due.priority.max(known.priority);
        }
        self.forget_due(&key);
        self.due.insert((due.at, key.clone()));
        self.due_of.insert(key, due);
    }

    fn forget_due(&mut self, key: &ObjectKey) {
        if let Some(due) = self.due_of.remove(key) {
            self.due.remove(&(due.at, key.clone()));
        }
    }

    fn promote(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.due.pop_first() else { return };
            if let Some(Due { group, priority, .. }) = self.due_of.remove(&key) {
                self.add(key, group, priority, now);
            }
        }
    }

    fn take(&mut self, now: Instant) -> Option<Handout> {
        let most = if self.workers == 0 { usize::MAX } else { (self.workers / 2).max(1) };
        loop {
            let active_of = &self.active_of;
            let (key, group, priority) =
                self.ready.pop(|group| active_of.get(group).is_none_or(|active| *active < most))?;
            let Some(queued) = self.queued.get(&key).filter(|queued| queued.priority == priority).copied()
            else {
                continue;
            };
            self.queued.remove(&key);
            if let Permit::After { wait, begins } = self.pace.ask(&key, now) {
                if begins {
                    self.storms += 1;
                    tracing::warn!(controller = self.controller, object = %key, "looked at again and again: slowed");
                }
                self.add_at(key, Due { at: now + wait, group, priority });
                continue;
            }
            *self.active_of.entry(group.clone()).or_default() += 1;
            self.active.insert(key.clone(), Active { group, since: now, again: None });
            return Some(Handout { key, waited: now.saturating_duration_since(queued.since) });
        }
    }

    fn done(&mut self, key: &ObjectKey, action: Action, now: Instant) {
        let Some(Active { group, again, .. }) = self.active.remove(key) else { return };
        if let Some(active) = self.active_of.get_mut(&group) {
            *active -= 1;
            if *active == 0 {
                self.active_of.remove(&group);
            }
        }
        if action != Action::Backoff && action != Action::Again {
            self.failures.remove(key);
        }
        if let Some(priority) = again {
            return self.add(key.clone(), group, priority, now);
        }
        let (delay, priority) = match action {
            Action::Await => return,
            Action::After(delay) if delay >= RESYNC => (delay, Priority::Later),
            Action::After(delay) => (delay, Priority::Now),
            Action::Again | Action::Backoff => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                self.retried += 1;
                if action == Action::Again && *failures < 8 {
                    (Duration::from_millis(50), Priority::Now)
                } else {
                    (backoff(key, *failures), Priority::Later)
                }
            }
        };
        self.add_at(key.clone(), Due { at: now + delay, group, priority });
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
#[path = "queue_tests.rs"]
mod tests;
