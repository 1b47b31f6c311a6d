//! Names of things outside this process. This is the only place where their formats exist.
//!
//! | thing | name |
//! |---|---|
//! | lane stream | `USAGE_<tenant>`, `USAGE_POOL_<n>` |
//! | packs of a lane | subject `usage.<lane>.packs` |
//! | publish fence of a lane | subject `usage.<lane>.fence.<incarnation>.<slot>` |
//! | what was refused | stream `VIOLATIONS` |
//! | a lane's tables | `tenant_<tenant>.events_raw`, `pool_<n>.events_raw` (and `.removed`, `.charges`, `.violations_raw`) |
//! | what people query | views `tenant_<tenant>.events` and `.violations` |
//! | ClickHouse user by which a tenant queries them | `tenant_<tenant>`, as the database |
//! | transit key and its policy | `mp-<tenant>` |
//! | policy snapshot | bucket `policy`, key `tenant.<tenant>` |
//! | quota record | bucket `ledger-<window>-<shard>` |
//! | seat of a tenant that has moved | bucket `seats`, key `<tenant number>` |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest tenant name, so that every derived name stays inside its store's limits.
pub const TENANT_NAME_MAX: usize = 40;

/// The platform's own keys stand beside the tenants' in Vault ([`SIGNING_KEY`]): no tenant may be called like one.
const RESERVED_TENANT_PREFIX: &str = "platform-";

/// A tenant's name: a DNS label (RFC 1123) of at most 40 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(String);

/// Why a text is not a tenant name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a tenant name: 1 to 40 of a-z, 0-9 and '-', beginning and ending with a letter or digit, \
     and not beginning with platform-"
)]
pub struct InvalidTenantName(String);

impl TenantName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Database that people query: `tenant_<tenant>`. DNS labels hold no `_`, so the mapping is injective.
    pub fn database(&self) -> String {
        format!("tenant_{}", self.0.replace('-', "_"))
    }

    /// ClickHouse user by which the tenant queries its database: called like it, so that whose the database is, its is the user.
    pub fn query_user(&self) -> String {
        self.database()
    }

    /// Vault transit key, and the policy that stands beside it.
    pub fn transit_key(&self) -> String {
        format!("mp-{}", self.0)
    }

    /// Key of the tenant's snapshot in bucket [`POLICY_BUCKET`].
    pub fn policy_key(&self) -> String {
        format!("{POLICY_KEY_PREFIX}{}", self.0)
    }

    /// Subject of the tenant's denials in stream [`VIOLATIONS_STREAM`].
    pub fn violations_subject(&self) -> String {
        format!("violations.{}", self.0)
    }
}

impl FromStr for TenantName {
    type Err = InvalidTenantName;
    fn from_str(text: &str) -> Result<Self, InvalidTenantName> {
        let bytes = text.as_bytes();
        let label = bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let ends = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        let reserved = text.starts_with(RESERVED_TENANT_PREFIX);
        if label && !reserved && bytes.len() <= TENANT_NAME_MAX && ends(bytes.first()) && ends(bytes.last()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTenantName(text.to_owned()))
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TenantName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One stream, one raw table and the consumer between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A tenant's own.
    Dedicated(TenantName),
    /// A shard that many tenants share.
    Pooled(u16),
}

impl Lane {
    /// The lane's stream.
    pub fn stream(&self) -> String {
        format!("{LANE_STREAM_PREFIX}{self}")
    }

    /// The lane a stream belongs to, if it is one.
    pub fn from_stream(stream: &str) -> Option<Self> {
        stream.strip_prefix(LANE_STREAM_PREFIX)?.parse().ok()
    }

    /// Every subject of the lane's stream.
    pub fn subjects(&self) -> String {
        format!("usage.{self}.>")
    }

    /// Subject that packs are published to.
    pub fn packs_subject(&self) -> String {
        format!("usage.{self}.packs")
    }

    /// Subject that fences one slot of one pod: once a message stands there, no pack that names it is stored any more.
    pub fn fence_subject(&self, incarnation: crate::Incarnation, slot: u8) -> String {
        format!("usage.{self}.fence.{incarnation}.{slot}")
    }

    /// Database of the lane's tables.
    pub fn database(&self) -> String {
        match self {
            Self::Dedicated(tenant) => tenant.database(),
            Self::Pooled(shard) => format!("{POOL_PREFIX}{shard}"),
        }
    }
}

/// Tenant names are lower case, so `POOL_<n>` can never be one.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dedicated(tenant) => write!(f, "{tenant}"),
            Self::Pooled(shard) => write!(f, "POOL_{shard}"),
        }
    }
}

impl FromStr for Lane {
    type Err = InvalidTenantName;
    fn from_str(text: &str) -> Result<Self, InvalidTenantName> {
        match text.strip_prefix("POOL_").map(|n| n.parse::<u16>().map(|shard| (n, shard))) {
            // "POOL_07" is not what we write, so it is not a lane.
            Some(Ok((n, shard))) if shard.to_string() == n => Ok(Self::Pooled(shard)),
            _ => text.parse().map(Self::Dedicated),
        }
    }
}

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Packs of one lane that a pod has on their way at once, each in a slot of its own: what a dead pod must be fenced off from.
pub const FENCE_SLOTS: u8 = 8;
/// Prefix of every pool shard's database.
pub const POOL_PREFIX: &str = "pool_";
/// Prefix of every lane stream.
pub const LANE_STREAM_PREFIX: &str = "USAGE_";
/// Header of a pack: `<tenant number>=<events>,…`, what the auditor counts without opening the pack.
pub const COUNTS_HEADER: &str = "Mp-Counts";
/// Bucket of the signed policy snapshots; only the operator writes it.
pub const POLICY_BUCKET: &str = "policy";
/// Prefix of the tenants' keys in [`POLICY_BUCKET`].
pub const POLICY_KEY_PREFIX: &str = "tenant.";
/// Key in [`POLICY_BUCKET`] written last: its presence says that the bucket is complete.
pub const POLICY_INDEX_KEY: &str = "index";
/// Bucket of the ingest pods' heartbeats, a key an incarnation.
pub const PODS_BUCKET: &str = "pods";
/// Bucket of the sinks' intents, a key a lane.
pub const INTENTS_BUCKET: &str = "intents";
/// Bucket of the lanes' audits, a key a lane.
pub const AUDITS_BUCKET: &str = "audits";
/// Key in [`AUDITS_BUCKET`] that says that a tenant's rows were removed for good: what is missing of them is no loss.
pub fn forgotten_key(tenant: crate::TenantNumber) -> String {
    format!("forgotten.{tenant}")
}
/// Bucket of the seats of tenants that have moved between lanes, a key a tenant number.
pub const SEATS_BUCKET: &str = "seats";
/// Bucket of leases between replicas of one deployable.
pub const LEASES_BUCKET: &str = "leases";
/// Stream of denials.
pub const VIOLATIONS_STREAM: &str = "VIOLATIONS";
/// Raw table of what was refused, inside [`Lane::database`].
pub const VIOLATIONS_TABLE: &str = "violations_raw";
/// View of it that people query, inside [`TenantName::database`].
pub const VIOLATIONS_VIEW: &str = "violations";
/// Key of the sink's record for that stream in bucket [`INTENTS_BUCKET`]; lanes are lower case, so none is called like it.
pub const VIOLATIONS_INTENT: &str = "VIOLATIONS";
/// Table of what pods charged to quotas that never start anew, inside [`Lane::database`].
pub const CHARGES_TABLE: &str = "charges";
/// Raw table of a lane, inside [`Lane::database`].
pub const RAW_TABLE: &str = "events_raw";
/// Table of events that a lane's sink removed, inside [`Lane::database`].
pub const REMOVED_TABLE: &str = "removed";
/// View that people query, inside [`TenantName::database`].
pub const EVENTS_VIEW: &str = "events";
/// View that ledgers are seeded from, inside [`TenantName::database`].
pub const CHARGED_VIEW: &str = "charged";
/// Table of a lane's sums, inside [`Lane::database`].
pub const ROLLUPS_TABLE: &str = "rollups_raw";
/// View of them, inside [`TenantName::database`].
pub const ROLLUPS_VIEW: &str = "rollups";
/// Table of the numbers that stand for users in a lane's sums, inside [`Lane::database`].
pub const USERS_TABLE: &str = "users_raw";
/// View of them, inside [`TenantName::database`].
pub const USERS_VIEW: &str = "users";
/// View of the names of the databases that a tenant's rows are in, inside [`TenantName::database`].
pub const PLACES_VIEW: &str = "places";
/// Transit key that signs snapshots.
pub const SIGNING_KEY: &str = "mp-platform-snapshots";

/// Ledger buckets a window kind: keys are spread over them by hash.
pub const LEDGER_SHARDS: u8 = 4;

/// Bucket of the quota records of one window kind (`hour`, `day`, …) and shard.
pub fn ledger_bucket(window: &str, shard: u8) -> String {
    format!("ledger-{window}-{shard}")
}

/// Subject on which a pod is asked to return slices.
pub fn recall_subject(incarnation: crate::Incarnation) -> String {
    format!("mp.recall.{incarnation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_dns_labels() {
        for good in ["a", "acme", "wayne-enterprises", "0", "a--b", &"x".repeat(40)] {
            assert!(good.parse::<TenantName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Acme",
            "a.b",
            "a_b",
            "ä",
            "a b",
            &"x".repeat(41),
            "POOL_1",
            "platform-snapshots",
        ] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lanes_survive_their_stream_name() {
        for lane in
            [Lane::Dedicated("wayne-enterprises".parse().unwrap()), Lane::Pooled(0), Lane::Pooled(65535)]
        {
            assert_eq!(Lane::from_stream(&lane.stream()), Some(lane));
        }
        for other in
            ["KV_policy", "USAGE_", "USAGE_POOL_x", "USAGE_POOL_07", "USAGE_POOL_70000", "VIOLATIONS"]
        {
            assert_eq!(Lane::from_stream(other), None, "{other}");
        }
    }

    #[test]
    fn databases_of_different_lanes_differ() {
        let tenant: TenantName = "a-b".parse().unwrap();
        assert_eq!(Lane::Dedicated(tenant).database(), "tenant_a_b");
        assert_eq!(Lane::Pooled(3).database(), "pool_3");
    }
}
