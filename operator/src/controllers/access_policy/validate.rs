//! Whether an AccessPolicy is accepted, and what became of it.

use crds::AccessPolicy;

use super::dereference::Referred;
use crate::controllers::rule::{InSnapshot, Verdict, verdict};
use crate::engine::ObjectKey;
use crate::snapshot::judge;
use crate::snapshot::keys::limit_identity;

/// Judges an AccessPolicy.
pub fn validate(policy: &AccessPolicy, referred: &Referred) -> Verdict {
    let key = ObjectKey::of(policy);
    let judged = judge::access(referred.plan.as_deref(), &referred.siblings)
        .into_iter()
        .find(|judged| judged.key == key)
        .map(|judged| judged.verdict);
    let publication = referred.publication.as_deref();
    let belongs = (key.namespace.as_str(), referred.tenant.as_deref());
    verdict(belongs, judged, publication, in_snapshot(referred, &key), policy.metadata.generation)
}

fn in_snapshot(referred: &Referred, key: &ObjectKey) -> Option<InSnapshot> {
    let identity = limit_identity(key);
    let policies = &referred.publication.as_ref()?.snapshot.access;
    let policy = policies.iter().find(|policy| policy.identity == identity)?;
    Some(InSnapshot {
        generation: policy.origin.generation,
        mode: policy.mode,
        effective: Ok("an access policy only takes away: it raises no limit"),
    })
}
