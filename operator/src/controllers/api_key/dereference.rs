//! What an ApiKey belongs to, and its Secret.

use std::sync::Arc;

use crds::{ApiKey, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::secret::{self, Found, Held};
use crate::context::Context;
use crate::controllers::enforced::Standing;
use crate::engine::ObjectKey;
use crate::errors::Failure;
use crate::snapshot::assemble;
use crate::snapshot::keys::{KeyRecords, key_id};
use crate::snapshot::publications::{Publication, key_name};

/// What an ApiKey belongs to.
#[derive(Debug, Default)]
pub struct Referred {
    /// The tenant that its namespace belongs to.
    pub tenant: Option<String>,
    /// The tenant's plan.
    pub plan: Option<Arc<Plan>>,
    /// All ApiKeys of the tenant's namespaces.
    pub siblings: Vec<Arc<ApiKey>>,
    /// The tenant's snapshot.
    pub publication: Option<Arc<Publication>>,
    /// The snapshot carries exactly the keys that the ApiKey stands for.
    pub programmed: bool,
    /// How far the revision has come that carries them.
    pub standing: Option<Standing>,
}

/// Looks it up in memory.
pub fn dereference(ctx: &Context, object: &ApiKey) -> Referred {
    let namespace = object.namespace().unwrap_or_default();
    let Some(tenant) = ctx.tenant_of(&namespace) else { return Referred::default() };
    let name = tenant.name_any();
    let namespaces = ctx.belonging.claims(&name).held;
    Referred {
        plan: ctx.plan_of(&tenant),
        siblings: namespaces.iter().flat_map(|namespace| ctx.caches.keys.in_namespace(namespace)).collect(),
        publication: ctx.publications.get(&name),
        tenant: Some(name),
        ..Referred::default()
    }
}

/// Reads the Secret.
///
/// # Errors
/// When the kube-apiserver fails or denies us.
pub async fn secret(ctx: &Context, object: &ApiKey) -> Result<Found, Failure> {
    let api: Api<Secret> = Api::namespaced(ctx.kube.clone(), &object.namespace().unwrap_or_default());
    let found = api.get_opt(&secret::name(object)).await?;
    Ok(secret::read(object, found.as_ref()))
}

impl Referred {
    /// Compares the snapshot with the keys that the ApiKey stands for, as known now.
    pub fn refresh(&mut self, ctx: &Context, object: &ApiKey, held: Option<&Held>, now: Timestamp) {
        let Some(publication) = &self.publication else { return };
        let key = ObjectKey::of(object);
        let id = key_id(&key);
        let records = KeyRecords::default();
        records.note(
            &key,
            object.metadata.uid.as_deref().unwrap_or_default(),
            held.map(Held::entries).unwrap_or_default(),
        );
        let wanted =
            assemble::keys(&[Arc::new(object.clone())], &[], |_| true, &records, None, now.as_millisecond());
        let there: Vec<_> = publication.snapshot.keys.iter().filter(|key| key.id == id).cloned().collect();
        self.programmed = wanted == there;
        let revision = publication.since(&key_name(&id)).unwrap_or(publication.revision);
        let reach = ctx.fleet.reach(&publication.snapshot.tenant, revision, Instant::now());
        self.standing = Some(Standing { revision, reach, published: publication.at });
    }
}
