//! What a UsageLimit belongs to, all from memory.

use std::sync::Arc;

use crds::{Plan, UsageLimit};
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::controllers::enforced::Standing;
use crate::engine::ObjectKey;
use crate::levels::Used;
use crate::snapshot::keys::limit_identity;
use crate::snapshot::publications::Publication;

/// What a UsageLimit belongs to.
#[derive(Debug, Default)]
pub struct Referred {
    /// The tenant that its namespace belongs to has a name; nothing else of it is told in the namespace.
    pub tenant: Option<String>,
    /// The tenant's plan.
    pub plan: Option<Arc<Plan>>,
    /// All limits of the tenant's namespaces.
    pub siblings: Vec<Arc<UsageLimit>>,
    /// The tenant's snapshot.
    pub publication: Option<Arc<Publication>>,
    /// How far the revision has come that carries the limit as it stands in the snapshot.
    pub standing: Option<Standing>,
    /// How much of it is used.
    pub used: Used,
}

/// Looks it up.
pub fn dereference(ctx: &Context, limit: &UsageLimit) -> Referred {
    let key = ObjectKey::of(limit);
    let Some(tenant) = ctx.tenant_of(&key.namespace) else { return Referred::default() };
    let name = tenant.metadata.name.clone().unwrap_or_default();
    let namespaces = ctx.belonging.claims(&name).held;
    let publication = ctx.publications.get(&name);
    let standing = publication.as_deref().map(|publication| {
        let revision = publication.since(&limit_identity(&key)).unwrap_or(publication.revision);
        let limits = &publication.snapshot.limits;
        let own = limits.iter().find(|limit| limit.identity == limit_identity(&key));
        let seeding = own.is_some_and(|limit| limit.seeding);
        let lost = own.and_then(|limit| ctx.ledgers.lost(limit.window));
        let reach = ctx.fleet.reach(&publication.snapshot.tenant, revision, Instant::now());
        let reach = reach.while_seeding(seeding).without(lost);
        Standing { revision, reach, published: publication.at }
    });
    let used = publication.as_deref().and_then(|publication| {
        let mut limits = publication.snapshot.limits.iter();
        let own = limits.find(|limit| limit.identity == limit_identity(&key))?;
        Some(ctx.levels.of(&publication.snapshot, own, clock::now().as_millisecond()))
    });
    Referred {
        used: used.unwrap_or_default(),
        plan: ctx.plan_of(&tenant),
        siblings: namespaces.iter().flat_map(|namespace| ctx.caches.limits.in_namespace(namespace)).collect(),
        tenant: Some(name),
        publication,
        standing,
    }
}
