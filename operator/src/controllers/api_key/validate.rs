//! Whether an ApiKey is accepted.

use crds::ApiKey;

use super::dereference::Referred;
use crate::conditions::Why;
use crate::engine::ObjectKey;
use crate::snapshot::judge;

/// What became of an ApiKey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Something is expected to come.
    Waiting(Why),
    /// Not accepted.
    Refused(Why),
    /// Accepted, but something is in the way that somebody has to remove.
    Stalled(Why),
    /// Accepted.
    Accepted,
}

/// Judges an ApiKey.
pub fn validate(object: &ApiKey, referred: &Referred) -> Verdict {
    let key = ObjectKey::of(object);
    if referred.tenant.is_none() {
        let message = format!("namespace {} does not belong to a tenant", key.namespace);
        return Verdict::Waiting(Why::new("WaitingForTenant", message));
    }
    if let Err(why) = judge::key(referred.plan.as_deref(), &referred.siblings, &key) {
        return Verdict::Refused(why);
    }
    if referred.publication.is_none() {
        return Verdict::Waiting(Why::new("WaitingForTenant", "the tenant is not ready yet"));
    }
    Verdict::Accepted
}
