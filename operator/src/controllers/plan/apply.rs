//! Keeps a Plan while tenants are on it, and lets it go when none is.

use std::sync::Arc;

use crds::Plan;
use kube::{Api, ResourceExt};

use super::FINALIZER;
use super::dereference::Use;
use crate::context::Context;
use crate::controllers::write;
use crate::engine::ObjectKey;
use crate::errors::Failure;

/// Sets or removes the finalizer. Returns the plan as it is afterwards, `None` if it is gone.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn apply(ctx: &Context, plan: &Arc<Plan>, used: &Use) -> Result<Option<Arc<Plan>>, Failure> {
    let deleted = plan.metadata.deletion_timestamp.is_some();
    let has = plan.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    // A deleted object takes no new finalizers.
    let wanted = used.tenants > 0 && (has || !deleted);
    let api: Api<Plan> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.caches.plans, plan, FINALIZER, wanted).await?;
    if deleted && !wanted {
        return Ok(None);
    }
    Ok(ctx.caches.plans.get(&ObjectKey::of(plan.as_ref())))
}
