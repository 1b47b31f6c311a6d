//! Reads what stands under a tenant's names in NATS, ClickHouse and Vault.

use std::time::Duration;

use clickhouse::databases::{DatabaseState, Databases};
use event::{Lane, Observed, TenantName};
use jetstream::{StreamState, Streams};
use vault::{KeyState, TransitKeys};

use crate::controllers::ownership::Found;
use crate::errors::{Failure, System};

/// Longest time that one look may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug)]
pub struct Dereferenced {
    /// The lane's stream.
    pub stream: Observed<StreamState>,
    /// The tenant's database.
    pub database: Observed<DatabaseState>,
    /// The tenant's key.
    pub key: Observed<KeyState>,
}

/// Looks at all three at once.
pub async fn dereference<S, D, K>(streams: &S, databases: &D, keys: &K, tenant: &TenantName) -> Dereferenced
where
    S: Streams,
    D: Databases,
    K: TransitKeys,
{
    let (stream, database) = (Lane::Dedicated(tenant.clone()).stream(), tenant.database());
    let (stream, database, key) = tokio::join!(
        in_time(streams.observe(&stream)),
        in_time(databases.observe(&database)),
        in_time(keys.observe(tenant))
    );
    Dereferenced { stream, database, key }
}

/// A system that does not answer in time has not said what is there.
async fn in_time<T>(observe: impl Future<Output = Observed<T>>) -> Observed<T> {
    let late = |_| Observed::Unknown(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, observe).await.unwrap_or_else(late)
}

impl Dereferenced {
    /// What carries which stamp, by a name for people.
    ///
    /// # Errors
    /// When a system did not say what is there: nothing may be concluded from that.
    pub fn found(&self, tenant: &TenantName) -> Result<[(String, Found); 3], Failure> {
        let stream = Found::of(&self.stream, System::Nats, |state| state.stamp.clone())?;
        let database = Found::of(&self.database, System::ClickHouse, |state| state.stamp.clone())?;
        let key = Found::of(&self.key, System::Vault, |state| state.stamp.clone())?;
        Ok([
            (format!("stream {}", Lane::Dedicated(tenant.clone()).stream()), stream),
            (format!("database {}", tenant.database()), database),
            (format!("key {}", tenant.transit_key()), key),
        ])
    }
}
