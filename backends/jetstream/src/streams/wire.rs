//! The server's own form of streams.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::spec::{Discard, Settings, Storage, StreamSpec};
use super::{StreamState, unix_ms};

/// Prefix of metadata that the server writes about itself.
const SERVER_METADATA: &str = "_nats.";

/// Settings outside [`Settings`] that would change what a stream promises, with the value they must have; `null` is
/// absent. A mirror, a source, a transform or a republish would move data; `no_ack` would take the acknowledgement away;
/// caps on number or size of messages would refuse what the limits allow.
const PLAIN: [(&str, PlainValue); 9] = [
    ("retention", PlainValue::Text("limits")),
    ("max_msgs", PlainValue::Number(-1)),
    ("max_msg_size", PlainValue::Number(-1)),
    ("no_ack", PlainValue::Absent),
    ("sealed", PlainValue::Absent),
    ("mirror", PlainValue::Absent),
    ("sources", PlainValue::Absent),
    ("subject_transform", PlainValue::Absent),
    ("republish", PlainValue::Absent),
];

#[derive(Clone, Copy)]
enum PlainValue {
    Text(&'static str),
    Number(i64),
    Absent,
}

impl PlainValue {
    fn matches(self, found: Option<&Value>) -> bool {
        match self {
            Self::Text(text) => found.and_then(Value::as_str) == Some(text),
            Self::Number(number) => found.and_then(Value::as_i64) == Some(number),
            Self::Absent => matches!(found, None | Some(Value::Null | Value::Bool(false))),
        }
    }
}

/// Answer to `STREAM.INFO`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct InfoAnswer {
    pub config: ConfigWire,
    pub created: jiff::Timestamp,
    pub state: StateWire,
    /// The server's clock.
    pub ts: jiff::Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StateWire {
    pub messages: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub first_ts: jiff::Timestamp,
}

/// A stream's configuration; what we do not know of is kept as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConfigWire {
    name: String,
    #[serde(default)]
    subjects: Vec<String>,
    storage: StorageWire,
    num_replicas: usize,
    /// Nanoseconds; 0 is no limit.
    #[serde(default)]
    max_age: u64,
    /// -1 is no limit.
    max_bytes: i64,
    /// -1 is no limit.
    #[serde(default = "unlimited")]
    max_msgs_per_subject: i64,
    discard: DiscardWire,
    /// Nanoseconds.
    #[serde(default)]
    duplicate_window: u64,
    #[serde(default)]
    deny_delete: bool,
    #[serde(default)]
    deny_purge: bool,
    #[serde(default)]
    allow_direct: bool,
    #[serde(default)]
    allow_rollup_hdrs: bool,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn unlimited() -> i64 {
    -1
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StorageWire {
    File,
    Memory,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DiscardWire {
    New,
    Old,
}

impl ConfigWire {
    /// A new stream.
    pub fn create(spec: &StreamSpec) -> Self {
        let mut config = Self {
            name: spec.name.clone(),
            subjects: Vec::new(),
            storage: match spec.settings.storage {
                Storage::File => StorageWire::File,
                Storage::Memory => StorageWire::Memory,
            },
            num_replicas: spec.settings.replicas,
            max_age: 0,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            discard: DiscardWire::New,
            duplicate_window: 0,
            deny_delete: false,
            deny_purge: false,
            allow_direct: false,
            allow_rollup_hdrs: false,
            metadata: BTreeMap::new(),
            rest: Map::from_iter([("max_consumers".to_owned(), json!(-1))]),
        };
        config.set(spec);
        config
    }

    /// Everything that an existing stream can change to.
    pub fn set(&mut self, spec: &StreamSpec) {
        let settings = &spec.settings;
        self.subjects.clone_from(&settings.subjects);
        self.num_replicas = settings.replicas;
        self.max_age = settings.max_age.map_or(0, nanos);
        self.max_bytes = signed(settings.max_bytes);
        self.max_msgs_per_subject = signed(settings.max_msgs_per_subject);
        self.discard = match settings.discard {
            Discard::New => DiscardWire::New,
            Discard::Old => DiscardWire::Old,
        };
        self.duplicate_window = nanos(settings.duplicate_window);
        self.deny_delete = settings.deny_delete;
        self.deny_purge = settings.deny_purge;
        self.allow_direct = settings.allow_direct;
        self.allow_rollup_hdrs = settings.allow_rollup;
        self.metadata.extend(spec.metadata.clone());
        for (key, value) in PLAIN {
            match value {
                PlainValue::Text(text) => drop(self.rest.insert(key.to_owned(), text.into())),
                PlainValue::Number(number) => drop(self.rest.insert(key.to_owned(), number.into())),
                PlainValue::Absent => drop(self.rest.remove(key)),
            }
        }
        self.stamp(&spec.stamp);
    }

    /// Another owner.
    pub fn stamp(&mut self, stamp: &Stamp) {
        self.metadata.extend(stamp.to_pairs());
    }

    /// The owner.
    pub fn stamped(&self) -> Option<Stamp> {
        Stamp::from_pairs(|key| self.metadata.get(key).map(String::as_str))
    }

    /// A piece of its metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    fn settings(&self) -> Settings {
        Settings {
            subjects: self.subjects.clone(),
            storage: match self.storage {
                StorageWire::File => Storage::File,
                StorageWire::Memory => Storage::Memory,
            },
            replicas: self.num_replicas,
            max_age: (self.max_age > 0).then(|| Duration::from_nanos(self.max_age)),
            max_bytes: unsigned(self.max_bytes),
            max_msgs_per_subject: unsigned(self.max_msgs_per_subject),
            discard: match self.discard {
                DiscardWire::New => Discard::New,
                DiscardWire::Old => Discard::Old,
            },
            duplicate_window: Duration::from_nanos(self.duplicate_window),
            deny_delete: self.deny_delete,
            deny_purge: self.deny_purge,
            allow_direct: self.allow_direct,
            allow_rollup: self.allow_rollup_hdrs,
            plain: PLAIN.into_iter().all(|(key, value)| value.matches(self.rest.get(key))),
        }
    }
}

impl InfoAnswer {
    /// When the stream was created, in Unix milliseconds.
    pub fn created_ms(&self) -> u64 {
        unix_ms(self.created)
    }

    pub fn into_state(self) -> StreamState {
        let stamp = self.config.stamped();
        let pairs = stamp.as_ref().map(Stamp::to_pairs).unwrap_or_default();
        let age =
            if self.state.messages == 0 { Duration::ZERO } else { elapsed(self.state.first_ts, self.ts) };
        StreamState {
            settings: self.config.settings(),
            created_ms: self.created_ms(),
            messages: self.state.messages,
            bytes: self.state.bytes,
            first_seq: self.state.first_seq,
            last_seq: self.state.last_seq,
            oldest_age: age,
            metadata: self
                .config
                .metadata
                .into_iter()
                .filter(|(key, _)| !key.starts_with(SERVER_METADATA) && !pairs.contains_key(key))
                .collect(),
            stamp,
            name: self.config.name,
        }
    }
}

fn elapsed(from: jiff::Timestamp, to: jiff::Timestamp) -> Duration {
    Duration::from_millis(unix_ms(to).saturating_sub(unix_ms(from)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn signed(limit: Option<u64>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// The server writes "no limit" as -1 or 0.
fn unsigned(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}
