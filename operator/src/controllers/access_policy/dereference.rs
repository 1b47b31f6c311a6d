//! What an AccessPolicy belongs to, all from memory.

use std::sync::Arc;

use crds::{AccessPolicy, Plan};
use tokio::time::Instant;

use crate::context::Context;
use crate::controllers::enforced::Standing;
use crate::engine::ObjectKey;
use crate::snapshot::keys::limit_identity;
use crate::snapshot::publications::{Publication, access_name};

/// What an AccessPolicy belongs to.
#[derive(Debug, Default)]
pub struct Referred {
    /// The tenant that its namespace belongs to has a name; nothing else of it is told in the namespace.
    pub tenant: Option<String>,
    /// The tenant's plan.
    pub plan: Option<Arc<Plan>>,
    /// All policies of the tenant's namespaces.
    pub siblings: Vec<Arc<AccessPolicy>>,
    /// The tenant's snapshot.
    pub publication: Option<Arc<Publication>>,
    /// How far the revision has come that carries the policy as it stands in the snapshot.
    pub standing: Option<Standing>,
}

/// Looks it up.
pub fn dereference(ctx: &Context, policy: &AccessPolicy) -> Referred {
    let key = ObjectKey::of(policy);
    let Some(tenant) = ctx.tenant_of(&key.namespace) else { return Referred::default() };
    let name = tenant.metadata.name.clone().unwrap_or_default();
    let namespaces = ctx.belonging.claims(&name).held;
    let publication = ctx.publications.get(&name);
    let standing = publication.as_deref().map(|publication| {
        let revision = publication.since(&access_name(&limit_identity(&key))).unwrap_or(publication.revision);
        let reach = ctx.fleet.reach(&publication.snapshot.tenant, revision, Instant::now());
        Standing { revision, reach, published: publication.at }
    });
    Referred {
        plan: ctx.plan_of(&tenant),
        siblings: namespaces.iter().flat_map(|namespace| ctx.caches.access.in_namespace(namespace)).collect(),
        tenant: Some(name),
        publication,
        standing,
    }
}
