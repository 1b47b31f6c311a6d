//! What stands under a pool's names, and who is in it.

use clickhouse::databases::{DatabaseState, Databases};
use crds::LanePool;
use event::{Lane, Observed};
use jetstream::{StreamState, Streams};

use super::validate::shards;
use crate::context::Context;
use crate::controllers::ownership::Found;
use crate::errors::{Failure, System};

/// One shard as it was found.
#[derive(Debug)]
pub struct Shard {
    /// Its lane.
    pub lane: Lane,
    /// The lane's stream.
    pub stream: Observed<StreamState>,
    /// The lane's database.
    pub database: Observed<DatabaseState>,
}

/// Shards of the pool that tenants are in, one entry a tenant.
pub fn tenants(ctx: &Context, pool: &LanePool) -> Vec<u16> {
    let own: Vec<u16> = shards(pool).collect();
    let all = ctx.publications.list();
    let shard = all.iter().filter_map(|(_, publication)| match publication.snapshot.lane {
        Lane::Pooled(shard) => Some(shard),
        Lane::Dedicated(_) => None,
    });
    shard.filter(|shard| own.contains(shard)).collect()
}

/// Looks at one shard.
pub async fn dereference<S: Streams, D: Databases>(streams: &S, databases: &D, shard: u16) -> Shard {
    let lane = Lane::Pooled(shard);
    let (stream, database) = (lane.stream(), lane.database());
    let (stream, database) = tokio::join!(streams.observe(&stream), databases.observe(&database));
    Shard { lane, stream, database }
}

impl Shard {
    /// What carries which stamp, by a name for people.
    ///
    /// # Errors
    /// When a system did not say what is there.
    pub fn found(&self) -> Result<[(String, Found); 2], Failure> {
        let stream = Found::of(&self.stream, System::Nats, |state| state.stamp.clone())?;
        let database = Found::of(&self.database, System::ClickHouse, |state| state.stamp.clone())?;
        Ok([
            (format!("stream {}", self.lane.stream()), stream),
            (format!("database {}", self.lane.database()), database),
        ])
    }
}
