//! From admitted events to acknowledged packs: one packer a lane.
//!
//! Requests append to the lane's open pack. A pack is sent as soon as fewer than W of the lane are in flight, so there
//! is no linger when idle, and under load every pack carries what arrived while the others were on their way.

mod packer;
mod send;

use std::collections::HashMap;
use std::sync::Arc;

use event::Lane;
use parking_lot::Mutex;

pub use packer::{Packer, Submitted};
pub use send::{Outcome, Sender};

/// The packers of all lanes that this pod has written to.
pub struct Lanes {
    packers: Mutex<HashMap<Lane, Arc<Packer>>>,
    sender: Arc<Sender>,
    in_flight: usize,
}

impl Lanes {
    /// No packers yet; each will have at most `in_flight` packs on their way.
    pub fn new(sender: Arc<Sender>, in_flight: usize) -> Self {
        Self { packers: Mutex::default(), sender, in_flight: in_flight.max(1) }
    }

    /// The packer of a lane.
    pub fn packer(&self, lane: &Lane) -> Arc<Packer> {
        let mut packers = self.packers.lock();
        if let Some(packer) = packers.get(lane) {
            return packer.clone();
        }
        let packer = Arc::new(Packer::new(lane, self.sender.clone(), self.in_flight));
        packers.insert(lane.clone(), packer.clone());
        packer
    }
}
