//! Which of several operators leads: the one that holds Lease `meterplane-operator` (`docs/adr/0021-leadership.md`).
//!
//! | module | what |
//! |---|---|
//! | `claim` | pure: when a Lease may be taken, judged by one's own clock |
//! | `lease` | the Lease at the kube-apiserver, always by compare-and-set |
//! | `term` | for how long this process leads, its epoch, and the gate before every change |
//!
//! The clocks of several machines are never compared: a standby measures how long it has seen no renewal, the leader how long ago
//! it *sent* its last successful one, and gives up first.

mod claim;
mod lease;
pub mod term;

use std::sync::Arc;
use std::time::Duration;

use claim::{Claim, Watcher};
use lease::{Held, Lease, Renewal};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

pub use term::Term;

/// How long a Lease lasts without being renewed, by its holder's promise.
const LASTS: Duration = Duration::from_secs(10);
/// How often the leader renews it.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How often a standby looks, and how soon the leader tries again after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one call to the kube-apiserver may take here.
pub const CALL: Duration = Duration::from_secs(2);

/// Takes part in the election.
pub struct Candidate {
    lease: Lease,
    held: Mutex<Option<Held>>,
}

/// Why this process does not lead any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nobody heard of us for too long, or somebody leads with a later epoch.
    #[error("the lease was not renewed in time, or somebody leads after us")]
    Over,
    /// Somebody else holds it, or it is gone.
    #[error("the lease is not ours any more: {0}")]
    Taken(String),
}

impl Candidate {
    /// A candidate of this name for the Lease in `namespace`. `client` should not wait longer than [`CALL`].
    pub fn new(client: kube::Client, namespace: &str, identity: String) -> Self {
        Self { lease: Lease::new(client, namespace, identity), held: Mutex::default() }
    }

    /// Returns when this process leads. `seen` is told whenever it was looked who does.
    pub async fn win(&self, seen: impl Fn()) -> Arc<Term> {
        let mut watcher = Watcher::default();
        loop {
            match timeout(CALL, self.attempt(&mut watcher, &seen)).await {
                Ok(Ok(Some(term))) => return term,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be looked at"),
                Err(_) => tracing::warn!("the kube-apiserver does not answer"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn attempt(
        &self,
        watcher: &mut Watcher,
        seen: &impl Fn(),
    ) -> Result<Option<Arc<Term>>, kube::Error> {
        let found = self.lease.get().await?;
        let claim = watcher.look(found.as_ref(), self.lease.identity(), Instant::now());
        let Claim::Take { epoch } = claim else {
            seen();
            return Ok(None);
        };
        // Measured from before it is sent: whoever waits for our silence counts from later.
        let sent = Instant::now();
        let Some(held) = self.lease.take(found.as_ref(), epoch).await? else { return Ok(None) };
        *self.held.lock().await = Some(held);
        tracing::info!(identity = self.lease.identity(), epoch, "leads");
        Ok(Some(Arc::new(Term::new(epoch, sent))))
    }

    /// Renews the lease until it is lost; the gate of `term` is closed then.
    pub async fn hold(&self, term: &Term) -> Lost {
        let lost = tokio::select! {
            lost = self.renew_for_ever(term) => lost,
            () = term.over() => Lost::Over,
        };
        term.close();
        if cfg!(feature = "unfenced") {
            std::future::pending::<()>().await;
        }
        lost
    }

    async fn renew_for_ever(&self, term: &Term) -> Lost {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            pause = match timeout(CALL, self.renew(term, term.epoch())).await {
                Ok(Ok(())) => RENEW_EVERY,
                Ok(Err(RenewError::Lost(lost))) => return lost,
                Ok(Err(RenewError::Kube(error))) => {
                    tracing::warn!(%error, "the lease was not renewed; trying again");
                    LOOK_EVERY
                }
                Err(_) => {
                    tracing::warn!("the kube-apiserver does not answer; the lease is not renewed");
                    LOOK_EVERY
                }
            };
        }
    }

    /// Makes the epoch at least `epoch`: what stands in the policy bucket was written under the one before, though the Lease,
    /// which somebody deleted or restored, says less.
    ///
    /// # Errors
    /// When it was not written.
    pub async fn raise(&self, term: &Term, epoch: u64) -> Result<(), RenewError> {
        if term.epoch() >= epoch {
            return Ok(());
        }
        tracing::warn!(
            from = term.epoch(),
            to = epoch,
            "the epoch of the lease is behind what was written under it"
        );
        self.renew(term, epoch).await?;
        term.raise(epoch);
        Ok(())
    }

    async fn renew(&self, term: &Term, epoch: u64) -> Result<(), RenewError> {
        let mut held = self.held.lock().await;
        let Some(lease) = held.as_mut() else { return Err(RenewError::Lost(Lost::Over)) };
        let sent = Instant::now();
        match self.lease.renew(lease, epoch).await? {
            Renewal::Done if term.renewed(sent, Instant::now()) => Ok(()),
            Renewal::Done => Err(RenewError::Lost(Lost::Over)),
            Renewal::Taken(by) => Err(RenewError::Lost(Lost::Taken(by))),
        }
    }

    /// Gives the lease back, so that nobody waits for our silence.
    pub async fn release(&self, term: &Term) {
        term.close();
        let Some(held) = self.held.lock().await.take() else { return };
        match timeout(CALL, self.lease.release(&held)).await {
            Ok(Ok(())) => tracing::info!("the lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back; it runs out"),
            Err(_) => tracing::warn!("the lease was not given back in time; it runs out"),
        }
    }
}

/// Why the lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The kube-apiserver failed.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}
