//! Makes streams and databases what they should be: by plan and step, repairing what drifted.

use clickhouse::databases::{self, DatabaseError, DatabaseSpec, Databases};
use event::{Observed, Stamp};
use jetstream::{StreamError, StreamSpec, Streams, streams};

use super::orders::OnHold;
use crate::conditions::Why;
use crate::errors::{Failure, System};

/// Why an owner's objects are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// A system failed; it is tried again.
    Failed(Failure),
    /// It is not accepted: what it would own is somebody else's, or nobody decided.
    Refused(Why),
    /// Something that it needs may still come.
    Waiting(Why),
    /// Somebody has to do something.
    Stalled(Why),
    /// Somebody asked that nothing be changed.
    OnHold(OnHold),
}

impl From<OnHold> for Hindrance {
    fn from(hold: OnHold) -> Self {
        Self::OnHold(hold)
    }
}

impl From<Failure> for Hindrance {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the caller knows or permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// Objects of the same lineage that carry another stamp are taken over.
    pub adopt: bool,
    /// All was there before: what is missing now is a loss, to be told and not to be papered over.
    pub must_exist: bool,
}

/// Makes a stream what it should be.
///
/// # Errors
/// What is in the way.
pub async fn stream<S: Streams>(
    streams: &S,
    desired: &StreamSpec,
    mut found: Observed<streams::StreamState>,
    permission: Permission,
) -> Result<(), Hindrance> {
    let name = &desired.name;
    let adopt = |have| streams::adopt(have, &desired.stamp);
    if let Some(step) = found.present().filter(|_| permission.adopt).and_then(adopt) {
        streams.execute(&step).await.map_err(stream_hindrance)?;
        found = streams.observe(name).await;
    }
    let expectation =
        if permission.must_exist { streams::Expectation::MustExist } else { streams::Expectation::MayCreate };
    let plan = streams::plan(desired, &found, expectation);
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

/// Makes a database what it should be.
///
/// # Errors
/// What is in the way.
pub async fn database<D: Databases>(
    databases: &D,
    desired: &DatabaseSpec,
    mut found: Observed<databases::DatabaseState>,
    permission: Permission,
) -> Result<(), Hindrance> {
    let name = &desired.name;
    let what = format!("database {name}");
    let adopt = |have| databases::adopt(have, &desired.stamp);
    if let Some(step) = found.present().filter(|_| permission.adopt).and_then(adopt) {
        databases.execute(&step).await.map_err(database_failure)?;
        found = databases.observe(name).await;
    }
    if permission.must_exist && matches!(found, Observed::Absent) {
        return Err(missing("DatabaseMissing", &what, "the events in it are lost"));
    }
    let plan = databases::plan(desired, &found);
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

/// Marks a stream and a database that are `ours` as given back. What is not ours is left alone.
///
/// # Errors
/// When a system fails.
pub async fn release<S: Streams, D: Databases>(
    (streams, databases): (&S, &D),
    (stream, database): (&Observed<streams::StreamState>, &Observed<databases::DatabaseState>),
    ours: impl Fn(&Stamp) -> bool,
) -> Result<(), Failure> {
    let mine = |stamp: &Option<Stamp>| stamp.as_ref().is_some_and(&ours);
    if let Observed::Present(state) = stream
        && let Some(step) = streams::release(state).filter(|_| mine(&state.stamp))
    {
        streams.execute(&step).await?;
    }
    if let Observed::Present(state) = database
        && let Some(step) = databases::release(state).filter(|_| mine(&state.stamp))
    {
        databases.execute(&step).await?;
    }
    Ok(())
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

pub(super) fn missing(reason: &str, what: &str, loss: &str) -> Hindrance {
    let message = format!(
        "{what} is gone, and {loss}; to go on without it set spec.adoption to Force, which creates an empty one"
    );
    Hindrance::Stalled(Why::new(reason, message))
}

pub(super) fn incompatible(reason: &str, what: &str, field: &str) -> Hindrance {
    Hindrance::Stalled(Why::new(
        reason,
        format!("{what}: {field} is not as it should be and cannot be changed"),
    ))
}

/// It was ours a moment ago; look again.
pub(super) fn changed(system: System, detail: String) -> Hindrance {
    Hindrance::Failed(Failure::Conflict { system, detail })
}
