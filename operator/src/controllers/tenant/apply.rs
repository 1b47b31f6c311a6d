//! Makes a tenant's stream, database and key what they should be: by plan and step, repairing what drifted.

use clickhouse::databases::{self, DatabaseError, Databases};
use event::Observed;
use jetstream::{StreamError, Streams, streams};
use vault::{TransitKeys, keys};

use super::Hindrance;
use super::build::Desired;
use super::dereference::Dereferenced;
use crate::conditions::Why;
use crate::errors::{Failure, System};

/// What the caller knows or permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// Objects of the same lineage that carry another stamp are taken over.
    pub adopt: bool,
    /// The tenant had all three: what is missing now is a loss, to be told and not to be papered over.
    pub must_exist: bool,
}

/// Executes what is needed. The key comes first: without it nothing can be told apart from shredded data.
///
/// # Errors
/// What is in the way.
pub async fn apply<S, D, K>(
    (streams, databases, keys): (&S, &D, &K),
    desired: &Desired,
    found: Dereferenced,
    permission: Permission,
) -> Result<(), Hindrance>
where
    S: Streams,
    D: Databases,
    K: TransitKeys,
{
    apply_key(keys, desired, found.key, permission).await?;
    apply_stream(streams, desired, found.stream, permission).await?;
    apply_database(databases, desired, found.database, permission).await
}

async fn apply_key<K: TransitKeys>(
    keys: &K,
    desired: &Desired,
    mut found: Observed<keys::KeyState>,
    permission: Permission,
) -> Result<(), Hindrance> {
    let tenant = &desired.key.tenant;
    if let Some(step) =
        found.present().filter(|_| permission.adopt).and_then(|have| keys::adopt(have, &desired.stamp))
    {
        keys.execute(&step).await.map_err(Failure::from)?;
        found = keys.observe(tenant).await;
    }
    let expectation =
        if permission.must_exist { keys::Expectation::MustExist } else { keys::Expectation::MayCreate };
    let plan = keys::plan(&desired.key, &found, expectation);
    for step in &plan.steps {
        tracing::info!(tenant = tenant.as_str(), ?step, "key");
        keys.execute(step).await.map_err(Failure::from)?;
    }
    let what = format!("key {}", tenant.transit_key());
    match plan.blocked {
        None => Ok(()),
        Some(keys::Blocked::Unknown(reason)) => Err(Failure::unknown(System::Vault, reason).into()),
        Some(keys::Blocked::Missing) => Err(missing("KeyMissing", &what, "what it encrypted is unreadable")),
        Some(keys::Blocked::Immutable { field }) => Err(incompatible("KeyIncompatible", &what, field)),
        Some(other) => Err(changed(System::Vault, format!("{what}: {other:?}"))),
    }
}

async fn apply_stream<S: Streams>(
    streams: &S,
    desired: &Desired,
    mut found: Observed<streams::StreamState>,
    permission: Permission,
) -> Result<(), Hindrance> {
    let name = &desired.stream.name;
    let adopt = |have| streams::adopt(have, &desired.stamp);
    if let Some(step) = found.present().filter(|_| permission.adopt).and_then(adopt) {
        streams.execute(&step).await.map_err(stream_hindrance)?;
        found = streams.observe(name).await;
    }
    let expectation =
        if permission.must_exist { streams::Expectation::MustExist } else { streams::Expectation::MayCreate };
    let plan = streams::plan(&desired.stream, &found, expectation);
    for step in &plan.steps {
        if let streams::StreamStep::Update { fields, .. } = step {
            tracing::info!(stream = name, ?fields, "repairing");
        }
        streams.execute(step).await.map_err(stream_hindrance)?;
    }
    let what = format!("stream {name}");
    match plan.blocked {
        // It keeps its higher limit until nothing is lost by lowering it.
        None | Some(streams::Blocked::WouldEvict { .. }) => Ok(()),
        Some(streams::Blocked::Unknown(reason)) => Err(Failure::unknown(System::Nats, reason).into()),
        Some(streams::Blocked::Missing) => Err(missing("StreamMissing", &what, "what was not sunk is lost")),
        Some(streams::Blocked::Immutable { field }) => Err(incompatible("StreamIncompatible", &what, field)),
        Some(other) => Err(changed(System::Nats, format!("{what}: {other:?}"))),
    }
}

async fn apply_database<D: Databases>(
    databases: &D,
    desired: &Desired,
    mut found: Observed<databases::DatabaseState>,
    permission: Permission,
) -> Result<(), Hindrance> {
    let name = &desired.database.name;
    let what = format!("database {name}");
    let adopt = |have| databases::adopt(have, &desired.stamp);
    if let Some(step) = found.present().filter(|_| permission.adopt).and_then(adopt) {
        databases.execute(&step).await.map_err(database_failure)?;
        found = databases.observe(name).await;
    }
    if permission.must_exist && matches!(found, Observed::Absent) {
        return Err(missing("DatabaseMissing", &what, "the events in it are lost"));
    }
    let plan = databases::plan(&desired.database, &found);
    for step in &plan.steps {
        tracing::info!(database = name, change = ?step.change, "database");
        databases.execute(step).await.map_err(database_failure)?;
    }
    match plan.blocked {
        None => Ok(()),
        Some(databases::Blocked::Unknown(reason)) => Err(Failure::unknown(System::ClickHouse, reason).into()),
        Some(databases::Blocked::Incompatible { table, what: part, found }) => {
            let message =
                format!("{what}: {part} of table {table:?} is {found}, which cannot be changed in place");
            Err(Hindrance::Stalled(Why::new("DatabaseIncompatible", message)))
        }
        Some(other) => Err(changed(System::ClickHouse, format!("{what}: {other:?}"))),
    }
}

fn stream_hindrance(error: StreamError) -> Hindrance {
    match error {
        StreamError::StorageReserved(detail) => Hindrance::Stalled(Why::new("StorageReserved", detail)),
        other => Hindrance::Failed(other.into()),
    }
}

fn database_failure(error: DatabaseError) -> Hindrance {
    Hindrance::Failed(error.into())
}

fn missing(reason: &str, what: &str, loss: &str) -> Hindrance {
    let message = format!(
        "{what} is gone, and {loss}; to go on without it set spec.adoption to Force, which creates an empty one"
    );
    Hindrance::Stalled(Why::new(reason, message))
}

fn incompatible(reason: &str, what: &str, field: &str) -> Hindrance {
    Hindrance::Stalled(Why::new(
        reason,
        format!("{what}: {field} is not as it should be and cannot be changed"),
    ))
}

/// It was ours a moment ago; look again.
fn changed(system: System, detail: String) -> Hindrance {
    Hindrance::Failed(Failure::Conflict { system, detail })
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
