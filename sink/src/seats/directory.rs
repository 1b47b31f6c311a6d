//! What this process knows of bucket `seats`: all of it, as its watch tells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event::seat::Seat;
use event::{Lane, TenantNumber};
use futures_util::StreamExt;
use jetstream::{Bucket, CasError, KvError, WatchEvent};
use tokio::sync::watch;

use super::turns::Found;

/// How long the watch may be behind the bucket.
const BEHIND: Duration = Duration::from_secs(2);

/// Why seats cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Time mends it.
    #[error("seats are not known: {0}")]
    Unavailable(String),
    /// A person, or another build, has to mend it.
    #[error("the seat of tenant {0}: {1}")]
    Record(TenantNumber, String),
}

/// The bucket, followed.
pub struct Directory {
    bucket: Bucket,
    state: Mutex<State>,
    /// Everything up to this revision is known; 0 before the first look is complete.
    upto: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    seats: HashMap<TenantNumber, (u64, Result<Seat, String>)>,
    /// Tenants whose seat is in a lane while another one waits for it.
    wanted: HashMap<Lane, BTreeSet<TenantNumber>>,
    /// Lanes that a seat has named.
    named: HashSet<Lane>,
}

impl State {
    fn put(&mut self, tenant: TenantNumber, revision: u64, seat: Result<Seat, String>) {
        if self.seats.get(&tenant).is_some_and(|(known, _)| *known >= revision) {
            return;
        }
        self.remove(tenant);
        if let Ok(seat) = seat.as_ref() {
            self.named.extend(seat.lanes.iter().cloned());
        }
        if let Ok(seat) = seat.as_ref()
            && !seat.asked.is_empty()
        {
            self.wanted.entry(seat.at.clone()).or_default().insert(tenant);
        }
        self.seats.insert(tenant, (revision, seat));
    }

    fn remove(&mut self, tenant: TenantNumber) {
        if let Some((_, Ok(old))) = self.seats.remove(&tenant)
            && let Some(wanted) = self.wanted.get_mut(&old.at)
        {
            wanted.remove(&tenant);
            if wanted.is_empty() {
                self.wanted.remove(&old.at);
            }
        }
    }
}

impl Directory {
    /// Knows nothing yet; [`Directory::follow`] keeps it up to date.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, state: Mutex::default(), upto: watch::Sender::new(0) }
    }

    /// Follows the bucket for ever.
    pub async fn follow(&self) {
        let mut events = self.bucket.watch();
        // What is delivered before the first `Synced` is not all that was there.
        let (mut synced, mut last) = (false, 0);
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Put(entry) => {
                    last = last.max(entry.revision);
                    if let Ok(tenant) = entry.key.parse().map(TenantNumber) {
                        self.state().put(tenant, entry.revision, Seat::decode(&entry.value));
                    }
                }
                WatchEvent::Delete { key, revision } => {
                    last = last.max(revision);
                    if let Ok(tenant) = key.parse().map(TenantNumber) {
                        self.state().remove(tenant);
                    }
                }
                WatchEvent::Synced { revision } => (synced, last) = (true, last.max(revision)),
                WatchEvent::Reset => {
                    (synced, last) = (false, 0);
                    *self.state() = State::default();
                }
            }
            self.upto.send_replace(if synced { last.max(1) } else { 0 });
        }
    }

    /// Seats of those of `tenants` that have one, never older than this call.
    pub async fn read(&self, tenants: &[TenantNumber]) -> Result<Found, Unreadable> {
        let last = self.bucket.last_revision().await;
        let last = last.map_err(|error: KvError| Unreadable::Unavailable(error.to_string()))?.max(1);
        let mut upto = self.upto.subscribe();
        let known = tokio::time::timeout(BEHIND, upto.wait_for(|upto| *upto >= last)).await;
        if !matches!(known, Ok(Ok(_))) {
            return Err(Unreadable::Unavailable("the watch is behind".to_owned()));
        }
        let state = self.state();
        let seat = |tenant: &TenantNumber| {
            let (revision, seat) = state.seats.get(tenant)?;
            let seat = seat.clone().map_err(|error| Unreadable::Record(*tenant, error));
            Some(seat.map(|seat| (*tenant, (*revision, seat))))
        };
        tenants.iter().filter_map(seat).collect()
    }

    /// Replaces a seat that has revision `expected`.
    pub async fn put(&self, tenant: TenantNumber, seat: &Seat, expected: u64) -> Result<(), CasError> {
        let value = seat.encode().map_err(|error| CasError::Refused(error.to_string()))?;
        let revision = self.bucket.update(&tenant.to_string(), value.into(), expected).await?;
        self.state().put(tenant, revision, Ok(seat.clone()));
        Ok(())
    }

    /// Tenants whose seat is in `lane` while another lane waits for it.
    pub fn wanted_from(&self, lane: &Lane) -> BTreeSet<TenantNumber> {
        self.state().wanted.get(lane).cloned().unwrap_or_default()
    }

    /// Whether a tenant has moved to this lane or from it, or is about to.
    pub fn is_named(&self, lane: &Lane) -> bool {
        self.state().named.contains(lane)
    }

    /// Seats that `lane` waits for, with their revisions.
    pub fn asked_by(&self, lane: &Lane) -> Vec<(TenantNumber, u64, Seat)> {
        let state = self.state();
        let asked = |(tenant, (revision, seat)): (&TenantNumber, &(u64, Result<Seat, String>))| {
            let seat = seat.as_ref().ok().filter(|seat| seat.asked.contains(lane))?;
            Some((*tenant, *revision, seat.clone()))
        };
        state.seats.iter().filter_map(asked).collect()
    }

    /// Returns when something about seats has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.upto.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_that_somebody_waits_for_are_told_by_the_lane_that_has_them() {
        let (own, pool) = (Lane::Dedicated("acme".parse().unwrap()), Lane::Pooled(3));
        let wanted = |state: &State, lane: &Lane| state.wanted.get(lane).cloned().unwrap_or_default();
        let (tenant, mut state) = (TenantNumber(7), State::default());
        let seat = Seat::first("acme".parse().unwrap(), own.clone()).moved(&pool, 1);
        state.put(tenant, 1, Ok(seat.clone()));
        assert!(wanted(&state, &own).is_empty());
        assert_eq!(state.named, [own.clone(), pool.clone()].into());
        let asked = seat.asked_by(&pool).unwrap();
        state.put(tenant, 2, Ok(asked.clone()));
        assert_eq!(wanted(&state, &own), [tenant].into());
        state.put(tenant, 1, Ok(seat));
        assert_eq!(wanted(&state, &own), [tenant].into(), "an older write tells nothing");
        state.put(tenant, 3, Ok(asked.passed().unwrap()));
        assert!(state.wanted.is_empty());
        state.remove(tenant);
        assert!(state.seats.is_empty());
    }
}
