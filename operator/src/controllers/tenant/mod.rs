//! Tenant: a stream, a database, a key, and the snapshot that pods decide by.
//!
//! Two halves with workers of their own, so that neither waits for the other's systems: the *slice* (stream, database,
//! key, see `slices`) is looked at when the Tenant changes and every few minutes; the *snapshot* follows every change of a
//! Plan, UsageLimit or ApiKey and needs only NATS and a signature.

mod access;
mod apply;
pub mod build;
mod delete;
mod dereference;
mod forget;
mod limits;
pub mod placement;
pub mod slices;
mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use crds::Tenant;
use event::TenantName;
use policy::snapshot::Snapshot;

pub use slices::Slices;

use crate::belonging::Claims;
use crate::conditions::Why;
use crate::context::Context;
use crate::controllers::settle::Hindrance;
use crate::engine::ObjectKey;
use crate::engine::queue::{Action, spread};
use crate::errors::Failure;
use crate::snapshot::assemble::{Entitlement, Place, Unassembled};
use crate::snapshot::publish::{PublishError, Published, Request, publish, state_of};
use crate::snapshot::store::{Stored, WriteError};
use slices::Placement;
use validate::{Refusal, Validated};

/// Keeps a Tenant until its data are released or destroyed.
pub const FINALIZER: &str = "meterplane.io/tenant";

/// What came of one round.
#[derive(Debug)]
pub struct Round {
    accepted: Result<Validated, Refusal>,
    slice: Result<Placement, Hindrance>,
    published: Result<Published, Hindrance>,
    claims: Claims,
    missing_namespaces: Vec<String>,
}

/// Looks at one Tenant.
///
/// # Errors
/// The failure that kept it from its end; the status already says so.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(tenant) = ctx.caches.tenants.get(&key) else {
        ctx.slices.forget(&key.name);
        passed(&ctx, &key);
        return Ok(Action::Await);
    };
    // The CRD's rules admit no other names.
    let Ok(name) = key.name.parse::<TenantName>() else { return Ok(Action::Await) };
    let stored = match ctx.store.get(&name).await {
        Ok(stored) => stored,
        Err(failure) => {
            status::unavailable(&ctx, &tenant, &failure).await?;
            return Err(failure);
        }
    };
    if tenant.metadata.deletion_timestamp.is_some() {
        let action = delete::run(&ctx, &tenant, &name, &stored).await?;
        passed(&ctx, &key);
        return Ok(action);
    }
    let Some(round) = run(&ctx, &tenant, &name, &stored).await else {
        // The workers of slices queue it again when they know.
        ctx.queues.slice.add(key);
        return Ok(Action::Await);
    };
    let again = status::write(&ctx, &tenant, &round).await?;
    if !matches!(round.published, Err(Hindrance::Failed(_))) {
        passed(&ctx, &key);
    }
    finish(&ctx, &key, round, again)
}

fn passed(ctx: &Context, key: &ObjectKey) {
    ctx.first_pass.passed(&key.name);
    ctx.first_pass.want_index();
}

/// One round; `None` while nobody has looked at the slice of the tenant as it is now. Even then a snapshot that is in
/// force follows every change.
async fn run(ctx: &Context, tenant: &Tenant, name: &TenantName, stored: &Stored<Snapshot>) -> Option<Round> {
    let plan = ctx.plan_of(tenant);
    let accepted = validate::validate(tenant, plan.as_deref(), &ctx.settings);
    let claims = ctx.belonging.claims(name.as_str());
    let slice = match &accepted {
        Ok(validated) => ctx.slices.get(name.as_str(), validated),
        Err(refusal) => Some(Err(Hindrance::Refused(refusal.why().clone()))),
    };
    let missing_namespaces = match access::settle(ctx, &claims.held, stored.value.as_ref()).await {
        Ok(missing) => missing,
        Err(failure) => {
            tracing::warn!(tenant = name.as_str(), %failure, "rights on Secrets were not settled");
            Vec::new()
        }
    };
    let looked = slice.is_some();
    let slice = slice.unwrap_or_else(|| Err(Hindrance::Stalled(Why::new("NotPlaced", "not looked at yet"))));
    let published =
        publish_round(ctx, tenant, name, stored, &accepted, &slice, plan.as_deref(), &claims).await;
    looked.then_some(Round { accepted, slice, published, claims, missing_namespaces })
}

/// Publishes the tenant's snapshot: for the first time only when the slice is complete, later whatever the slice's
/// systems do.
#[allow(clippy::too_many_arguments, reason = "the parts of one round")]
async fn publish_round(
    ctx: &Context,
    tenant: &Tenant,
    name: &TenantName,
    stored: &Stored<Snapshot>,
    accepted: &Result<Validated, Refusal>,
    slice: &Result<Placement, Hindrance>,
    plan: Option<&crds::Plan>,
    claims: &Claims,
) -> Result<Published, Hindrance> {
    let before = stored.value.as_ref().map(Place::of);
    let place = match (slice, accepted) {
        (Ok(placement), _) => placement.place.clone(),
        // Whose data these are is in doubt: nothing may be served from them under this tenant's name.
        (Err(Hindrance::Refused(why)), Ok(_)) => return Err(Hindrance::Refused(why.clone())),
        (Err(_), _) => {
            before.ok_or_else(|| Hindrance::Stalled(Why::new("NotPlaced", "the tenant has no place yet")))?
        }
    };
    let entitlement = match accepted {
        Ok(validated) => {
            Entitlement::Declared { terms: validated.terms.clone(), rules: validated.rules.clone() }
        }
        Err(_) => Entitlement::Kept,
    };
    let request = Request {
        name,
        place,
        plan,
        entitlement,
        state: state_of(tenant),
        namespaces: claims.held.clone(),
        stored,
    };
    publish(ctx, request).await.map_err(|error| match error {
        PublishError::Write(WriteError::Failed(failure)) => Hindrance::Failed(failure),
        PublishError::Write(WriteError::TooLarge(error)) => {
            Hindrance::Stalled(Why::new("SnapshotTooLarge", error.to_string()))
        }
        PublishError::Unassembled(Unassembled::Tenant(invalid)) => {
            Hindrance::Stalled(Why::new("Invalid", invalid.to_string()))
        }
        PublishError::Unassembled(error @ Unassembled::NothingAccepted) => {
            Hindrance::Stalled(Why::new("NotAccepted", error.to_string()))
        }
    })
}

/// When the tenant is looked at again.
fn finish(ctx: &Context, key: &ObjectKey, round: Round, again: Option<Duration>) -> Result<Action, Failure> {
    let next_change = round.published.as_ref().ok().and_then(|published| published.next_change_ms);
    // A slice that failed is tried again by its own workers.
    if let Err(Hindrance::Failed(failure)) = round.published {
        return Err(failure);
    }
    let change = next_change.map(|at| {
        let delay = at - crate::clock::now().as_millisecond();
        // One millisecond more: an override holds in its last millisecond.
        Duration::from_millis(u64::try_from(delay + 1).unwrap_or_default())
    });
    let resync = ctx.settings.resync.mul_f64(0.8 + 0.4 * spread(key, 0));
    let missing = (!round.missing_namespaces.is_empty()).then_some(Duration::from_secs(10));
    let soonest = [change, again, missing].into_iter().flatten().fold(resync, Duration::min);
    Ok(Action::After(soonest.max(Duration::from_millis(10))))
}
