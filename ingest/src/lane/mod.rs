//! From admitted events to acknowledged packs: one packer a lane.
//!
//! Requests append to the lane's open pack. A pack is sent as soon as fewer than W of the lane are in flight, so there
//! is no linger when idle, and under load every pack carries what arrived while the others were on their way.

mod packer;
mod send;

use std::collections::HashMap;
use std::sync::Arc;

use event::Lane;
use event::names::FENCE_SLOTS;
use parking_lot::Mutex;

pub use packer::{Packer, Submitted};
pub use send::{Outcome, Sender};

/// The packers of all lanes that this pod has written to.
pub struct Lanes {
    packers: Mutex<HashMap<Lane, Arc<Packer>>>,
    sender: Arc<Sender>,
    slots: u8,
}

impl Lanes {
    /// No packers yet; each will have at most `slots` packs on their way, and never more than can be fenced off.
    pub fn new(sender: Arc<Sender>, slots: u8) -> Self {
        Self { packers: Mutex::default(), sender, slots: slots.clamp(1, FENCE_SLOTS) }
    }

    /// Lanes that this pod has written to.
    pub fn count(&self) -> usize {
        self.packers.lock().len()
    }

    /// The packer of a lane.
    pub fn packer(&self, lane: &Lane) -> Arc<Packer> {
        let mut packers = self.packers.lock();
        if let Some(packer) = packers.get(lane) {
            return packer.clone();
        }
        let packer = Arc::new(Packer::new(lane, self.sender.clone(), self.slots));
        packers.insert(lane.clone(), packer.clone());
        packer
    }
}
