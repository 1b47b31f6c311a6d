//! Whether a UsageLimit is accepted, and what became of it.

use crds::UsageLimit;
use policy::limit::{Limit, Mode};

use super::dereference::Referred;
use crate::conditions::Why;
use crate::engine::ObjectKey;
use crate::snapshot::judge;
use crate::snapshot::keys::limit_identity;
use crate::snapshot::rules::covering;

/// What became of a UsageLimit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its namespace belongs to nobody (yet), or to a tenant that has no snapshot yet.
    Waiting(Why),
    /// Not accepted; whether an older form of it stays in force.
    Refused(Why, bool),
    /// Accepted, but the snapshot does not carry this generation yet.
    Compiling,
    /// Accepted and suspended.
    Suspended,
    /// Accepted, and in the snapshot.
    InForce {
        /// `Enforcing`, `Warning` or `Observing`.
        reason: &'static str,
        /// A limit of the plan that makes it without effect.
        covered_by: Option<String>,
    },
}

/// Judges a UsageLimit.
pub fn validate(limit: &UsageLimit, referred: &Referred) -> Verdict {
    let key = ObjectKey::of(limit);
    if referred.tenant.is_none() {
        let message = format!("namespace {} does not belong to a tenant", key.namespace);
        return Verdict::Waiting(Why::new("WaitingForTenant", message));
    }
    let judged = judge::limits(referred.plan.as_deref(), &referred.siblings)
        .into_iter()
        .find(|judged| judged.key == key);
    let standing = in_snapshot(referred, &key);
    match judged.map(|judged| judged.verdict) {
        None => Verdict::Compiling,
        Some(Err(why)) => Verdict::Refused(why, standing.is_some()),
        Some(Ok(_)) if referred.publication.is_none() => {
            Verdict::Waiting(Why::new("WaitingForTenant", "the tenant is not ready yet"))
        }
        Some(Ok(None)) if standing.is_none() => Verdict::Suspended,
        Some(Ok(None)) => Verdict::Compiling,
        Some(Ok(Some(_))) => match standing {
            Some(limit_in_force) if Some(limit_in_force.origin.generation) == limit.metadata.generation => {
                in_force(limit_in_force, referred)
            }
            _ => Verdict::Compiling,
        },
    }
}

fn in_snapshot<'a>(referred: &'a Referred, key: &ObjectKey) -> Option<&'a Limit> {
    let identity = limit_identity(key);
    let limits = &referred.publication.as_ref()?.snapshot.limits;
    limits.iter().find(|limit| limit.identity == identity)
}

fn in_force(limit: &Limit, referred: &Referred) -> Verdict {
    let all = referred.publication.as_ref().map_or(&[][..], |publication| &publication.snapshot.limits);
    Verdict::InForce {
        reason: match limit.mode {
            Mode::Enforce => "Enforcing",
            Mode::Warn => "Warning",
            Mode::Observe => "Observing",
        },
        covered_by: covering(limit, all).map(|plan| plan.name.clone()),
    }
}
