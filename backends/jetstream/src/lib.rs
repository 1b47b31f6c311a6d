//! NATS JetStream as this platform uses it: streams that are planned before they are changed, key-value buckets with
//! compare-and-set, one-send publishing, and reading a lane without gaps or repeats.
//!
//! Every answer is one of three: yes, a *definite* no, or *unknown* (a timeout, a lost answer). Callers decide on that
//! difference: units of a quota are given back only after a definite no. `error` is where it is decided.
//!
//! # Rights that each part needs
//! | part | publish to |
//! |---|---|
//! | `Publisher` | the subject itself |
//! | `Bucket` writes | `$KV.<bucket>.<key>` |
//! | `Bucket::get` | `$JS.API.DIRECT.GET.KV_<bucket>.$KV.<bucket>.<key>` |
//! | `Bucket::open`, `about`, `server_time` | `$JS.API.STREAM.INFO.KV_<bucket>` |
//! | `Bucket::{keys, entries, watch}` | the one above, `$JS.API.CONSUMER.CREATE.KV_<bucket>.>`, `$JS.API.CONSUMER.MSG.NEXT.KV_<bucket>.>` |
//! | `LaneReader`, `read_range`, `counts::packed` | the same three for the stream |
//! | `Streams` | `$JS.API.STREAM.{INFO,CREATE,UPDATE,DELETE}.*`, `$JS.API.STREAM.NAMES` |
//!
//! Everything subscribes to `_INBOX.>` alone. A missing right shows as an unknown outcome after the timeout.

pub mod client;
pub mod counts;
mod cursor;
pub mod error;
pub mod fence;
pub mod kv;
pub mod lane_reader;
pub mod monitor;
pub mod publish;
pub mod streams;

pub use client::{Client, Config, ConnectError};
pub use event::{Observed, Ownership, Stamp};
pub use kv::{About, Bucket, CasError, Entry, KvError, Watch, WatchEvent};
pub use lane_reader::{LaneMessage, LaneReader, ReadError};
pub use publish::{Ack, PublishError, Publisher};
pub use streams::{
    Blocked, BucketSpec, Discard, Expectation, LaneSettings, LedgerWindow, Plan, Settings, Storage,
    StreamError, StreamSpec, StreamState, StreamStep, Streams, adopt, plan, release,
};
