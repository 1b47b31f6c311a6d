//! What a shard should be.

use clickhouse::databases::DatabaseSpec;
use event::{Lane, Stamp};
use jetstream::{LaneSettings, StreamSpec};

/// A shard's stream and database.
pub fn build(shard: u16, settings: LaneSettings, stamp: &Stamp) -> (StreamSpec, DatabaseSpec) {
    (StreamSpec::lane(&Lane::Pooled(shard), settings, stamp), DatabaseSpec::pool(shard, stamp))
}
