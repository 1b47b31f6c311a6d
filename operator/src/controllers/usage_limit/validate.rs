//! Whether a UsageLimit is accepted, and what became of it.

use crds::UsageLimit;

use super::dereference::Referred;
use crate::controllers::rule::{InSnapshot, Verdict, verdict};
use crate::engine::ObjectKey;
use crate::snapshot::judge;
use crate::snapshot::keys::limit_identity;
use crate::snapshot::rules::covering;

/// Judges a UsageLimit.
pub fn validate(limit: &UsageLimit, referred: &Referred) -> Verdict {
    let key = ObjectKey::of(limit);
    let judged = judge::limits(referred.plan.as_deref(), &referred.siblings)
        .into_iter()
        .find(|judged| judged.key == key)
        .map(|judged| judged.verdict);
    let publication = referred.publication.as_deref();
    let belongs = (key.namespace.as_str(), referred.tenant.as_deref());
    verdict(belongs, judged, publication, in_snapshot(referred, &key), limit.metadata.generation)
}

fn in_snapshot(referred: &Referred, key: &ObjectKey) -> Option<InSnapshot> {
    let identity = limit_identity(key);
    let limits = &referred.publication.as_ref()?.snapshot.limits;
    let limit = limits.iter().find(|limit| limit.identity == identity)?;
    Some(InSnapshot {
        generation: limit.origin.generation,
        mode: limit.mode,
        effective: match covering(limit, limits) {
            None => Ok("no limit of the plan is at least as strict"),
            Some(plan) => Err(format!("limit {} of the plan is at least as strict", plan.name)),
        },
    })
}
