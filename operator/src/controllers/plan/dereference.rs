//! Who is on a Plan, and how many decide by it as it is.

use crds::Plan;
use kube::ResourceExt;

use crate::context::Context;

/// How a plan is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Tenants on it.
    pub tenants: u32,
    /// Tenants on it that have a snapshot.
    pub placed: u32,
    /// Tenants on it whose snapshot was compiled from its present generation.
    pub current: u32,
}

/// Counts.
pub fn dereference(ctx: &Context, plan: &Plan) -> Use {
    let name = plan.name_any();
    let generation = plan.metadata.generation.unwrap_or_default();
    let mut found = Use::default();
    for tenant in ctx.caches.tenants.list().iter().filter(|tenant| tenant.spec.plan_ref.name == name) {
        found.tenants += 1;
        if let Some(publication) = ctx.publications.get(&tenant.name_any()) {
            found.placed += 1;
            found.current += u32::from(publication.follows(&name, generation, plan.spec.limits.len()));
        }
    }
    found
}
