//! Which shards are in place: a tenant goes to no other.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Shards that are in place, by pool.
#[derive(Default)]
pub struct Shards(Mutex<HashMap<String, Vec<u16>>>);

impl Shards {
    /// Those of one pool.
    pub fn of(&self, pool: &str) -> Vec<u16> {
        self.0.lock().get(pool).cloned().unwrap_or_default()
    }

    /// Notes those of one pool; whether that is news.
    pub(super) fn put(&self, pool: &str, shards: Vec<u16>) -> bool {
        let mut known = self.0.lock();
        known.insert(pool.to_owned(), shards.clone()) != Some(shards)
    }

    /// Takes no more tenants into a pool.
    pub(super) fn forget(&self, pool: &str) {
        self.0.lock().remove(pool);
    }
}
