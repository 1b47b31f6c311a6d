//! Makes a tenant's key, stream and database what they should be: by plan and step, repairing what drifted.

use clickhouse::databases::Databases;
use event::Observed;
use jetstream::{Streams, streams};
use vault::{TransitKeys, keys};

use super::build::Desired;
use super::dereference::Dereferenced;
use crate::controllers::settle::{self, Hindrance, Permission, changed, incompatible, missing};
use crate::errors::{Failure, System};

/// Executes what is needed. The key comes first: without it nothing can be told apart from shredded data. `arrives`: the tenant comes
/// from another lane, so its stream may not be there yet.
///
/// # Errors
/// What is in the way.
pub async fn apply<S, D, K>(
    (nats, databases, keys): (&S, &D, &K),
    desired: &Desired,
    found: Dereferenced,
    permission: Permission,
    arrives: bool,
) -> Result<(), Hindrance>
where
    S: Streams,
    D: Databases,
    K: TransitKeys,
{
    apply_key(keys, desired, found.key, permission).await?;
    if arrives {
        // Tables and views first: the sink takes a lane up as soon as its stream is there.
        settle::database(databases, &desired.database, found.database, permission).await?;
        let permission = Permission { must_exist: false, ..permission };
        return match &desired.stream {
            Some(stream) => settle::stream(nats, stream, found.stream, permission).await,
            None => Ok(()),
        };
    }
    match (&desired.stream, found.stream) {
        (Some(stream), found) => settle::stream(nats, stream, found, permission).await?,
        // It was left behind, and goes when it is empty.
        (None, Observed::Present(left)) if permission.adopt => {
            if let Some(step) = streams::adopt(&left, &desired.stamp) {
                nats.execute(&step).await.map_err(Failure::from)?;
            }
        }
        (None, _) => {}
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
