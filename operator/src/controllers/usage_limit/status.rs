//! What is said about a UsageLimit.

use std::time::Duration;

use crds::{UsageLimit, UsageLimitStatus};
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
use crate::levels::Used;

/// Writes the status if it differs. Returns when to look again, if it changes by time.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(
    ctx: &Context,
    limit: &UsageLimit,
    referred: &Referred,
    verdict: &Verdict,
) -> Result<Option<Duration>, Failure> {
    let (status, again) = compute(limit, referred, verdict, clock::now());
    let namespace = ObjectKey::of(limit).namespace;
    let api: Api<UsageLimit> = Api::namespaced(ctx.kube.clone(), &namespace);
    write::status(&api, &ctx.caches.limits, limit, limit.status.as_ref(), &status).await?;
    Ok(again)
}

fn compute(
    limit: &UsageLimit,
    referred: &Referred,
    verdict: &Verdict,
    now: Timestamp,
) -> (UsageLimitStatus, Option<Duration>) {
    let old = limit.status.clone().unwrap_or_default();
    let generation = limit.metadata.generation;
    let before = Before {
        generation: old.observed_generation,
        conditions: &old.conditions,
        enforced_revision: old.enforced_revision,
    };
    let (level, ends) = match (verdict, referred.used) {
        (Verdict::InForce { .. }, Used::Known(level, ends)) => (Some(level.to_string()), ends),
        (Verdict::InForce { .. }, Used::Unknown) => (old.level.clone(), None),
        _ => (None, None),
    };
    let stated = rule::state(verdict, referred.standing.as_ref(), before, generation, now);
    let status = UsageLimitStatus {
        observed_generation: generation,
        last_handled_reconcile_at: Orders::of(limit).at,
        conditions: stated.conditions,
        level,
        enforced_revision: stated.enforced_revision,
    };
    (status, stated.again.into_iter().chain(ends).min())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
