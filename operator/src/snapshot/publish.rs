//! Writes a tenant's snapshot if it says something new.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Plan, Tenant};
use event::TenantName;
use kube::ResourceExt;
use policy::snapshot::{Snapshot, TenantState};
use tokio::time::Instant;

use super::assemble::{Entitlement, Material, Place, Unassembled, assemble, keys};
use super::judge;
use super::keys::limit_identity;
use super::store::{Stored, WriteError};
use crate::clock;
use crate::context::Context;
use crate::controllers::triggers;
use crate::engine::ObjectKey;
use crate::passage;

/// What the tenant controller decided about a tenant's snapshot.
#[derive(Debug)]
pub struct Request<'a> {
    /// The tenant.
    pub name: &'a TenantName,
    /// Whose data they are, and where they go.
    pub place: Place,
    /// Its plan, if it exists.
    pub plan: Option<&'a Plan>,
    /// Terms and plan, as far as they are accepted.
    pub entitlement: Entitlement,
    /// Whether its keys are served.
    pub state: TenantState,
    /// Namespaces that it holds.
    pub namespaces: Vec<String>,
    /// The snapshot in force, read before this.
    pub stored: &'a Stored<Snapshot>,
}

/// A snapshot that stands in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its revision.
    pub revision: u64,
    /// When it changes by time alone, Unix milliseconds.
    pub next_change_ms: Option<i64>,
}

/// Why no snapshot was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nothing to publish.
    #[error(transparent)]
    Unassembled(#[from] Unassembled),
    /// Not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Assembles and writes the snapshot, by compare-and-set on what was read before; unchanged content is not written.
///
/// # Errors
/// See [`PublishError`].
pub async fn publish(ctx: &Context, request: Request<'_>) -> Result<Published, PublishError> {
    let previous = request.stored.value.as_ref();
    let known = ctx.publications.get(request.name.as_str());
    let known = known.as_deref().filter(|known| known.revision == request.stored.revision);
    let seeded = ctx.seedings.ended(known);
    let history = Before { has_history: has_history(ctx, &request).await, seeded };
    let assembled = assemble(material(ctx, &request, history, clock::now().as_millisecond()))?;
    let next_change_ms = assembled.next_change_ms;
    let unchanged = previous.filter(|previous| previous.content_hash() == assembled.snapshot.content_hash());
    let (revision, snapshot) = match unchanged {
        Some(previous) => (request.stored.revision, previous.clone()),
        None => {
            let revision = ctx.store.put(&assembled.snapshot, request.stored).await?;
            ctx.metrics.snapshot("written");
            let (tenant, limits) = (request.name.as_str(), assembled.snapshot.limits.len());
            tracing::info!(
                tenant,
                revision,
                limits,
                keys = assembled.snapshot.keys.len(),
                "snapshot written"
            );
            (revision, assembled.snapshot)
        }
    };
    take_over(ctx, request.name, revision, snapshot, request.plan, previous);
    Ok(Published { revision, next_change_ms })
}

/// Deletes a tenant's snapshot; its keys are unknown from then on. Returns the revision that says so.
///
/// # Errors
/// When NATS fails.
pub async fn withdraw(
    ctx: &Context,
    name: &TenantName,
    stored: &Stored<Snapshot>,
) -> Result<u64, crate::errors::Failure> {
    let mut revision = stored.revision;
    if stored.value.is_some() {
        revision = ctx.store.delete(name, stored).await?;
        ctx.metrics.snapshot("deleted");
        tracing::info!(tenant = name.as_str(), revision, "snapshot deleted");
    }
    ctx.belonging.record(name.as_str(), &[]);
    ctx.seedings.forget(name.as_str(), None);
    if let Some(old) = ctx.publications.remove(name.as_str()) {
        ctx.queue_namespaces(&old.snapshot.namespaces);
        triggers::lane(ctx, &old.snapshot.lane);
    }
    ctx.first_pass.want_index();
    Ok(revision)
}

/// What is known of the time before a limit counted.
struct Before {
    has_history: bool,
    seeded: BTreeSet<String>,
}

/// Whether pods may have admitted events of the tenant that a limit which is new would have counted. Nobody can have sent one
/// while there was no key, and while there is no message in its lane nobody has: then limits count at once.
async fn has_history(ctx: &Context, request: &Request<'_>) -> bool {
    let stored = request.stored;
    let had_keys = stored.value.as_ref().is_some_and(|previous| !previous.keys.is_empty());
    let moved = stored.value.as_ref().is_some_and(|previous| ctx.moves.lanes(previous).len() > 1);
    if had_keys || moved || !ctx.fleet.undrained(stored.revision, Instant::now()).is_empty() {
        return true;
    }
    // Without an answer the limit is seeded: that waits until there is one.
    passage::mark(&ctx.nats, &request.place.lane).await.map_or(true, |mark| mark.is_some())
}

fn material<'a>(ctx: &Context, request: &Request<'a>, before: Before, now_ms: i64) -> Material<'a> {
    // Versions first: the lists read after them are at least as new.
    let versions = versions(ctx);
    let previous = request.stored.value.as_ref();
    let namespaces = || request.namespaces.iter();
    let limits: Vec<_> =
        namespaces().flat_map(|namespace| ctx.caches.limits.in_namespace(namespace)).collect();
    let access: Vec<_> =
        namespaces().flat_map(|namespace| ctx.caches.access.in_namespace(namespace)).collect();
    let declared: Vec<_> =
        namespaces().flat_map(|namespace| ctx.caches.keys.in_namespace(namespace)).collect();
    let unreadable_keys: Vec<ObjectKey> =
        namespaces().flat_map(|ns| ctx.caches.keys.unreadable_in(ns)).collect();
    let accepted = |key: &ObjectKey| judge::key(request.plan, &declared, key).is_ok();
    Material {
        tenant: request.name,
        epoch: ctx.store.epoch(),
        place: request.place.clone(),
        state: request.state,
        entitlement: request.entitlement.clone(),
        limits: judge::limits(request.plan, &limits),
        unreadable_limits: namespaces()
            .flat_map(|namespace| ctx.caches.limits.unreadable_in(namespace))
            .map(|key| limit_identity(&key))
            .collect(),
        access: judge::access(request.plan, &access),
        unreadable_access: namespaces()
            .flat_map(|namespace| ctx.caches.access.unreadable_in(namespace))
            .map(|key| limit_identity(&key))
            .collect(),
        keys: keys(&declared, &unreadable_keys, accepted, &ctx.records, previous, now_ms),
        namespaces: request.namespaces.clone(),
        versions,
        has_history: before.has_history,
        seeded: before.seeded,
        previous,
        now_ms,
    }
}

fn versions(ctx: &Context) -> BTreeMap<String, String> {
    [
        ("plans", ctx.caches.plans.version()),
        ("tenants", ctx.caches.tenants.version()),
        ("usagelimits", ctx.caches.limits.version()),
        ("accesspolicies", ctx.caches.access.version()),
        ("apikeys", ctx.caches.keys.version()),
    ]
    .map(|(list, version)| (list.to_owned(), version))
    .into()
}

/// Makes what was published known inside the process, and queues whose status depends on it.
fn take_over(
    ctx: &Context,
    name: &TenantName,
    revision: u64,
    snapshot: Snapshot,
    plan: Option<&Plan>,
    previous: Option<&Snapshot>,
) {
    let before = previous.map_or(&[][..], |snapshot| &snapshot.namespaces);
    let freed: Vec<String> = before.iter().filter(|ns| !snapshot.namespaces.contains(ns)).cloned().collect();
    let (namespaces, lane) = (snapshot.namespaces.clone(), snapshot.lane.clone());
    if !ctx.publications.put(revision, snapshot) {
        return;
    }
    ctx.seedings.forget(name.as_str(), ctx.publications.get(name.as_str()).as_deref());
    ctx.belonging.record(name.as_str(), &namespaces);
    ctx.queue_namespaces(namespaces.iter().chain(&freed));
    for tenant in freed.iter().flat_map(|namespace| ctx.belonging.claimants(namespace)) {
        ctx.queues.tenant.add(ObjectKey::cluster(&tenant));
    }
    if let Some(plan) = plan {
        triggers::plan_soon(ctx, &plan.name_any());
    }
    if previous.is_none() {
        ctx.first_pass.want_index();
        triggers::lane(ctx, &lane);
    }
}

/// The state that a Tenant asks for, before anything else is looked at: a suspension is never delayed.
pub fn state_of(tenant: &Tenant) -> TenantState {
    if tenant.spec.suspend || tenant.metadata.deletion_timestamp.is_some() {
        TenantState::Suspended
    } else {
        TenantState::Active
    }
}
