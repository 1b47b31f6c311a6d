//! Runs operations on records of rates by compare-and-set, in buckets that live in memory and may be lost.
//!
//! A result counts only if the bucket, asked after the write was acknowledged, is still the one that the policy names and
//! has not been emptied: then the write is in it, and so is everything that was written there since it was created.
//! Labels that a bucket before it may have handed out are left alone ([`policy::rate::Terms`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::Incarnation;
use event::names::ledger_bucket;
use jetstream::{About, Bucket, CasError, Client};
use parking_lot::Mutex;
use policy::limit::Limit;
use policy::rate::{Applied, Denied, Op, Record, Terms};
use policy::window::Window;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long an operation may take from its clock reading to its result. Far less than a record is kept: what was read as
/// absent must not have been written and forgotten before our own write.
const PATIENCE: Duration = Duration::from_secs(2);

/// The record as this pod wrote it last, with its revision.
pub(super) type Cached = Option<(Record, u64)>;

/// The ledger buckets of rates.
pub(super) struct Ledger {
    client: Client,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    stores: Mutex<HashMap<(Window, u8), Arc<Store>>>,
}

/// One bucket and what is known of it.
struct Store {
    bucket: Bucket,
    looked: tokio::sync::Mutex<Option<Looked>>,
}

/// When the bucket was asked, and what it was then.
#[derive(Debug, Clone)]
struct Looked {
    at: Instant,
    ledger_id: String,
    /// Since when its records are complete, by the server's clock.
    born_ms: i64,
    /// Highest revision seen: a bucket that has less was emptied.
    highest: u64,
}

/// Why an operation has no result. It may be in the record all the same: then its units are lost to this window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotLeased {
    /// A definite no.
    Denied(Denied),
    /// No answer in time, or not from the bucket that it must come from.
    Unavailable(String),
}

impl Ledger {
    pub(super) fn new(client: Client, clock: Arc<Clock>, metrics: Arc<Metrics>) -> Self {
        Self { client, clock, metrics, stores: Mutex::default() }
    }

    /// Makes `op` true on the record of a bucket, its ledger id and a key, and returns the record that holds it. `begun` is
    /// from before the clock was read for the operation's label.
    pub(super) async fn run(
        &self,
        (at, ledger_id, key): ((Window, u8), &str, &str),
        cached: &mut Cached,
        limit: &Limit,
        op: &Op,
        begun: Instant,
    ) -> Result<Record, NotLeased> {
        let store = self.store(at).await?;
        let mut before = store.look(None, 0).await?;
        if before.ledger_id != ledger_id {
            before = store.look(Some(begun), 0).await?;
        }
        let born_ms = before.complete_since(ledger_id)?;
        let (record, revision) = self.write(&store, key, cached, limit, born_ms, op, begun).await?;
        let after = store.look(Some(Instant::now()), revision).await?;
        if after.complete_since(ledger_id)? != born_ms {
            *cached = None;
            return Err(NotLeased::Unavailable("the ledger of rates was lost just now".to_owned()));
        }
        if begun.elapsed() > PATIENCE {
            return Err(NotLeased::Unavailable("the ledger of rates did not answer in time".to_owned()));
        }
        *cached = Some((record.clone(), revision));
        Ok(record)
    }

    #[allow(clippy::too_many_arguments, reason = "one loop, and what it needs")]
    async fn write(
        &self,
        store: &Store,
        key: &str,
        cached: &mut Cached,
        limit: &Limit,
        born_ms: i64,
        op: &Op,
        begun: Instant,
    ) -> Result<(Record, u64), NotLeased> {
        let unavailable = |why: String| NotLeased::Unavailable(why);
        // Where other pods write too, what we wrote is old by now.
        let mut known = cached.take().filter(|(record, _)| record.holders.len() == 1);
        while begun.elapsed() <= PATIENCE {
            let from_cache = known.is_some();
            if known.is_none() {
                known = read(&store.bucket, key).await.map_err(unavailable)?;
            }
            let (record, revision) = known.take().map_or((None, 0), |(record, seq)| (Some(record), seq));
            // Read after the record: one that is gone was not written for long, counted from now.
            let terms = Terms::new(limit, born_ms, self.clock.now_ms());
            let next = match Record::apply(record.as_ref(), &terms, op) {
                Ok(Applied::Changed(next)) => next,
                Ok(Applied::Already) => {
                    if let Some(record) = record {
                        return Ok((record, revision));
                    }
                    continue;
                }
                Err(_) if from_cache => continue,
                Err(denied) => return Err(NotLeased::Denied(denied)),
            };
            let value = serde_json::to_vec(&next).map_err(|error| unavailable(error.to_string()))?;
            match store.bucket.update(key, value.into(), revision).await {
                Ok(revision) => return Ok((next, revision)),
                Err(CasError::Conflict) => self.metrics.count_ledger("lease", "conflict"),
                Err(CasError::Refused(why)) => return Err(NotLeased::Unavailable(why)),
                // The next read, or the next compare-and-set, tells.
                Err(CasError::Unknown(_)) => {}
            }
        }
        Err(unavailable("the ledger of rates did not answer in time".to_owned()))
    }

    /// Units of a label that a pod could be handed now; nothing is written.
    pub(super) async fn peek(
        &self,
        at: (Window, u8),
        key: &str,
        limit: &Limit,
        pod: Incarnation,
        label: i64,
    ) -> Result<u64, String> {
        let because = |error: NotLeased| match error {
            NotLeased::Denied(denied) => denied.to_string(),
            NotLeased::Unavailable(why) => why,
        };
        let store = self.store(at).await.map_err(because)?;
        let born_ms = store.look(None, 0).await.map_err(because)?.born_ms;
        let record = read(&store.bucket, key).await?.map(|(record, _)| record);
        let terms = Terms::new(limit, born_ms, self.clock.now_ms());
        let record = record.unwrap_or_else(|| Record::new(&terms, label));
        Ok(record.available(pod, label))
    }

    async fn store(&self, at: (Window, u8)) -> Result<Arc<Store>, NotLeased> {
        let known = self.stores.lock().get(&at).cloned();
        if let Some(store) = known {
            return Ok(store);
        }
        let opened = Bucket::open(&self.client, &ledger_bucket(at.0.label(), at.1)).await;
        let bucket = opened.map_err(|error| NotLeased::Unavailable(error.to_string()))?;
        let store = Store { bucket, looked: tokio::sync::Mutex::default() };
        Ok(self.stores.lock().entry(at).or_insert(Arc::new(store)).clone())
    }
}

impl Store {
    /// What the bucket is, by an answer that was asked for at `since` or later: whoever waits for one shares it. Without
    /// it the last answer will do, because [`Ledger::run`] asks again before anything counts. `written` is a revision that
    /// was acknowledged before.
    async fn look(&self, since: Option<Instant>, written: u64) -> Result<Looked, NotLeased> {
        let mut looked = self.looked.lock().await;
        if let Some(known) = looked.as_ref().filter(|known| since.is_none_or(|since| known.at >= since)) {
            return Ok(known.clone());
        }
        let at = Instant::now();
        let about = self.bucket.about().await.map_err(|error| NotLeased::Unavailable(error.to_string()))?;
        let next = successor(looked.as_ref(), at, about, written);
        *looked = Some(next.clone());
        Ok(next)
    }
}

/// What an answer of the bucket says, given the one before and a revision that was acknowledged since.
fn successor(before: Option<&Looked>, at: Instant, about: About, written: u64) -> Looked {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let ledger_id = about.ledger_id.unwrap_or_default();
    let (highest, created_ms) = (about.last_revision, ms(about.created_ms));
    let born_ms = match before.filter(|before| before.ledger_id == ledger_id) {
        // The same bucket with less in it: it was emptied, nobody knows when.
        Some(before) if highest < before.highest.max(written) => ms(about.server_ms),
        Some(before) => before.born_ms.max(created_ms),
        None => created_ms,
    };
    Looked { at, ledger_id, born_ms, highest }
}

impl Looked {
    /// Since when the records of this ledger are complete.
    fn complete_since(&self, ledger_id: &str) -> Result<i64, NotLeased> {
        if self.ledger_id == ledger_id {
            return Ok(self.born_ms);
        }
        Err(NotLeased::Unavailable("the ledger of rates is not the one that the policy names".to_owned()))
    }
}

async fn read(bucket: &Bucket, key: &str) -> Result<Cached, String> {
    let Some(entry) = bucket.get(key).await.map_err(|error| error.to_string())? else { return Ok(None) };
    let record = serde_json::from_slice(&entry.value).map_err(|error| format!("record {key}: {error}"))?;
    Ok(Some((record, entry.revision)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::rate::kept_ms;

    fn about(id: &str, created_ms: u64, last_revision: u64) -> About {
        About { ledger_id: Some(id.into()), created_ms, last_revision, server_ms: 9_000 }
    }

    #[test]
    fn a_bucket_that_was_made_anew_or_emptied_begins_anew() {
        let at = Instant::now();
        let first = successor(None, at, about("a", 1_000, 7), 0);
        assert_eq!((first.born_ms, first.complete_since("a")), (1_000, Ok(1_000)));
        assert_eq!(successor(Some(&first), at, about("a", 1_000, 9), 9).born_ms, 1_000);
        assert_eq!(successor(Some(&first), at, about("a", 1_000, 3), 0).born_ms, 9_000, "emptied");
        assert_eq!(
            successor(Some(&first), at, about("a", 1_000, 8), 9).born_ms,
            9_000,
            "emptied and filled again"
        );
        let anew = successor(Some(&first), at, about("b", 5_000, 0), 7);
        assert_eq!(anew.born_ms, 5_000);
        assert!(anew.complete_since("a").is_err());
    }

    #[test]
    fn records_are_kept_as_long_as_the_arithmetic_presumes() {
        for (window, bucket) in [
            (Window::Second, jetstream::LedgerWindow::Second),
            (Window::Minute, jetstream::LedgerWindow::Minute),
        ] {
            let kept = jetstream::BucketSpec::ledger(bucket, 0, 1, "id").max_age.unwrap();
            assert_eq!(i64::try_from(kept.as_millis()), Ok(kept_ms(window)));
            assert!(PATIENCE < kept / 10);
        }
    }
}
