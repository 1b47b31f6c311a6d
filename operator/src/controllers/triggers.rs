//! Which objects have to be looked at when one changes.

use std::time::Duration;

use crds::{AccessPolicy, ApiKey, LanePool, Plan, Tenant, UsageLimit};
use event::Lane;
use kube::{Resource, ResourceExt};

use crate::context::Context;
use crate::engine::{Change, ObjectKey, Queue};
use crate::snapshot::judge::created;

/// Changes of a tenant's limits and keys within this time become one snapshot.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A limit is looked at again after its tenant's snapshot was; if that says nothing new, after this time.
const AFTER_SNAPSHOT: Duration = Duration::from_millis(400);
/// Tenants of one plan follow it one after the other; the plan is looked at in between.
const PLAN_DEBOUNCE: Duration = Duration::from_millis(200);

/// A Tenant changed.
pub fn tenant(ctx: &Context, change: &Change<Tenant>) {
    let unreadable = change.new.is_none() && ctx.caches.tenants.contains(&change.key);
    if unreadable || !says_something_new(change) {
        return;
    }
    let named = change.new.as_deref().map(|tenant| (created(tenant), tenant.spec.namespaces.as_slice()));
    let concerned = ctx.belonging.note(&change.key.name, named);
    ctx.queues.tenant.add(change.key.clone());
    ctx.queues.query_user.add(change.key.clone());
    for namespace in &concerned {
        for claimant in ctx.belonging.claimants(namespace) {
            ctx.queues.tenant.add(ObjectKey::cluster(&claimant));
        }
    }
    ctx.queue_namespaces(&concerned);
    for tenant in [&change.old, &change.new].into_iter().flatten() {
        plan_soon(ctx, &tenant.spec.plan_ref.name);
    }
}

/// A Plan changed.
pub fn plan(ctx: &Context, change: &Change<Plan>) {
    if !says_something_new(change) {
        return;
    }
    ctx.queues.plan.add(change.key.clone());
    for tenant in
        ctx.caches.tenants.list().iter().filter(|tenant| tenant.spec.plan_ref.name == change.key.name)
    {
        ctx.queues.tenant.add(ObjectKey::of(tenant.as_ref()));
        // A ceiling may have moved without a word in the snapshot.
        ctx.queue_namespaces(&tenant.spec.namespaces);
    }
}

/// A LanePool changed. Another may have what it gives up.
pub fn lane_pool(ctx: &Context, change: &Change<LanePool>) {
    if says_something_new(change) {
        ctx.queues.lane_pool.add(change.key.clone());
        ctx.caches
            .pools
            .list()
            .iter()
            .for_each(|pool| ctx.queues.lane_pool.add(ObjectKey::of(pool.as_ref())));
    }
}

/// Tenants came to a lane, or left it.
pub fn lane(ctx: &Context, lane: &Lane) {
    if matches!(lane, Lane::Pooled(_)) {
        let keys = ctx.caches.pools.list().into_iter().map(|pool| ObjectKey::of(pool.as_ref()));
        keys.for_each(|key| ctx.queues.lane_pool.add_after(key, PLAN_DEBOUNCE));
    }
}

/// A UsageLimit changed.
pub fn usage_limit(ctx: &Context, change: &Change<UsageLimit>) {
    rule(ctx, change, &ctx.queues.usage_limit);
}

/// An AccessPolicy changed.
pub fn access_policy(ctx: &Context, change: &Change<AccessPolicy>) {
    rule(ctx, change, &ctx.queues.access_policy);
}

/// Something changed that is a part of its tenant's snapshot.
fn rule<K: Resource>(ctx: &Context, change: &Change<K>, queue: &Queue) {
    if !says_something_new(change) {
        return;
    }
    match ctx.belonging.holder(&change.key.namespace) {
        Some(tenant) => {
            ctx.queues.tenant.add_after(ObjectKey::cluster(&tenant), DEBOUNCE);
            queue.add_after(change.key.clone(), AFTER_SNAPSHOT);
        }
        None => queue.add(change.key.clone()),
    }
}

/// An ApiKey changed.
pub fn api_key(ctx: &Context, change: &Change<ApiKey>) {
    if !says_something_new(change) {
        return;
    }
    ctx.queues.api_key.add(change.key.clone());
    if let Some(tenant) = ctx.belonging.holder(&change.key.namespace) {
        ctx.queues.tenant.add_after(ObjectKey::cluster(&tenant), DEBOUNCE);
    }
}

/// The snapshot of a tenant on this plan was compiled.
pub fn plan_soon(ctx: &Context, plan: &str) {
    ctx.queues.plan.add_after(ObjectKey::cluster(plan), PLAN_DEBOUNCE);
}

/// Whether more than the status changed.
fn says_something_new<K: Resource>(change: &Change<K>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let (a, b) = (old.meta(), new.meta());
    a.uid != b.uid
        || a.generation != b.generation
        || a.deletion_timestamp != b.deletion_timestamp
        || old.annotations() != new.annotations()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::tenant::validate::tests::acme;
    use std::sync::Arc;

    #[test]
    fn a_status_is_no_news() {
        let change = |edit: fn(&mut Tenant)| Change {
            key: ObjectKey::cluster("acme"),
            old: Some(Arc::new(acme(|_| {}))),
            new: Some(Arc::new(acme(edit))),
        };
        assert!(!says_something_new(&change(|tenant| tenant.status = Some(crds::TenantStatus::default()))));
        assert!(!says_something_new(&change(|tenant| tenant.metadata.resource_version = Some("9".into()))));
        assert!(says_something_new(&change(|tenant| tenant.metadata.generation = Some(9))));
        let confirmed = |tenant: &mut Tenant| {
            tenant.annotations_mut().insert("meterplane.io/confirm-deletion".into(), "acme".into());
        };
        assert!(says_something_new(&change(confirmed)));
    }
}
