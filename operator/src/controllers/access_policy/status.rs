//! What is said about an AccessPolicy.

use std::time::Duration;

use crds::{AccessPolicy, AccessPolicyStatus};
use jiff::Timestamp;
use kube::Api;

use super::dereference::Referred;
use crate::clock;
use crate::context::Context;
use crate::controllers::orders::Orders;
use crate::controllers::rule::{self, Before, Verdict};
use crate::controllers::write;
use crate::engine::ObjectKey;
use crate::errors::Failure;

/// Writes the status if it differs. Returns when to look again, if it changes by time.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(
    ctx: &Context,
    policy: &AccessPolicy,
    referred: &Referred,
    verdict: &Verdict,
) -> Result<Option<Duration>, Failure> {
    let (status, again) = compute(policy, referred, verdict, clock::now());
    let namespace = ObjectKey::of(policy).namespace;
    let api: Api<AccessPolicy> = Api::namespaced(ctx.kube.clone(), &namespace);
    write::status(&api, &ctx.caches.access, policy, policy.status.as_ref(), &status).await?;
    Ok(again)
}

fn compute(
    policy: &AccessPolicy,
    referred: &Referred,
    verdict: &Verdict,
    now: Timestamp,
) -> (AccessPolicyStatus, Option<Duration>) {
    let old = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let before = Before {
        generation: old.observed_generation,
        conditions: &old.conditions,
        enforced_revision: old.enforced_revision,
    };
    let stated = rule::state(verdict, referred.standing.as_ref(), before, generation, now);
    let status = AccessPolicyStatus {
        observed_generation: generation,
        last_handled_reconcile_at: Orders::of(policy).at,
        conditions: stated.conditions,
        rules: u32::try_from(policy.spec.rules.len()).ok(),
        enforced_revision: stated.enforced_revision,
    };
    (status, stated.again)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
