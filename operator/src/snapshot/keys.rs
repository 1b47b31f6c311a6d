//! What is known of the keys that apps hold: digests and how long each is valid. The Secrets are the source; this is
//! what the last look at them said.

use std::collections::HashMap;

use parking_lot::RwLock;
use policy::apikey::KeyDigest;

use crate::engine::ObjectKey;

/// One key as the snapshot needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyEntry {
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// Last millisecond it is valid, for a replaced key.
    pub not_after_ms: Option<i64>,
}

/// Keys by ApiKey. Absent means: not looked at since this process started.
#[derive(Default)]
pub struct KeyRecords {
    records: RwLock<HashMap<ObjectKey, Record>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    uid: String,
    entries: Vec<KeyEntry>,
}

impl KeyRecords {
    /// Notes the keys of the ApiKey with this UID; whether that is news.
    pub fn note(&self, key: &ObjectKey, uid: &str, mut entries: Vec<KeyEntry>) -> bool {
        entries.sort();
        let record = Record { uid: uid.to_owned(), entries };
        let mut records = self.records.write();
        if records.get(key) == Some(&record) {
            return false;
        }
        records.insert(key.clone(), record);
        true
    }

    /// Forgets an ApiKey that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.records.write().remove(key);
    }

    /// The keys of the ApiKey with this UID, if its Secret has been looked at.
    pub fn get(&self, key: &ObjectKey, uid: &str) -> Option<Vec<KeyEntry>> {
        self.records.read().get(key).filter(|record| record.uid == uid).map(|record| record.entries.clone())
    }
}

/// Stable id of a declared key.
pub fn key_id(key: &ObjectKey) -> String {
    format!("ns.{}.{}", key.namespace, key.name)
}

/// Identity of a declared limit.
pub fn limit_identity(key: &ObjectKey) -> String {
    format!("ns.{}.{}", key.namespace, key.name)
}

/// The declared limit of an identity; `None` for one of a plan.
pub fn limit_of_identity(identity: &str) -> Option<ObjectKey> {
    let (namespace, name) = identity.strip_prefix("ns.")?.split_once('.')?;
    Some(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}
