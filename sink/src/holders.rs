//! What this sink knows of the others' leases, by its own monotonic clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event::lease::{Entry, holder, key};
use event::{Incarnation, Lane};
use futures_util::StreamExt;
use jetstream::{Bucket, CasError, WatchEvent};

use crate::clock::now_ms;
use crate::lease::TAKE;
use crate::spread;

/// Age at which an entry is deleted.
const FORGET_MS: u64 = 86_400_000;

/// The others' leases.
pub struct Holders {
    bucket: Bucket,
    seen: Mutex<Seen>,
}

/// Entries as they arrived.
#[derive(Debug, Default)]
struct Seen {
    entries: HashMap<String, (u64, Entry, Instant)>,
    /// Since when the list is complete.
    synced: Option<Instant>,
}

/// Whether a lane's owner stands in the way.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is gone.
    Gone,
    /// It must be ended first, if it still has this revision.
    End(u64, Entry),
    /// It is alive, or not known to be dead.
    Wait,
}

impl Seen {
    fn take(&mut self, event: WatchEvent, now: Instant) {
        match event {
            WatchEvent::Put(entry) => self.put(entry.key, entry.revision, &entry.value, now),
            WatchEvent::Delete { key, .. } => {
                // From here on its owner is one without an entry, and waited for as such.
                self.entries.remove(&key);
                self.synced = self.synced.map(|_| now);
            }
            WatchEvent::Synced { .. } => {
                self.synced.get_or_insert(now);
            }
            WatchEvent::Reset => *self = Self::default(),
        }
    }

    fn put(&mut self, key: String, revision: u64, value: &[u8], now: Instant) {
        // What cannot be read is kept as it is told: a holder that does not renew.
        let entry = Entry::decode(value).unwrap_or(Entry {
            renewal: 0,
            ended: false,
            pod: String::new(),
            protocol: 0,
        });
        // A resumed watch repeats entries: only another revision is a sign of life.
        if self.entries.get(&key).is_none_or(|(known, ..)| *known != revision) {
            self.entries.insert(key, (revision, entry, now));
        }
    }

    /// Sinks that renew their leases; none before the list is complete. `seated`: only those that know seats.
    fn living(&self, now: Instant, seated: bool) -> impl Iterator<Item = Incarnation> {
        let entries = self.entries.iter().filter(|_| self.synced.is_some());
        let living = entries.filter(move |(_, (_, entry, since))| {
            let knows = !seated || entry.knows_seats();
            knows && !entry.ended && now.saturating_duration_since(*since) < TAKE
        });
        living.filter_map(|(key, _)| holder(key))
    }

    fn verdict(&self, owner: &str, now: Instant) -> Verdict {
        let stale = |since: Instant| now.duration_since(since) >= TAKE;
        match self.entries.get(owner) {
            Some((_, entry, _)) if entry.ended => Verdict::Gone,
            Some((revision, entry, since)) if stale(*since) => Verdict::End(*revision, entry.clone()),
            // Its entry is gone, so its next renewal fails; until then it may be at work.
            None if self.synced.is_some_and(stale) => Verdict::Gone,
            Some(_) | None => Verdict::Wait,
        }
    }
}

impl Holders {
    /// Knows nothing yet; [`Holders::follow`] keeps it up to date.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, seen: Mutex::default() }
    }

    /// Whether the list is complete.
    pub fn is_synced(&self) -> bool {
        self.seen().synced.is_some()
    }

    /// Whether a lane falls to `me` among the sinks that are alive; `seated`: among those that know seats, since no other takes it.
    pub fn falls_to(&self, lane: &Lane, me: Incarnation, seated: bool) -> bool {
        spread::falls_to(lane, self.seen().living(Instant::now(), seated)) == Some(me)
    }

    /// Follows the bucket for ever.
    pub async fn follow(&self) {
        let mut watch = self.bucket.watch();
        while let Some(event) = watch.next().await {
            let synced = matches!(event, WatchEvent::Synced { .. });
            self.seen().take(event, Instant::now());
            if synced {
                self.prune(now_ms()).await;
            }
        }
    }

    /// Deletes what nobody renewed for a day: every sink that ever died left an entry.
    async fn prune(&self, now_ms: u64) {
        let Ok(entries) = self.bucket.entries().await else {
            return;
        };
        for entry in entries.into_iter().filter(|entry| entry.created_ms + FORGET_MS < now_ms) {
            // A conflict means that it was renewed after all.
            if let Err(error) = self.bucket.delete(&entry.key, entry.revision).await {
                tracing::debug!(%error, key = entry.key, "an old lease was not deleted");
            }
        }
    }

    /// Makes sure that `owner` sends no more inserts; `false` when it may.
    pub async fn is_gone(&self, owner: Incarnation) -> bool {
        let key = key(owner);
        let verdict = self.seen().verdict(&key, Instant::now());
        match verdict {
            Verdict::Gone => true,
            Verdict::Wait => false,
            Verdict::End(revision, entry) => {
                let ended = Entry { ended: true, ..entry };
                match self.bucket.update(&key, ended.encode().into(), revision).await {
                    Ok(revision) => {
                        tracing::warn!(%owner, pod = ended.pod, "took a sink for dead");
                        self.seen().put(key, revision, &ended.encode(), Instant::now());
                        true
                    }
                    Err(CasError::Conflict) => false,
                    Err(error) => {
                        tracing::warn!(%error, %owner, "a stale lease was not ended");
                        false
                    }
                }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::lease::PROTOCOL;
    use std::time::Duration;

    fn entry(ended: bool) -> Entry {
        Entry { renewal: 1, ended, pod: "a".to_owned(), protocol: PROTOCOL }
    }

    #[test]
    fn an_owner_is_dead_when_its_entry_stood_still_for_five_seconds() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut seen = Seen { synced: Some(start), ..Seen::default() };
        seen.put("a".to_owned(), 1, &entry(false).encode(), start);
        assert_eq!(seen.verdict("a", after(4_999)), Verdict::Wait);
        assert_eq!(seen.verdict("a", after(5_000)), Verdict::End(1, entry(false)));
        seen.put("a".to_owned(), 1, &entry(false).encode(), after(4_000));
        assert_eq!(
            seen.verdict("a", after(5_000)),
            Verdict::End(1, entry(false)),
            "a repeated entry is no life"
        );
        seen.put("a".to_owned(), 2, &entry(false).encode(), after(4_000));
        assert_eq!(seen.verdict("a", after(5_000)), Verdict::Wait);
        seen.put("a".to_owned(), 3, &entry(true).encode(), after(4_001));
        assert_eq!(seen.verdict("a", after(4_001)), Verdict::Gone, "given back");
    }

    #[test]
    fn who_is_alive_is_told_by_renewals() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let ids = |seen: &Seen, ms, seated| {
            let mut ids: Vec<u128> = seen.living(after(ms), seated).map(|sink| sink.0).collect();
            ids.sort_unstable();
            ids
        };
        let mut seen = Seen::default();
        for (sink, ended) in [(1, false), (2, true), (3, false)] {
            seen.put(key(Incarnation(sink)), 1, &entry(ended).encode(), start);
        }
        assert!(ids(&seen, 0, false).is_empty(), "there may be more");
        seen.synced = Some(start);
        assert_eq!(ids(&seen, 4_999, true), [1, 3]);
        seen.put(key(Incarnation(3)), 2, &entry(false).encode(), after(4_000));
        assert_eq!(ids(&seen, 5_000, true), [3]);
        let old = Entry { protocol: 0, ..entry(false) };
        seen.put(key(Incarnation(4)), 1, &old.encode(), after(4_000));
        assert_eq!((ids(&seen, 5_000, true), ids(&seen, 5_000, false)), (vec![3], vec![3, 4]));
    }

    #[test]
    fn an_owner_without_an_entry_is_waited_for_as_well() {
        let start = Instant::now();
        let mut seen = Seen::default();
        assert_eq!(seen.verdict("b", start + Duration::from_secs(60)), Verdict::Wait, "nothing is known yet");
        seen.synced = Some(start);
        assert_eq!(seen.verdict("b", start + Duration::from_secs(4)), Verdict::Wait);
        assert_eq!(seen.verdict("b", start + Duration::from_secs(5)), Verdict::Gone);
    }
}
