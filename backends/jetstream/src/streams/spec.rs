//! What a stream should be: one constructor for every kind that exists.

use std::collections::BTreeMap;
use std::time::Duration;

use event::names;
use event::{Lane, Stamp};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// How long a period's records outlive it: late returns and audits still find them.
const LEDGER_GRACE: Duration = Duration::from_secs(2 * 86_400);
/// NATS wants a duplicate window no longer than the age limit; buckets use no message ids.
const BUCKET_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Where messages live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: lost with the server.
    Memory,
}

/// What a full stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// Refuses new messages.
    New,
    /// Drops the oldest.
    Old,
}

/// The settings we decide on; everything else keeps the server's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Subjects it stores.
    pub subjects: Vec<String>,
    /// Where messages live. Cannot be changed later.
    pub storage: Storage,
    /// Copies, 1 to 5.
    pub replicas: usize,
    /// Messages older than this are dropped; `None` keeps them for ever.
    pub max_age: Option<Duration>,
    /// Storage it may use, reserved by the server when it is set.
    pub max_bytes: Option<u64>,
    /// Messages kept a subject: a bucket's history.
    pub max_msgs_per_subject: Option<u64>,
    /// What happens at `max_bytes`.
    pub discard: Discard,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// Single messages cannot be deleted through the API. Cannot be taken back.
    pub deny_delete: bool,
    /// The stream cannot be purged. Cannot be taken back.
    pub deny_purge: bool,
    /// Single messages can be read without the leader.
    pub allow_direct: bool,
    /// A message may replace all earlier ones of its subject.
    pub allow_rollup: bool,
    /// Nothing else bends what the stream promises: kept by limits, acknowledged, no cap on the number or size of
    /// messages, no mirror, source, transform or republish. Always wanted.
    pub plain: bool,
}

/// A stream that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Name.
    pub name: String,
    /// Settings.
    pub settings: Settings,
    /// Its owner.
    pub stamp: Stamp,
    /// Further metadata; keys not named here are left as they are.
    pub metadata: BTreeMap<String, String>,
}

/// What differs between lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSettings {
    /// Copies.
    pub replicas: usize,
    /// Longer than the longest outage of the sink.
    pub max_age: Duration,
    /// The plan's share.
    pub max_bytes: u64,
    /// Twice the time for which a pod retries a pack.
    pub duplicate_window: Duration,
}

/// Least storage of a lane: 64 MiB.
pub const LANE_MIN_BYTES: u64 = 64 << 20;

/// Settings of the stream of denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViolationsSettings {
    /// Copies.
    pub replicas: usize,
    /// How long denials are kept.
    pub max_age: Duration,
    /// Storage; the oldest denials give way.
    pub max_bytes: u64,
}

impl StreamSpec {
    /// The stream of a lane.
    pub fn lane(lane: &Lane, settings: LaneSettings, stamp: &Stamp) -> Self {
        Self {
            name: lane.stream(),
            settings: Settings {
                subjects: vec![lane.subjects()],
                storage: Storage::File,
                replicas: settings.replicas,
                max_age: Some(settings.max_age),
                max_bytes: Some(settings.max_bytes.max(LANE_MIN_BYTES)),
                max_msgs_per_subject: None,
                discard: Discard::New,
                duplicate_window: settings.duplicate_window,
                deny_delete: true,
                deny_purge: true,
                allow_direct: true,
                allow_rollup: false,
                plain: true,
            },
            stamp: stamp.clone(),
            metadata: BTreeMap::new(),
        }
    }

    /// The stream of denials. It drops its oldest when full: a denial is told to its caller, not kept for billing.
    pub fn violations(settings: ViolationsSettings, stamp: &Stamp) -> Self {
        Self {
            name: names::VIOLATIONS_STREAM.to_owned(),
            settings: Settings {
                subjects: vec!["violations.>".to_owned()],
                storage: Storage::File,
                replicas: settings.replicas,
                max_age: Some(settings.max_age),
                max_bytes: Some(settings.max_bytes),
                max_msgs_per_subject: None,
                discard: Discard::Old,
                duplicate_window: BUCKET_DUPLICATE_WINDOW,
                deny_delete: true,
                deny_purge: true,
                allow_direct: true,
                allow_rollup: false,
                plain: true,
            },
            stamp: stamp.clone(),
            metadata: BTreeMap::new(),
        }
    }
}

/// The windows that have ledger buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LedgerWindow {
    /// Rates, in memory.
    Second,
    /// Rates, in memory.
    Minute,
    /// Quotas of an hour.
    Hour,
    /// Quotas of a day.
    Day,
    /// Quotas of a month.
    Month,
    /// Quotas and credits that never expire.
    Total,
}

impl LedgerWindow {
    /// Every window, shortest first.
    pub const ALL: [Self; 6] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Total];

    /// Its part in the bucket's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// How long a record is kept after its last write: its longest period and a grace.
    const fn max_age(self) -> Option<Duration> {
        match self {
            Self::Second => Some(MINUTE),
            Self::Minute => Some(Duration::from_secs(600)),
            Self::Hour => Some(HOUR.saturating_add(LEDGER_GRACE)),
            // A day has 25 hours once a year, and so has a month an hour more.
            Self::Day => Some(DAY.saturating_add(HOUR).saturating_add(LEDGER_GRACE)),
            Self::Month => Some(Duration::from_secs(31 * 86_400 + 3600).saturating_add(LEDGER_GRACE)),
            Self::Total => None,
        }
    }

    const fn storage(self) -> Storage {
        match self {
            Self::Second | Self::Minute => Storage::Memory,
            Self::Hour | Self::Day | Self::Month | Self::Total => Storage::File,
        }
    }
}

/// A key-value bucket that should exist. All have history 1 and refuse, rather than evict, when full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSpec {
    /// Name of the bucket; its stream is `KV_<bucket>`.
    pub bucket: String,
    /// Where it lives.
    pub storage: Storage,
    /// Copies.
    pub replicas: usize,
    /// How long an entry is kept after its last write.
    pub max_age: Option<Duration>,
    /// Entries cannot be purged: a ledger forgets only by age.
    pub append_only: bool,
    /// Metadata of its stream.
    pub metadata: BTreeMap<String, String>,
}

/// Metadata key of a ledger bucket's random identity.
pub const LEDGER_ID_KEY: &str = "meterplane.io/ledger-id";

impl BucketSpec {
    fn file(bucket: &str, replicas: usize) -> Self {
        Self {
            bucket: bucket.to_owned(),
            storage: Storage::File,
            replicas,
            max_age: None,
            append_only: false,
            metadata: BTreeMap::new(),
        }
    }

    /// Signed policy snapshots.
    pub fn policy(replicas: usize) -> Self {
        Self::file(names::POLICY_BUCKET, replicas)
    }

    /// Heartbeats of ingest pods; an entry lives 30 s.
    pub fn pods(replicas: usize) -> Self {
        Self { max_age: Some(Duration::from_secs(30)), ..Self::file(names::PODS_BUCKET, replicas) }
    }

    /// The sinks' intents.
    pub fn intents(replicas: usize) -> Self {
        Self::file(names::INTENTS_BUCKET, replicas)
    }

    /// The lanes' audits.
    pub fn audits(replicas: usize) -> Self {
        Self::file(names::AUDITS_BUCKET, replicas)
    }

    /// Seats of tenants that have moved between lanes.
    pub fn seats(replicas: usize) -> Self {
        Self::file(names::SEATS_BUCKET, replicas)
    }

    /// Leases between replicas. They carry their own expiry: an entry that vanished would reset its fencing token.
    pub fn leases(replicas: usize) -> Self {
        Self::file(names::LEASES_BUCKET, replicas)
    }

    /// One shard of the ledger of one window. `ledger_id` is the bucket's random identity.
    pub fn ledger(window: LedgerWindow, shard: u8, replicas: usize, ledger_id: &str) -> Self {
        Self {
            storage: window.storage(),
            max_age: window.max_age(),
            append_only: true,
            metadata: BTreeMap::from([(LEDGER_ID_KEY.to_owned(), ledger_id.to_owned())]),
            ..Self::file(&names::ledger_bucket(window.as_str(), shard), replicas)
        }
    }

    /// Name of the bucket's stream.
    pub fn stream_name(bucket: &str) -> String {
        format!("KV_{bucket}")
    }

    /// The bucket as a stream, by the conventions of NATS key-value stores.
    pub fn stream(self, stamp: &Stamp) -> StreamSpec {
        let window = self.max_age.map_or(BUCKET_DUPLICATE_WINDOW, |age| age.min(BUCKET_DUPLICATE_WINDOW));
        StreamSpec {
            name: Self::stream_name(&self.bucket),
            settings: Settings {
                subjects: vec![format!("$KV.{}.>", self.bucket)],
                storage: self.storage,
                replicas: self.replicas,
                max_age: self.max_age,
                max_bytes: None,
                max_msgs_per_subject: Some(1),
                discard: Discard::New,
                duplicate_window: window,
                deny_delete: true,
                // A purge of a key is a rollup, which the server allows only where purging is allowed.
                deny_purge: self.append_only,
                allow_direct: true,
                allow_rollup: !self.append_only,
                plain: true,
            },
            stamp: stamp.clone(),
            metadata: self.metadata,
        }
    }
}
