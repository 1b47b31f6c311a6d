//! Names of requests.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

/// The system gives no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// Gives every request a name of its own, across replicas and restarts.
#[derive(Debug)]
pub struct RequestIds {
    process: String,
    count: AtomicU64,
}

impl RequestIds {
    /// Begins with a random name of this process.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new() -> Result<Self, NoRandomness> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| NoRandomness)?;
        let process = event::ids::base32(u128::from(u64::from_le_bytes(random)))[13..].to_owned();
        Ok(Self { process, count: AtomicU64::new(0) })
    }

    /// The next name: `req_<process>-<count>`.
    pub fn next(&self) -> String {
        format!("req_{}-{:x}", self.process, self.count.fetch_add(1, Ordering::Relaxed))
    }
}
