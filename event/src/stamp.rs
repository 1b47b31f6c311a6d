//! Proof of ownership that is written on every external object, because status is disposable and names can be reused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const PREFIX: &str = "meterplane.io/";

/// Who owns an external object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The installation (chart value), so that two clusters on one NATS never touch each other's objects.
    pub installation: String,
    /// Tenant name.
    pub tenant: String,
    /// UID of the Tenant resource that owns the object now.
    pub uid: String,
    /// UID of the first Tenant that owned the data; inherited by adoption.
    pub lineage: String,
    /// The owner was deleted and its data retained.
    #[serde(default)]
    pub released: bool,
}

/// How an object's stamp relates to a tenant that claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Stamped with the claiming Tenant's UID.
    Ours,
    /// Of the same installation and tenant name, given back by its owner: may be adopted if asked.
    Released,
    /// Of the same installation and tenant name, but its owner never gave it back (for example a restored cluster,
    /// where every UID is new).
    Orphaned,
    /// Another installation's or another tenant's.
    Foreign,
}

/// Why an object may not be touched for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is somebody else's, or nobody's: it carries no complete stamp.
    Foreign {
        /// The stamp found.
        found: Option<Stamp>,
    },
    /// Ours by name, but stamped by an earlier Tenant that never gave it back.
    Orphaned {
        /// The stamp found.
        found: Stamp,
    },
    /// Its owner was deleted and its data retained: it may be adopted.
    RetainedData {
        /// The stamp found.
        found: Stamp,
    },
}

impl Stamp {
    /// Why whoever carries this stamp may not touch an object stamped `found`, if so.
    pub fn claim(&self, found: Option<&Self>) -> Option<Claim> {
        let Some(found) = found else { return Some(Claim::Foreign { found: None }) };
        match found.ownership(&self.installation, &self.tenant, &self.uid) {
            Ownership::Ours => None,
            Ownership::Released => Some(Claim::RetainedData { found: found.clone() }),
            Ownership::Orphaned => Some(Claim::Orphaned { found: found.clone() }),
            Ownership::Foreign => Some(Claim::Foreign { found: Some(found.clone()) }),
        }
    }

    /// Relates this stamp to the Tenant `uid` named `tenant` of `installation`.
    pub fn ownership(&self, installation: &str, tenant: &str, uid: &str) -> Ownership {
        if self.installation != installation || self.tenant != tenant {
            Ownership::Foreign
        } else if self.released {
            Ownership::Released
        } else if self.uid == uid {
            Ownership::Ours
        } else {
            Ownership::Orphaned
        }
    }

    /// As metadata pairs, for stores that have them.
    pub fn to_pairs(&self) -> BTreeMap<String, String> {
        let state = if self.released { "released" } else { "owned" };
        [
            ("installation", self.installation.as_str()),
            ("tenant", &self.tenant),
            ("uid", &self.uid),
            ("lineage", &self.lineage),
            ("state", state),
        ]
        .into_iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), value.to_owned()))
        .collect()
    }

    /// Reads metadata pairs; `None` when one is missing, so a half-written stamp is no stamp.
    pub fn from_pairs<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let pair = |key: &str| get(&format!("{PREFIX}{key}")).map(str::to_owned);
        Some(Self {
            installation: pair("installation")?,
            tenant: pair("tenant")?,
            uid: pair("uid")?,
            lineage: pair("lineage")?,
            released: match pair("state")?.as_str() {
                "released" => true,
                "owned" => false,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(released: bool) -> Stamp {
        let text = str::to_owned;
        Stamp {
            installation: text("dev"),
            tenant: text("acme"),
            uid: text("u1"),
            lineage: text("u0"),
            released,
        }
    }

    #[test]
    fn stamps_survive_metadata() {
        for released in [false, true] {
            let pairs = stamp(released).to_pairs();
            assert_eq!(Stamp::from_pairs(|key| pairs.get(key).map(String::as_str)), Some(stamp(released)));
        }
        let mut pairs = stamp(false).to_pairs();
        pairs.remove("meterplane.io/uid");
        assert_eq!(Stamp::from_pairs(|key| pairs.get(key).map(String::as_str)), None);
    }

    #[test]
    fn ownership_is_decided_by_installation_name_and_uid() {
        let owned = stamp(false);
        assert_eq!(owned.ownership("dev", "acme", "u1"), Ownership::Ours);
        assert_eq!(owned.ownership("dev", "acme", "u2"), Ownership::Orphaned);
        assert_eq!(owned.ownership("prod", "acme", "u1"), Ownership::Foreign);
        assert_eq!(owned.ownership("dev", "wayne", "u1"), Ownership::Foreign);
        assert_eq!(stamp(true).ownership("dev", "acme", "u1"), Ownership::Released);
    }
}
