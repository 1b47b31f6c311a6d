//! For how long this process leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event::Gate;
use tokio::sync::watch;
use tokio::time::Instant;

use super::LASTS;

/// A change that is handed to a connection last has its answer, or none, when another process may begin: our calls to NATS take at
/// most as long.
const MARGIN: Duration = Duration::from_secs(2);

/// One process's time as the leader. Once over it never begins again.
pub struct Term {
    epoch: AtomicU64,
    begun: Instant,
    /// Milliseconds after `begun` at which it ends unless the lease is renewed.
    until_ms: AtomicU64,
    closed: watch::Sender<bool>,
}

impl Term {
    /// Began with a claim that was sent at `sent`.
    pub fn new(epoch: u64, sent: Instant) -> Self {
        let until_ms = AtomicU64::new((LASTS - MARGIN).as_millis() as u64);
        Self { epoch: AtomicU64::new(epoch), begun: sent, until_ms, closed: watch::Sender::new(false) }
    }

    /// How often the lease has changed hands: what is written later has a higher one.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// See [`super::Candidate::raise`].
    pub(super) fn raise(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// A renewal that was sent at `sent` has succeeded; `false` when it came too late.
    pub fn renewed(&self, sent: Instant, now: Instant) -> bool {
        if !self.is_open(now) {
            return false;
        }
        let until = sent.duration_since(self.begun) + LASTS - MARGIN;
        self.until_ms.fetch_max(until.as_millis() as u64, Ordering::AcqRel);
        true
    }

    /// Whether this process still leads.
    pub fn is_open(&self, now: Instant) -> bool {
        !*self.closed.borrow() && now < self.until()
    }

    /// How long it lasts unless the lease is renewed.
    pub fn left(&self, now: Instant) -> Duration {
        self.until().saturating_duration_since(now)
    }

    /// Ends it.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Returns when it has ended.
    pub async fn over(&self) {
        let mut closed = self.closed.subscribe();
        loop {
            let until = self.until();
            tokio::select! {
                // The sender lives as long as `self`, so this never fails.
                _ = closed.wait_for(|closed| *closed) => return,
                () = tokio::time::sleep_until(until) => if !self.is_open(Instant::now()) { return },
            }
        }
    }

    /// What is asked before each change.
    pub fn gate(self: &Arc<Self>) -> Gate {
        let term = self.clone();
        // The fault that `cargo xtask prove takeover --planted` must find.
        Gate::new(move || {
            #[cfg(feature = "crash-points")]
            drop(crash_points::pass("change"));
            cfg!(feature = "unfenced") || term.is_open(Instant::now())
        })
    }

    fn until(&self) -> Instant {
        self.begun + Duration::from_millis(self.until_ms.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_gate_closes_before_anybody_else_may_lead() {
        let term = Arc::new(Term::new(3, Instant::now()));
        let gate = term.gate();
        tokio::time::advance(Duration::from_secs(7)).await;
        let sent = Instant::now();
        tokio::time::advance(Duration::from_millis(900)).await;
        assert!(gate.is_open() && term.renewed(sent, Instant::now()));
        tokio::time::advance(Duration::from_millis(7_000)).await;
        assert!(gate.is_open(), "measured from when the renewal was sent");
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(!gate.is_open());
        assert!(!term.renewed(sent + Duration::from_secs(7), Instant::now()), "it never opens again");
        assert!(!gate.is_open());
        term.over().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_end_is_not_woken_by_a_renewal() {
        let term = Arc::new(Term::new(3, Instant::now()));
        let begun = Instant::now();
        let renewing = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(term.renewed(Instant::now(), Instant::now()));
            std::future::pending::<()>().await;
        };
        tokio::select! { () = renewing => {}, () = term.over() => {} }
        assert!(begun.elapsed() >= Duration::from_secs(11) && begun.elapsed() < Duration::from_secs(12));
        let term = Term::new(4, Instant::now());
        term.close();
        term.over().await;
    }
}
