//! What happens to a deleted Tenant's data.
//!
//! | policy | steps |
//! |---|---|
//! | Retain | the snapshot goes (its keys are unknown from then on), the stamps become `released`, the finalizer goes |
//! | Delete, confirmed | suspended for the grace period; then snapshot, rows in pools, stream, database and key are destroyed |
//! | Delete, not confirmed | as Retain: nothing is destroyed that nobody confirmed |
//!
//! Its ClickHouse user goes under either policy.
//!
//! A system that does not answer keeps a Tenant, and its status says which. After a deadline one that retains its data goes without it:
//! what that system holds keeps its stamp, and a later Tenant of the name takes it over with `adoption: Force`. A destruction that was
//! confirmed waits for as long as it takes.

use std::time::Duration;

use clickhouse::databases::Databases;
use crds::tenant::DeletionPolicy;
use crds::{Tenant, TenantStatus, condition};
use event::{Observed, Ownership, Stamp, TenantName, TenantNumber};
use jetstream::Streams;
use kube::{Api, ResourceExt};
use policy::snapshot::Snapshot;
use vault::{TransitKeys, keys};

use super::dereference::{Dereferenced, dereference};
use super::forget::forget;
use super::{FINALIZER, access};
use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::{query_user, settle, write};
use crate::engine::queue::Action;
use crate::errors::{Failure, System};
use crate::moves;
use crate::snapshot::assemble::{Entitlement, Place};
use crate::snapshot::publish::{PublishError, Request, publish, state_of, withdraw};
use crate::snapshot::store::{Stored, WriteError};

/// Annotation that confirms a destruction; its value is the tenant's name.
pub const CONFIRMATION: &str = "meterplane.io/confirm-deletion";

/// One round of a Tenant that is being deleted.
///
/// # Errors
/// The failure that keeps it from going on; its status says so.
pub async fn run(
    ctx: &Context,
    tenant: &Tenant,
    name: &TenantName,
    stored: &Stored<Snapshot>,
) -> Result<Action, Failure> {
    ctx.slices.forget(name.as_str());
    if !tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        // Nothing of ours ever existed, or it is settled already.
        return Ok(Action::Await);
    }
    if let Some(left) = grace_left(tenant, clock::now()) {
        suspend(ctx, tenant, name, stored).await?;
        let until = clock::now().checked_add(left).unwrap_or(jiff::Timestamp::MAX);
        let message = format!(
            "the tenant's data are destroyed at {until:.0}; until then deletionPolicy: Retain keeps them"
        );
        tell(ctx, tenant, "DeletionGrace", &message).await?;
        return Ok(Action::After(left.min(ctx.settings.resync)));
    }
    match let_go(ctx, tenant, name, stored).await {
        Ok(()) => {}
        Err(failure) => {
            let deadline = deadline(tenant, ctx.settings.deletion_deadline);
            if deadline.is_none_or(|deadline| clock::now() < deadline) {
                let until =
                    deadline.map(|at| format!("; at {at:.0} the tenant goes, and its data stay as they are"));
                tell(ctx, tenant, &failure.reason(), &format!("{failure}{}", until.unwrap_or_default()))
                    .await?;
                return Err(failure);
            }
            abandon(ctx, name, stored).await?;
            tracing::warn!(tenant = name.as_str(), %failure, "let go without a system that does not answer: its data keep their stamp");
        }
    }
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.caches.tenants, tenant, FINALIZER, false).await?;
    tracing::info!(tenant = name.as_str(), destroyed = is_destruction(tenant), "tenant deleted");
    Ok(Action::Await)
}

/// Whether the data are to be destroyed.
pub fn is_destruction(tenant: &Tenant) -> bool {
    let confirmed = tenant.annotations().get(CONFIRMATION).is_some_and(|value| *value == tenant.name_any());
    tenant.spec.deletion_policy == DeletionPolicy::Delete && confirmed
}

/// What is left of the grace period, if anything is.
fn grace_left(tenant: &Tenant, now: jiff::Timestamp) -> Option<Duration> {
    let deleted = tenant.metadata.deletion_timestamp.as_ref().filter(|_| is_destruction(tenant))?.0;
    let end = deleted.checked_add(Duration::from_millis(tenant.spec.deletion_grace.millis())).ok()?;
    Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// When a deleted tenant goes without the systems that do not answer; `None` when it never does.
fn deadline(tenant: &Tenant, after: Duration) -> Option<jiff::Timestamp> {
    let deleted = tenant.metadata.deletion_timestamp.as_ref().filter(|_| !is_destruction(tenant))?.0;
    deleted.checked_add(after).ok()
}

/// Ends all access; what the tenant has keeps its stamp.
async fn abandon(ctx: &Context, name: &TenantName, stored: &Stored<Snapshot>) -> Result<(), Failure> {
    withdraw(ctx, name, stored).await?;
    for namespace in &ctx.belonging.claims(name.as_str()).held {
        access::revoke(ctx, namespace).await?;
    }
    if let Err(failure) = query_user::remove(&ctx.users, &query_user::owner(ctx, name)).await {
        tracing::warn!(tenant = name.as_str(), %failure, "its ClickHouse user could not be removed");
    }
    Ok(())
}

/// Keys answer 403 during the grace period.
async fn suspend(
    ctx: &Context,
    tenant: &Tenant,
    name: &TenantName,
    stored: &Stored<Snapshot>,
) -> Result<(), Failure> {
    let Some(previous) = &stored.value else { return Ok(()) };
    let request = Request {
        name,
        place: Place::of(previous),
        plan: None,
        entitlement: Entitlement::Kept,
        state: state_of(tenant),
        namespaces: ctx.belonging.claims(name.as_str()).held,
        stored,
    };
    match publish(ctx, request).await {
        Ok(_) | Err(PublishError::Unassembled(_)) => Ok(()),
        Err(PublishError::Write(WriteError::Failed(failure))) => Err(failure),
        Err(PublishError::Write(error @ WriteError::TooLarge(_))) => {
            Err(Failure::Defect { system: System::Nats, detail: error.to_string() })
        }
    }
}

async fn let_go(
    ctx: &Context,
    tenant: &Tenant,
    name: &TenantName,
    stored: &Stored<Snapshot>,
) -> Result<(), Failure> {
    let systems = (&ctx.nats, &ctx.clickhouse, &ctx.vault);
    let found = dereference(systems.0, systems.1, systems.2, name).await;
    // Nothing is withdrawn before everything can be settled: a tenant is there or gone, not half.
    found.found(name)?;
    let withdrawn = withdraw(ctx, name, stored).await?;
    for namespace in &ctx.belonging.claims(name.as_str()).held {
        access::revoke(ctx, namespace).await?;
    }
    // An identity is not data: it goes under either policy, and before what it reads.
    query_user::remove(&ctx.users, &query_user::owner(ctx, name)).await?;
    let uid = tenant.uid().unwrap_or_default();
    let ours =
        |stamp: &Stamp| stamp.ownership(&ctx.settings.installation, name.as_str(), &uid) == Ownership::Ours;
    let mut destroyed = None;
    if is_destruction(tenant) {
        if let Some(database) = found.database.present()
            && let Some(stamp) = database.stamp.as_ref().filter(|stamp| ours(stamp))
            && let Ok(number) = TenantNumber::from_lineage(&stamp.lineage)
        {
            let mut lanes = database.lanes(name);
            lanes.extend(stored.value.iter().flat_map(|snapshot| ctx.moves.lanes(snapshot)));
            lanes.sort();
            lanes.dedup();
            forget(ctx, &lanes, number, withdrawn).await?;
            destroyed = Some(number);
        }
        destroy(systems, name, &found, ours).await?;
        match destroyed {
            Some(number) => moves::forget(ctx, number).await,
            None => Ok(()),
        }
    } else {
        release(systems, &found, ours).await
    }
}

/// Marks what is ours as given back. What is not ours is left alone.
async fn release<S: Streams, D: Databases, K: TransitKeys>(
    (streams, databases, keys): (&S, &D, &K),
    found: &Dereferenced,
    ours: impl Fn(&Stamp) -> bool,
) -> Result<(), Failure> {
    let mine = |stamp: &Option<Stamp>| stamp.as_ref().is_some_and(&ours);
    settle::release((streams, databases), (&found.stream, &found.database), &ours).await?;
    if let Observed::Present(state) = &found.key
        && let Some(step) = keys::release(state).filter(|_| mine(&state.stamp))
    {
        keys.execute(&step).await?;
    }
    Ok(())
}

/// Destroys what is ours. The key goes last: while it stands, what is left is still told apart from foreign data.
async fn destroy<S: Streams, D: Databases, K: TransitKeys>(
    (streams, databases, keys): (&S, &D, &K),
    name: &TenantName,
    found: &Dereferenced,
    ours: impl Fn(&Stamp) -> bool,
) -> Result<(), Failure> {
    if let Observed::Present(state) = &found.stream
        && let Some(stamp) = state.stamp.as_ref().filter(|stamp| ours(stamp))
    {
        streams.delete(&state.name, stamp).await?;
    }
    if let Observed::Present(state) = &found.database
        && let Some(stamp) = state.stamp.as_ref().filter(|stamp| ours(stamp))
    {
        databases.delete(&state.name, stamp).await?;
    }
    if let Observed::Present(state) = &found.key
        && let Some(stamp) = state.stamp.as_ref().filter(|stamp| ours(stamp))
    {
        keys.destroy(name, stamp).await?;
    }
    Ok(())
}

async fn tell(ctx: &Context, tenant: &Tenant, reason: &str, message: &str) -> Result<(), Failure> {
    let old = tenant.status.clone().unwrap_or_default();
    let mut statements = Statements::default();
    statements.keep(condition::ACCEPTED, &old.conditions).keep(condition::PROGRAMMED, &old.conditions);
    statements.reconciling(&Why::new(reason, message));
    let status = TenantStatus {
        observed_generation: tenant.metadata.generation,
        conditions: statements.conditions(&old.conditions, tenant.metadata.generation, clock::now()),
        ..old
    };
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::status(&api, &ctx.caches.tenants, tenant, tenant.status.as_ref(), &status).await
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
