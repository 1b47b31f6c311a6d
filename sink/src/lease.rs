//! Who is alive among the sinks.
//!
//! A sink keeps one entry in bucket `leases`, renewed every second by compare-and-set; the lanes it holds name it as their
//! owner in their intents. So what a sink costs does not grow with its lanes, and taking a lane is two writes:
//!
//! 1. *end* the owner's entry, if it was not renewed for 5 s by one's own monotonic clock. From then on the owner's renewal
//!    fails, whatever it believes;
//! 2. claim the lane's intent.
//!
//! A holder counts from the moment it *sent* its last acknowledged renewal and sends no insert after 3 s. A sink that was
//! ended takes a new identity: its lanes are lost and taken up again like anybody's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event::Incarnation;
use event::lease::{Entry, PROTOCOL, key};
use jetstream::{Bucket, CasError};

/// How often a lease is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How long after the last acknowledged renewal inserts are sent.
pub const HOLD: Duration = Duration::from_secs(3);
/// How long an entry stands still before its owner is taken for dead.
pub const TAKE: Duration = Duration::from_secs(5);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_millis(200);

/// This process's lease.
pub struct Lease {
    bucket: Bucket,
    pod: String,
    state: Mutex<State>,
    random: fn() -> u128,
}

struct State {
    id: Incarnation,
    renewed: Option<Instant>,
}

impl Lease {
    /// Not held yet; [`Lease::keep`] takes and keeps it.
    pub fn new(bucket: Bucket, pod: String, random: fn() -> u128) -> Self {
        let state = State { id: Incarnation(random()), renewed: None };
        Self { bucket, pod, state: Mutex::new(state), random }
    }

    /// Who this process is at present, if its lease is held.
    pub fn current(&self) -> Option<Incarnation> {
        let state = self.state();
        state.renewed.is_some_and(|at| at.elapsed() < HOLD).then_some(state.id)
    }

    /// Whether `id` may send an insert now.
    pub fn holds(&self, id: Incarnation) -> bool {
        self.current() == Some(id)
    }

    /// Whether `id` is lost for good, rather than late.
    pub fn is_over(&self, id: Incarnation) -> bool {
        self.state().id != id
    }

    /// Renews for ever.
    pub async fn keep(&self) {
        loop {
            self.hold().await;
            let id = Incarnation((self.random)());
            tracing::warn!(%id, "this sink was taken for dead: it goes on under a new identity");
            *self.state() = State { id, renewed: None };
        }
    }

    /// Marks the lease as given back, so that nobody waits. All lanes must have stopped.
    pub async fn give_back(&self) {
        let key = key(self.state().id);
        if let Ok(Some(entry)) = self.bucket.get(&key).await
            && let Some(value) = Entry::decode(&entry.value)
        {
            let ended = Entry { ended: true, ..value };
            if let Err(error) = self.bucket.update(&key, ended.encode().into(), entry.revision).await {
                tracing::warn!(%error, "the lease was not given back: others wait until it is stale");
            }
        }
    }

    /// Takes the lease and renews it until somebody ended it.
    async fn hold(&self) {
        let key = key(self.state().id);
        let (mut revision, mut renewal) = (0, 0);
        loop {
            let sent = Instant::now();
            renewal += 1;
            let entry = Entry { renewal, ended: false, pod: self.pod.clone(), protocol: PROTOCOL };
            match self.bucket.update(&key, entry.encode().into(), revision).await {
                Ok(written) => {
                    revision = written;
                    self.state().renewed = Some(sent);
                    tokio::time::sleep(RENEW).await;
                }
                Err(CasError::Conflict) => match self.bucket.get(&key).await {
                    // An answer was lost: the write is ours, but when it was acknowledged is not known.
                    Ok(Some(found)) if ours(&found.value, renewal) => revision = found.revision,
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(RETRY).await,
                },
                Err(error) => {
                    tracing::warn!(%error, "the lease was not renewed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a value is one of ours: only this incarnation writes its key without `ended`.
fn ours(value: &[u8], renewal: u64) -> bool {
    Entry::decode(value).is_some_and(|entry| !entry.ended && entry.renewal <= renewal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_is_told_from_an_end() {
        let entry =
            |renewal, ended| Entry { renewal, ended, pod: "a".to_owned(), protocol: PROTOCOL }.encode();
        assert!(ours(&entry(3, false), 4));
        assert!(!ours(&entry(3, true), 4), "somebody took this sink for dead");
        assert!(!ours(b"", 4));
        const { assert!(HOLD.as_millis() < TAKE.as_millis()) };
    }
}
