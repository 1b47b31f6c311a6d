//! Messages of a lane that wait for their intent, in bounded memory.

use std::sync::Arc;

use jetstream::LaneMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a lane may hold without asking: an idle lane's first packs.
const FREE_BYTES: usize = 1 << 20;
/// What it may hold of the shared memory beyond that, in MiB.
const SHARED_MIB: u32 = 8;
/// Messages of one read, at most.
const MESSAGES: usize = 2_000;

/// Messages of a lane.
pub struct Pending {
    shared: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    messages: Vec<LaneMessage>,
    bytes: usize,
    /// The last read ended at its limit.
    more: bool,
}

impl Pending {
    /// None yet. `shared` counts MiB.
    pub fn new(shared: Arc<Semaphore>) -> Self {
        Self { shared, permit: None, messages: Vec::new(), bytes: 0, more: false }
    }

    /// The messages.
    pub fn messages(&self) -> &[LaneMessage] {
        &self.messages
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether no more should be read before a flush.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES || self.bytes >= self.limit()
    }

    /// Whether more is waiting in the stream, and there is room for it.
    pub fn wants_more(&self) -> bool {
        self.more && !self.is_full()
    }

    /// Messages and bytes of the next read.
    pub fn room(&self) -> (usize, usize) {
        (MESSAGES.saturating_sub(self.messages.len()).max(1), self.limit().saturating_sub(self.bytes).max(1))
    }

    /// Takes over a read.
    pub fn extend(&mut self, read: Vec<LaneMessage>) {
        let (messages, bytes) = self.room();
        let got: usize = read.iter().map(|message| message.payload.len()).sum();
        // The next message is usually as large as this read's were.
        let usual = got.checked_div(read.len()).unwrap_or(0);
        self.more = !read.is_empty() && (read.len() >= messages || got + usual >= bytes);
        self.bytes += got;
        self.messages.extend(read);
        if self.more && self.permit.is_none() {
            // Without room the lane flushes smaller batches.
            self.permit = self.shared.clone().try_acquire_many_owned(SHARED_MIB).ok();
        }
    }

    /// Drops the first `count`.
    pub fn drain(&mut self, count: usize) {
        let gone: usize = self.messages.drain(..count).map(|message| message.payload.len()).sum();
        self.bytes -= gone;
        if self.messages.is_empty() {
            self.permit = None;
        }
    }

    /// When the oldest was stored in the stream, in Unix milliseconds; 0 when there is none.
    pub fn oldest_ms(&self) -> u64 {
        self.messages.first().map_or(0, |message| message.received_ms)
    }

    fn limit(&self) -> usize {
        FREE_BYTES + if self.permit.is_some() { (SHARED_MIB as usize) << 20 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    fn read(count: usize, bytes: usize) -> Vec<LaneMessage> {
        (0..count as u64).map(|seq| message(seq, &vec![0; bytes])).collect()
    }

    #[test]
    fn a_busy_lane_borrows_memory_and_gives_it_back() {
        let shared = Arc::new(Semaphore::new(12));
        let (mut one, mut two) = (Pending::new(shared.clone()), Pending::new(shared.clone()));
        one.extend(read(3, 1000));
        assert!(!one.is_full() && !one.wants_more(), "the stream is at its end");
        one.extend(read(4, 256 << 10));
        assert!(one.wants_more() && !one.is_full());
        two.extend(read(4, 256 << 10));
        assert!(two.is_full(), "no room: it flushes what it has");
        one.drain(7);
        assert_eq!((shared.available_permits(), one.bytes), (12, 0));
    }
}
