//! Makes a tenant's key, stream and database what they should be: by plan and step, repairing what drifted.

use clickhouse::databases::Databases;
use event::Observed;
use jetstream::Streams;
use vault::{TransitKeys, keys};

use super::build::Desired;
use super::dereference::Dereferenced;
use crate::controllers::settle::{self, Hindrance, Permission, changed, incompatible, missing};
use crate::errors::{Failure, System};

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
    if let Some(stream) = &desired.stream {
        settle::stream(streams, stream, found.stream, permission).await?;
    }
    settle::database(databases, &desired.database, found.database, permission).await
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

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
