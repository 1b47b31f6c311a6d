//! The quota keys that this pod knows, by key.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use policy::tenant::QuotaKey;

use super::entry::Entry;

/// The entries; about `max` of them are kept, see [`super::sweep`].
pub(super) struct Entries {
    max: usize,
    by_key: Mutex<HashMap<QuotaKey, Arc<Entry>>>,
}

impl Entries {
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), by_key: Mutex::default() }
    }

    /// The entry of a key; made anew when there is none, or when it was granted from another ledger: what that one gave is
    /// worth nothing.
    pub fn get(&self, key: &QuotaKey, ledger_id: &Arc<str>, make: impl FnOnce() -> Entry) -> Arc<Entry> {
        let mut by_key = self.by_key.lock();
        match by_key.get(key) {
            Some(entry) if entry.ledger_id == *ledger_id => entry.clone(),
            _ => {
                let entry = Arc::new(make());
                by_key.insert(*key, entry.clone());
                entry
            }
        }
    }

    /// The entry of a key, if there is one.
    pub fn find(&self, key: &QuotaKey) -> Option<Arc<Entry>> {
        self.by_key.lock().get(key).cloned()
    }

    /// Entries that `wanted` picks.
    pub fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        self.by_key.lock().values().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.lock().len()
    }

    /// How many there are beyond the bound.
    pub fn excess(&self) -> usize {
        self.len().saturating_sub(self.max)
    }

    /// Forgets an entry that nobody is about to use: the map and the caller hold the only references.
    pub fn forget(&self, entry: &Arc<Entry>, unless: impl FnOnce(&Entry) -> bool) {
        let mut by_key = self.by_key.lock();
        if Arc::strong_count(entry) == 2 && !unless(entry) {
            by_key.remove(&entry.key);
        }
    }
}
