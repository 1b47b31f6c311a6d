//! The snapshot: one signed value a tenant, everything a pod needs to decide without asking anybody.
//!
//! ```text
//! magic "MPSN" | kind u8 | key version u32 LE | Ed25519 signature 64 bytes | zlib of JSON
//! ```
//! The signature covers a domain prefix, the kind and the compressed bytes.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use event::{Lane, TenantName, TenantNumber};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access::AccessPolicy;
use crate::apikey::{KeyDigest, Scope};
use crate::limit::Limit;

/// Largest sealed value; beyond it the resource that overflowed is `Stalled/SnapshotTooLarge`.
pub const MAX_SEALED_BYTES: usize = 512 * 1024;
/// Bound on what a value may unfold to: a pod never inflates more.
const MAX_JSON_BYTES: u64 = 16 * 1024 * 1024;
const MAGIC: &[u8; 4] = b"MPSN";
const HEAD_BYTES: usize = 4 + 1 + 4 + 64;
const DOMAIN: &[u8] = b"meterplane snapshot v1\0";

/// Everything a pod knows of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The tenant.
    pub tenant: TenantName,
    /// For people.
    pub display_name: String,
    /// UID of the first Tenant that owned the data.
    pub lineage: String,
    /// The lineage as rows carry it.
    pub number: TenantNumber,
    /// Rises with every change: `max(stored + 1, Unix milliseconds)`.
    pub generation: u64,
    /// How often the lease of the operators had changed hands when it was written: a leader that was replaced writes under an older
    /// one. 0: written by an operator that knew no leaders.
    #[serde(default)]
    pub epoch: u64,
    /// Whether its keys are served.
    pub state: TenantState,
    /// Where its events go.
    pub lane: Lane,
    /// Days after their time for which events are kept.
    #[serde(default = "for_ever")]
    pub retention_days: u32,
    /// IANA zone in which its days and months begin.
    pub time_zone: String,
    /// Event times that are accepted, relative to the time of receipt.
    pub event_window: EventWindow,
    /// Keys that speak for it.
    pub keys: Vec<ApiKey>,
    /// Every limit; an event must be admitted by each that matches.
    pub limits: Vec<Limit>,
    /// Access policies of its namespaces.
    #[serde(default)]
    pub access: Vec<AccessPolicy>,
    /// Namespaces that belong to it.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// resourceVersion of every list the snapshot was compiled from, for diagnosis and ordering.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

fn for_ever() -> u32 {
    u32::MAX
}

/// Whether a tenant's keys are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TenantState {
    /// Yes.
    #[default]
    Active,
    /// No: every request of its keys is answered 403.
    Suspended,
}

/// Accepted event times, in milliseconds around the time of receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventWindow {
    /// How far back.
    pub past_ms: u64,
    /// How far ahead.
    pub ahead_ms: u64,
}

impl Default for EventWindow {
    /// Seven days back, five minutes ahead.
    fn default() -> Self {
        Self { past_ms: 7 * 24 * 3_600_000, ahead_ms: 5 * 60_000 }
    }
}

/// A key that speaks for the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Stable id: `ns.<namespace>.<name>`; also the default `source` of its events.
    pub id: String,
    /// Digest of the secret.
    pub digest: KeyDigest,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Last millisecond at which it is accepted; `None` = no end.
    #[serde(default)]
    pub not_after_ms: Option<i64>,
}

/// Written last: says that the bucket holds every tenant. Without it a pod is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The installation that owns the bucket.
    pub installation: String,
    /// Number of tenants when it was written.
    pub tenants: u64,
    /// Ledger id of every ledger bucket: a bucket that was recreated has another.
    pub ledgers: BTreeMap<String, String>,
    /// See [`Snapshot::epoch`].
    #[serde(default)]
    pub epoch: u64,
}

/// A value that can be sealed.
pub trait Sealed: Serialize + DeserializeOwned {
    /// Tells kinds apart, so that one can never be passed off as another.
    const KIND: u8;
}

impl Sealed for Snapshot {
    const KIND: u8 = 1;
}

impl Sealed for Index {
    const KIND: u8 = 2;
}

impl Snapshot {
    /// Whether it was written by a leader who had been replaced when `other` was.
    pub fn is_outdated_by(&self, other: &Self) -> bool {
        self.epoch != 0 && self.epoch < other.epoch
    }

    /// Hash of what the snapshot says, without its generation, epoch and inputs: an unchanged one is not written again.
    pub fn content_hash(&self) -> String {
        let content = Self { generation: 0, epoch: 0, inputs: BTreeMap::new(), ..self.clone() };
        // Serialising plain data into memory cannot fail; an empty text would only cause one more write.
        blake3::hash(&serde_json::to_vec(&content).unwrap_or_default()).to_hex().to_string()
    }
}

impl Index {
    /// Whether both say the same, whoever wrote them.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { installation, tenants, ledgers, epoch: _ } = self;
        (installation, tenants, ledgers) == (&other.installation, &other.tenants, &other.ledgers)
    }
}

/// A value ready to be signed.
#[derive(Debug, Clone)]
pub struct Draft {
    kind: u8,
    compressed: Vec<u8>,
}

/// Why a value was not sealed or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Larger than a pod accepts.
    #[error("the snapshot is {0} bytes compressed, more than {MAX_SEALED_BYTES}")]
    TooLarge(usize),
    /// Not a sealed value of the expected kind.
    #[error("the value is not a sealed snapshot of the expected kind")]
    NotSealed,
    /// Signed with a key that is not trusted (yet).
    #[error("the value is signed with key version {0}, which is not trusted")]
    UnknownKey(u32),
    /// The signature does not fit.
    #[error("the signature does not fit the value")]
    BadSignature,
    /// Signed by us and still not readable: written by a newer build.
    #[error("the value cannot be read: {0}")]
    Unreadable(String),
}

impl Draft {
    /// Serialises and compresses a value.
    ///
    /// # Errors
    /// [`SnapshotError::TooLarge`].
    pub fn new<T: Sealed>(value: &T) -> Result<Self, SnapshotError> {
        let json = serde_json::to_vec(value).map_err(|error| SnapshotError::Unreadable(error.to_string()))?;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let compressed = encoder
            .write_all(&json)
            .and_then(|()| encoder.finish())
            .map_err(|error| SnapshotError::Unreadable(error.to_string()))?;
        if compressed.len() + HEAD_BYTES > MAX_SEALED_BYTES {
            return Err(SnapshotError::TooLarge(compressed.len() + HEAD_BYTES));
        }
        Ok(Self { kind: T::KIND, compressed })
    }

    /// The bytes that the platform key signs.
    pub fn to_sign(&self) -> Vec<u8> {
        signed_bytes(self.kind, &self.compressed)
    }

    /// Puts the signature on.
    pub fn seal(self, key_version: u32, signature: &[u8; 64]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.compressed.len());
        out.extend_from_slice(MAGIC);
        out.push(self.kind);
        out.extend_from_slice(&key_version.to_le_bytes());
        out.extend_from_slice(signature);
        out.extend_from_slice(&self.compressed);
        out
    }
}

fn signed_bytes(kind: u8, compressed: &[u8]) -> Vec<u8> {
    [DOMAIN, &[kind], compressed].concat()
}

/// Public keys that pods trust, by version: two at once while the signing key rotates. Mounted as a file, never taken
/// from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    keys: BTreeMap<u32, [u8; 32]>,
}

impl Trust {
    /// From raw public keys.
    pub fn new(keys: BTreeMap<u32, [u8; 32]>) -> Self {
        Self { keys }
    }

    /// Reads the mounted file: `{"keys": {"1": "<base64 of 32 bytes>"}}`.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn from_json(text: &str) -> Result<Self, String> {
        use base64::Engine;
        #[derive(Deserialize)]
        struct File {
            keys: BTreeMap<u32, String>,
        }
        let file: File = serde_json::from_str(text).map_err(|error| format!("the trust file: {error}"))?;
        let keys = file.keys.into_iter().map(|(version, key)| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(&key).ok();
            let key = bytes.and_then(|bytes| bytes.try_into().ok());
            key.map(|key| (version, key))
                .ok_or_else(|| format!("the trust file: keys.{version} is not 32 bytes in base64"))
        });
        keys.collect::<Result<_, _>>().map(|keys| Self { keys })
    }

    /// Verifies and reads a sealed value.
    ///
    /// # Errors
    /// [`SnapshotError`]; the caller keeps what it had.
    pub fn open<T: Sealed>(&self, sealed: &[u8]) -> Result<T, SnapshotError> {
        if sealed.len() < HEAD_BYTES || &sealed[..4] != MAGIC || sealed[4] != T::KIND {
            return Err(SnapshotError::NotSealed);
        }
        let mut version = [0; 4];
        version.copy_from_slice(&sealed[5..9]);
        let version = u32::from_le_bytes(version);
        let key = self.keys.get(&version).ok_or(SnapshotError::UnknownKey(version))?;
        let (signature, compressed) = sealed[9..].split_at(64);
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed_bytes(T::KIND, compressed), signature)
            .map_err(|_| SnapshotError::BadSignature)?;
        let mut json = Vec::new();
        ZlibDecoder::new(compressed)
            .take(MAX_JSON_BYTES)
            .read_to_end(&mut json)
            .map_err(|error| SnapshotError::Unreadable(error.to_string()))?;
        serde_json::from_slice(&json).map_err(|error| SnapshotError::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
pub(crate) mod tests;
