//! Reading a whole bucket: once, or for ever.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::{Bucket, Entry, KvError, Watch, WatchEvent, is_deletion};
use crate::cursor::{Cursor, Pull, Received, Shape, Start, Stored};
use crate::error::Fault;

/// Writes that one pull of a watch asks for.
const WATCH_BATCH: usize = 256;
/// How long one pull of a watch waits.
const WATCH_WAIT: Duration = Duration::from_secs(10);
/// How long the server keeps a watch's consumer after its last pull.
const WATCH_LINGER: Duration = Duration::from_secs(60);
/// The same for a scan.
const SCAN_LINGER: Duration = Duration::from_secs(5);
/// How often a scan begins anew after a loss.
const SCAN_TRIES: usize = 3;
/// First and last pause before a lost watch is resumed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Every entry that has a value, sorted by key.
pub(super) async fn scan(bucket: &Bucket, headers_only: bool) -> Result<Vec<Entry>, KvError> {
    let mut lost = String::new();
    for _ in 0..SCAN_TRIES {
        match scan_once(bucket, headers_only).await? {
            Ok(entries) => return Ok(entries),
            Err(reason) => lost = reason,
        }
    }
    Err(KvError::Unknown(lost))
}

/// The inner error is a loss, after which a new try may succeed.
async fn scan_once(bucket: &Bucket, headers_only: bool) -> Result<Result<Vec<Entry>, String>, KvError> {
    let all = bucket.all();
    let shape = Shape { start: Start::LastPerSubject, filter: Some(&all), headers_only, linger: SCAN_LINGER };
    let mut cursor = Cursor::open(&bucket.client, &bucket.stream, shape).await?;
    let mut entries = Vec::new();
    let mut remaining = cursor.pending;
    let mut pulled = 0;
    while remaining > 0 {
        if !cursor.is_pulling() {
            pulled = 0;
            cursor.pull(Pull { messages: WATCH_BATCH, bytes: None, wait: None }).await?;
        }
        match cursor.receive().await {
            Received::Message(stored) => {
                pulled += 1;
                remaining = remaining.saturating_sub(1).min(stored.pending);
                entries.extend(entry(bucket, stored).filter(|entry| !entry.deleted));
            }
            // Entries that expired since the cursor was opened are counted but not delivered.
            Received::End if pulled == 0 => break,
            Received::End => {}
            Received::TooLarge => return Ok(Err("an entry is larger than a pull".to_owned())),
            Received::Lost(reason) => return Ok(Err(reason)),
        }
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Ok(entries))
}

/// The key is what follows `$KV.<bucket>.`.
fn entry(bucket: &Bucket, stored: Stored) -> Option<Entry> {
    let key = stored.subject.strip_prefix("$KV.")?.strip_prefix(bucket.name())?.strip_prefix('.')?;
    Some(Entry {
        key: key.to_owned(),
        revision: stored.seq,
        deleted: is_deletion(stored.headers.as_ref()),
        value: stored.payload,
        created_ms: stored.stored_ms,
    })
}

pub(super) fn watch(bucket: Bucket, filter: String) -> Watch {
    let state = Watching {
        bucket,
        filter,
        cursor: None,
        created: None,
        revision: 0,
        behind: None,
        ready: VecDeque::new(),
        pulled: 0,
        pause: PAUSE.0,
    };
    unfold(state, |mut state| async move { Some((state.next().await, state)) }).boxed()
}

struct Watching {
    bucket: Bucket,
    /// Subjects of the keys that are told.
    filter: String,
    cursor: Option<Cursor>,
    /// The bucket's creation, once it was seen.
    created: Option<jiff::Timestamp>,
    /// Highest revision delivered, or known to be superseded by what was delivered.
    revision: u64,
    /// What the last opening still has to deliver before everything is, and the revision reached then.
    behind: Option<(u64, u64)>,
    ready: VecDeque<WatchEvent>,
    /// Messages of the running pull so far.
    pulled: usize,
    pause: Duration,
}

impl Watching {
    async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Err(fault) = self.advance().await {
                match &fault {
                    Fault::Unknown(_) => {
                        tracing::debug!(bucket = self.bucket.name(), %fault, "watch is resumed");
                    }
                    Fault::Refused { .. } => {
                        tracing::warn!(bucket = self.bucket.name(), %fault, "watch is tried again");
                    }
                }
                self.cursor = None;
                self.wait().await;
            }
        }
    }

    /// One step: open, ask, or receive.
    async fn advance(&mut self) -> Result<(), Fault> {
        let Some(cursor) = &mut self.cursor else {
            return self.open().await;
        };
        if !cursor.is_pulling() {
            self.pulled = 0;
            return cursor.pull(Pull { messages: WATCH_BATCH, bytes: None, wait: Some(WATCH_WAIT) }).await;
        }
        match cursor.receive().await {
            Received::Message(stored) => {
                self.pause = PAUSE.0;
                self.pulled += 1;
                self.take(stored);
                Ok(())
            }
            Received::End => {
                self.pause = PAUSE.0;
                // A whole pull without a message: what was counted but not delivered has expired meanwhile.
                if self.pulled == 0 {
                    self.settle(0);
                }
                Ok(())
            }
            Received::TooLarge => Err(Fault::Unknown("an entry is larger than a pull".to_owned())),
            Received::Lost(reason) => Err(Fault::Unknown(reason)),
        }
    }

    /// Goes on behind the last revision, or begins anew when this is another bucket than before.
    async fn open(&mut self) -> Result<(), Fault> {
        let start = if self.created.is_some() { Start::At(self.revision + 1) } else { Start::LastPerSubject };
        let shape = Shape { start, filter: Some(&self.filter), headers_only: false, linger: WATCH_LINGER };
        let cursor = Cursor::open(&self.bucket.client, &self.bucket.stream, shape).await?;
        let (created, last) = (cursor.info.created, cursor.info.state.last_seq);
        // A restored bucket keeps its creation but may have lost its latest writes.
        if self.created.is_some_and(|known| known != created) || last < self.revision {
            self.created = None;
            self.revision = 0;
            self.behind = None;
            self.ready.push_back(WatchEvent::Reset);
            return Ok(());
        }
        self.created = Some(created);
        self.behind = Some((cursor.pending, last));
        if cursor.pending == 0 {
            self.settle(0);
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn take(&mut self, stored: Stored) {
        let (seq, pending) = (stored.seq, stored.pending);
        self.revision = self.revision.max(seq);
        if let Some(entry) = entry(&self.bucket, stored) {
            self.ready.push_back(if entry.deleted {
                WatchEvent::Delete { key: entry.key, revision: entry.revision }
            } else {
                WatchEvent::Put(entry)
            });
        }
        let remaining = self.behind.map_or(0, |(remaining, _)| remaining.saturating_sub(1)).min(pending);
        self.settle(remaining);
    }

    /// Tells `Synced` when nothing remains to be delivered of what was there at the last opening.
    fn settle(&mut self, remaining: u64) {
        if let Some((_, last)) = self.behind {
            if remaining > 0 {
                self.behind = Some((remaining, last));
                return;
            }
            self.behind = None;
            self.revision = self.revision.max(last);
            self.ready.push_back(WatchEvent::Synced { revision: self.revision });
        }
    }

    /// Pauses, unless a new connection comes first.
    async fn wait(&mut self) {
        let mut connects = self.bucket.client.connects();
        connects.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            Ok(()) = connects.changed() => {}
        }
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}
