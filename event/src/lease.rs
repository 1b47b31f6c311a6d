//! Who is alive among the sinks, as others may know it: an entry a sink in bucket [`crate::names::LEASES_BUCKET`], renewed every
//! second. The sink's own code says how it is kept.

use serde::{Deserialize, Serialize};

use crate::ids::Incarnation;

/// Which rules a sink keeps (`docs/adr/0019-sinks-of-several-versions.md`). 0, or not said: it knows no [`crate::seat`]s. 1: it does.
pub const PROTOCOL: u32 = 1;

/// What stands in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts renewals: an answer that was lost is recognised by it.
    pub renewal: u64,
    /// Given back, or taken for dead: never renewed again.
    pub ended: bool,
    /// The pod, for people.
    pub pod: String,
    /// See [`PROTOCOL`].
    #[serde(default)]
    pub protocol: u32,
}

impl Entry {
    /// Whether the sink knows that tenants move between lanes.
    pub fn knows_seats(&self) -> bool {
        self.protocol >= 1
    }

    /// As stored.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what is stored.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

/// Key of a sink's entry.
pub fn key(sink: Incarnation) -> String {
    format!("sink.{sink}")
}

/// Whose entry a key is.
pub fn holder(key: &str) -> Option<Incarnation> {
    key.strip_prefix("sink.")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_does_not_say_what_it_knows_is_an_old_one() {
        let old = Entry::decode(br#"{"renewal":3,"ended":false,"pod":"sink-1"}"#).unwrap();
        assert!(!old.knows_seats());
        let new = Entry { protocol: PROTOCOL, ..old };
        assert_eq!(Entry::decode(&new.encode()), Some(new.clone()));
        assert!(new.knows_seats());
        assert_eq!(holder(&key(Incarnation(7))), Some(Incarnation(7)));
    }
}
