//! Group commit of concurrent requests of one lane.

use std::collections::VecDeque;
use std::sync::Arc;

use event::Lane;
use event::pack::{PackedEvent, TARGET_BYTES, Writer};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::send::{Outcome, Sealed, Sender};
use crate::snapshot::Policies;

/// Closed packs that may wait for a slot; beyond them a request is answered 503 at once.
const MAX_WAITING: usize = 32;

/// The packer of one lane.
pub struct Packer {
    lane: Lane,
    sender: Arc<Sender>,
    state: Mutex<State>,
}

struct State {
    open: Option<Open>,
    waiting: VecDeque<Sealed>,
    /// Slots without a pack on its way. A slot has one at a time, so that fencing off every slot fences off every pack.
    free_slots: Vec<u8>,
    /// Somebody waits for requests that are ready to be read, and then closes the open pack.
    gathering: bool,
}

/// A pack that still takes events.
struct Open {
    writer: Writer,
    received_ms: i64,
    outcome: watch::Sender<Option<Outcome>>,
    /// What its events were decided by: in use until the fate of the pack is known, whoever hangs up before.
    decided_by: Vec<Arc<Policies>>,
}

/// Where one event went: the outcome of its pack.
pub type Submitted = watch::Receiver<Option<Outcome>>;

/// Why events were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lane does not keep up: too many packs wait for their acknowledgement")]
pub struct Busy;

impl Packer {
    pub(super) fn new(lane: &Lane, sender: Arc<Sender>, slots: u8) -> Self {
        let free_slots = (0..slots).rev().collect();
        let state = State { open: None, waiting: VecDeque::new(), free_slots, gathering: false };
        Self { lane: lane.clone(), sender, state: Mutex::new(state) }
    }

    /// Takes a request's events, in order, all received at `received_ms` and decided by `policies`; gives the outcome to wait
    /// for, one an event.
    ///
    /// # Errors
    /// [`Busy`]: none was taken.
    pub fn submit<'a>(
        self: &Arc<Self>,
        events: impl Iterator<Item = PackedEvent<'a>>,
        received_ms: i64,
        policies: &Arc<Policies>,
    ) -> Result<Vec<Submitted>, Busy> {
        let mut submitted = Vec::new();
        {
            let mut state = self.state.lock();
            if state.waiting.len() >= MAX_WAITING {
                return Err(Busy);
            }
            for event in events {
                let open = state.open_at(received_ms, &self.sender);
                open.writer.push(&event);
                open.decide_by(policies);
                submitted.push(open.outcome.subscribe());
                if open.writer.body_bytes() >= TARGET_BYTES {
                    state.close(&self.sender);
                }
            }
        }
        self.pump();
        Ok(submitted)
    }

    /// Sends packs while there are free slots: closed ones at once, the open one with whatever else has arrived by now.
    fn pump(self: &Arc<Self>) {
        loop {
            let closed = {
                let mut state = self.state.lock();
                let State { waiting, free_slots, .. } = &mut *state;
                if free_slots.is_empty() {
                    return;
                }
                match waiting.pop_front() {
                    Some(pack) => free_slots.pop().map(|slot| (slot, pack)),
                    None if state.gathering || state.open.is_none() => return,
                    None => {
                        state.gathering = true;
                        None
                    }
                }
            };
            let packer = self.clone();
            match closed {
                Some((slot, pack)) => drop(tokio::spawn(packer.send(slot, pack))),
                None => drop(tokio::spawn(packer.gather())),
            }
        }
    }

    /// Lets every request that is ready write into the open pack, then sends it. Without this, each request of a busy lane
    /// whose slots are free would be a pack: the server and the connection would have the work of a message an event.
    async fn gather(self: Arc<Self>) {
        // Comes back when the sockets have been looked at; there is no timer.
        tokio::task::yield_now().await;
        {
            let mut state = self.state.lock();
            state.gathering = false;
            if !state.free_slots.is_empty() && state.waiting.is_empty() {
                state.close(&self.sender);
            }
        }
        self.pump();
    }

    async fn send(self: Arc<Self>, slot: u8, pack: Sealed) {
        self.sender.send(&self.lane, slot, pack).await;
        self.state.lock().free_slots.push(slot);
        self.pump();
    }
}

impl Open {
    fn decide_by(&mut self, policies: &Arc<Policies>) {
        if !self.decided_by.iter().any(|known| Arc::ptr_eq(known, policies)) {
            self.decided_by.push(policies.clone());
        }
    }

    fn seal(self, sender: &Sender) -> Sealed {
        sender.seal(self.writer, self.received_ms, self.outcome, self.decided_by)
    }
}

impl State {
    /// The open pack. All events of a pack are received within one second, so that they lie in the same periods.
    fn open_at(&mut self, received_ms: i64, sender: &Sender) -> &mut Open {
        let same_second = |open: &Open| open.received_ms.div_euclid(1_000) == received_ms.div_euclid(1_000);
        if self.open.as_ref().is_some_and(|open| !same_second(open)) {
            self.close(sender);
        }
        self.open.get_or_insert_with(|| {
            let (outcome, _) = watch::channel(None);
            Open { writer: Writer::default(), received_ms, outcome, decided_by: Vec::new() }
        })
    }

    fn close(&mut self, sender: &Sender) {
        if let Some(open) = self.open.take().filter(|open| !open.writer.is_empty()) {
            self.waiting.push_back(open.seal(sender));
        }
    }
}
