//! Many requests at once, but never more than were asked for: who feeds the pool waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Batch, Outcome, Sender};
use crate::{Error, Result};

/// Reasons of rejected events that are kept for one tenant.
const REASONS_MAX: usize = 5;

/// Events of one tenant on their way.
#[derive(Debug)]
pub struct Job {
    /// Place of the tenant among the keys.
    pub tenant: usize,
    /// Its events.
    pub batch: Batch,
}

/// What became of one tenant's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events sent, each counted once.
    pub sent: u64,
    /// Kept, by the word of a pod.
    pub accepted: u64,
    /// Repeats within a request.
    pub duplicates: u64,
    /// Refused by a limit.
    pub limited: u64,
    /// Wrong.
    pub rejected: u64,
    /// Never answered.
    pub lost: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Why some were rejected.
    pub reasons: Vec<String>,
}

/// What came of everything.
#[derive(Debug, Default)]
pub struct Sent {
    /// By tenant, in the order of the keys.
    pub tenants: Vec<Totals>,
    /// Duration of every answered request.
    pub latencies: Vec<Duration>,
    /// The first failure: what comes after it is not sent.
    pub failure: Option<Error>,
}

impl Totals {
    fn settle(&mut self, events: u64, outcome: Outcome) {
        self.sent += events;
        self.accepted += outcome.accepted;
        self.duplicates += outcome.duplicates;
        self.limited += outcome.limited;
        self.rejected += outcome.rejected;
        self.retries += u64::from(outcome.retries);
        let code = |reason: &str| reason.split(':').next().unwrap_or_default().to_owned();
        for reason in outcome.reasons {
            // One example of each kind says what to mend.
            let is_new = self.reasons.iter().all(|known| code(known) != code(&reason));
            if self.reasons.len() < REASONS_MAX && is_new {
                self.reasons.push(reason);
            }
        }
    }

    /// Adds those of another tenant.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.limited += other.limited;
        self.rejected += other.rejected;
        self.lost += other.lost;
        self.retries += other.retries;
    }
}

/// Takes jobs for the pool.
#[derive(Debug)]
pub struct Feed<'a> {
    jobs: SyncSender<Job>,
    stopped: &'a AtomicBool,
    settled: &'a AtomicU64,
}

impl Feed<'_> {
    /// Hands a job over; waits while all are busy.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the pool has stopped, after a failure or Ctrl-C.
    pub fn push(&self, job: Job) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.jobs.send(job).map_err(|_| Error::Interrupted)
    }

    /// Events that have their answer.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }
}

/// Sends what `feed` pushes, `in_flight` requests at once at most, and returns when all of it is settled. An error of `feed`
/// itself is the pool's failure, unless a request failed before.
pub fn run(
    sender: &Sender,
    keys: &[String],
    in_flight: usize,
    feed: impl FnOnce(&Feed<'_>) -> Result<()>,
) -> Sent {
    let (stopped, settled) = (AtomicBool::new(false), AtomicU64::new(0));
    let sent = Mutex::new(Sent { tenants: vec![Totals::default(); keys.len()], ..Sent::default() });
    let (jobs, queue) = sync_channel(in_flight);
    let queue = Mutex::new(queue);
    let worker = Worker { sender, keys, queue: &queue, sent: &sent, stopped: &stopped, settled: &settled };
    std::thread::scope(|scope| {
        for _ in 0..in_flight {
            scope.spawn(|| worker.run());
        }
        let feed_end = feed(&Feed { jobs, stopped: &stopped, settled: &settled });
        if let Err(error) = feed_end {
            stopped.store(true, Ordering::Relaxed);
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.failure.get_or_insert(error);
        }
    });
    sent.into_inner().unwrap_or_else(PoisonError::into_inner)
}

struct Worker<'a> {
    sender: &'a Sender,
    keys: &'a [String],
    queue: &'a Mutex<Receiver<Job>>,
    sent: &'a Mutex<Sent>,
    stopped: &'a AtomicBool,
    settled: &'a AtomicU64,
}

impl Worker<'_> {
    fn run(&self) {
        while let Some(job) = self.next() {
            let (tenant, events) = (job.tenant, job.batch.events());
            let result = if self.stopped.load(Ordering::Relaxed) {
                None
            } else {
                Some(self.sender.post(&self.keys[tenant], job.batch))
            };
            self.settled.fetch_add(events, Ordering::Relaxed);
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Some(Ok(outcome)) => {
                    sent.latencies.push(outcome.latency);
                    sent.tenants[tenant].settle(events, outcome);
                }
                failed => {
                    self.stopped.store(true, Ordering::Relaxed);
                    sent.tenants[tenant].lost += events;
                    if let Some(Err(error)) = failed {
                        sent.failure.get_or_insert(error);
                    }
                }
            }
        }
    }

    /// The next job; `None` when there will be no more.
    fn next(&self) -> Option<Job> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

/// The duration that a share of the requests (0 to 1) did not exceed.
pub fn quantile(latencies: &mut [Duration], share: f64) -> Duration {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cancel;

    #[test]
    fn a_failure_stops_the_pool_and_what_was_not_answered_is_lost() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sender = Sender::new(&[format!("http://127.0.0.1:{free}")], Duration::ZERO, &Cancel::default());
        let keys = ["a".to_owned(), "b".to_owned()];
        let sent = run(&sender, &keys, 2, |feed| {
            for n in 0..1_000 {
                let mut batch = Batch::default();
                batch.push("{}");
                feed.push(Job { tenant: n % 2, batch })?;
            }
            Ok(())
        });
        assert!(matches!(sent.failure, Some(Error::Http { .. })), "{:?}", sent.failure);
        let lost: u64 = sent.tenants.iter().map(|t| t.lost).sum();
        assert!((1..1_000).contains(&lost), "it does not go on for ever: {lost}");
        assert!(sent.tenants.iter().all(|t| t.sent == 0));
    }

    #[test]
    fn quantiles_of_few_and_of_none() {
        let ms = Duration::from_millis;
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
        let mut some = [ms(3), ms(1), ms(2)];
        assert_eq!((quantile(&mut some, 0.5), quantile(&mut some, 0.99)), (ms(2), ms(3)));
    }
}
