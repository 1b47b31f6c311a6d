//! Which ledger buckets quotas are leased from: their ids, ready to be looked up on an event's way.

use std::sync::Arc;

use event::names::{LEDGER_SHARDS, ledger_bucket};

use crate::snapshot::Index;
use crate::window::{WINDOWS, Window};

/// The id of every ledger bucket that the signed index names.
#[derive(Debug, Clone, Default)]
pub struct LedgerIds(Vec<Option<Arc<str>>>);

impl LedgerIds {
    /// From the signed index.
    pub fn new(index: &Index) -> Self {
        let buckets = WINDOWS.iter().flat_map(|window| (0..LEDGER_SHARDS).map(|shard| (*window, shard)));
        let id = |(window, shard): (Window, u8)| index.ledgers.get(&ledger_bucket(window.label(), shard));
        Self(buckets.map(|bucket| id(bucket).map(|id| id.as_str().into())).collect())
    }

    /// The id of one bucket; `None` when the index does not name it.
    pub fn get(&self, window: Window, shard: u8) -> Option<&Arc<str>> {
        self.0.get(window as usize * usize::from(LEDGER_SHARDS) + usize::from(shard))?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_has_its_own_place() {
        let names =
            WINDOWS.iter().flat_map(|window| (0..LEDGER_SHARDS).map(|s| ledger_bucket(window.label(), s)));
        let ledgers = names.map(|name| (name.clone(), format!("id of {name}"))).collect();
        let ids = LedgerIds::new(&Index { installation: "dev".into(), tenants: 0, ledgers, epoch: 0 });
        for window in WINDOWS {
            for shard in 0..LEDGER_SHARDS {
                let id = ids.get(window, shard).map(ToString::to_string);
                assert_eq!(id, Some(format!("id of {}", ledger_bucket(window.label(), shard))));
            }
            assert_eq!(ids.get(Window::Total, LEDGER_SHARDS), None);
        }
        assert_eq!(LedgerIds::default().get(Window::Day, 0), None);
    }
}
