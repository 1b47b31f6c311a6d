//! What is said about an ApiKey.

use std::time::Duration;

use crds::api_key::Source;
use crds::condition::{ACCEPTED, ENFORCED, PROGRAMMED, READY};
use crds::{ApiKey, ApiKeyStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::dereference::Referred;
use super::secret::{self, Held};
use super::validate::Verdict;
use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::orders::Orders;
use crate::controllers::{enforced, waiting, write};
use crate::errors::{Failure, Fault};

/// Writes the status if it differs. Returns when to look again, if it changes by time.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(
    ctx: &Context,
    object: &ApiKey,
    referred: &Referred,
    verdict: &Verdict,
    held: Option<&Held>,
    now: Timestamp,
) -> Result<Option<Duration>, Failure> {
    let (status, again) = compute(object, referred, verdict, held, now);
    store(ctx, object, &status).await?;
    Ok(again)
}

/// Says that a system failed. Rights that were granted a moment ago are not worth a word.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn failed(ctx: &Context, object: &ApiKey, failure: &Failure) -> Result<(), Failure> {
    let fresh = ctx.slices.granted_lately(&object.namespace().unwrap_or_default());
    if fresh || failure.category() == "conflict" {
        return Ok(());
    }
    let old = object.status.clone().unwrap_or_default();
    let mut statements = Statements::default();
    statements
        .keep(ACCEPTED, &old.conditions)
        .keep(PROGRAMMED, &old.conditions)
        .keep(ENFORCED, &old.conditions);
    statements.reconciling(&Why::new(failure.reason(), failure.to_string()));
    if old.observed_generation == object.metadata.generation {
        statements.keep(READY, &old.conditions);
    }
    let generation = object.metadata.generation;
    let conditions = statements.conditions(&old.conditions, generation, clock::now());
    store(ctx, object, &ApiKeyStatus { observed_generation: generation, conditions, ..old }).await
}

async fn store(ctx: &Context, object: &ApiKey, status: &ApiKeyStatus) -> Result<(), Failure> {
    let api: Api<ApiKey> = Api::namespaced(ctx.kube.clone(), &object.namespace().unwrap_or_default());
    write::status(&api, &ctx.caches.keys, object, object.status.as_ref(), status).await
}

fn compute(
    object: &ApiKey,
    referred: &Referred,
    verdict: &Verdict,
    held: Option<&Held>,
    now: Timestamp,
) -> (ApiKeyStatus, Option<Duration>) {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let mut statements = Statements::default();
    let mut again = None;
    let mut enforced_revision = None;
    match verdict {
        Verdict::Waiting(why) => again = waiting(&mut statements, why, &old.conditions, now),
        Verdict::Refused(why) => {
            statements.refused(why);
        }
        Verdict::Stalled(why) => {
            statements.yes(ACCEPTED, "Accepted", "the spec is valid").stalled(why);
        }
        Verdict::Accepted => {
            statements.yes(ACCEPTED, "Accepted", "the spec is valid");
            if referred.programmed {
                let standing = referred.standing.as_ref();
                let same = old.observed_generation == generation;
                enforced_revision = enforced::latched(standing, old.enforced_revision, same);
                statements.yes(
                    PROGRAMMED,
                    "Programmed",
                    "the tenant's snapshot carries exactly this key's digests",
                );
                enforced::ready(&mut statements, enforced_revision, standing);
                if let Some(standing) = standing {
                    again =
                        enforced::state(&mut statements, standing, "Enforcing", &old.conditions, generation);
                }
                ended(&mut statements, object, now);
            } else {
                let why = Why::new("Compiling", "the tenant's snapshot does not carry this generation yet");
                statements.no(PROGRAMMED, why.clone()).reconciling(&why);
            }
        }
    }
    let generated = object.spec.source == Source::Generate;
    let status = ApiKeyStatus {
        observed_generation: generation,
        last_handled_reconcile_at: Orders::of(object).at,
        conditions: statements.conditions(&old.conditions, generation, now),
        prefix: held.map(|held| held.prefix.clone()).or(old.prefix),
        secret_name: generated.then(|| secret::name(object)),
        minted: held.map(|held| held.minted).or(old.minted),
        enforced_revision,
    };
    (status, again)
}

/// A key that is revoked as written is ready, and says so.
fn ended(statements: &mut Statements, object: &ApiKey, now: Timestamp) {
    let reason = if object.spec.suspend {
        "Suspended"
    } else if object.spec.expires.is_some_and(|end| end <= now) {
        "Expired"
    } else {
        return;
    };
    if statements.status(READY) == Some(crds::ConditionStatus::True) {
        statements.yes(READY, reason, "no pod accepts the key, as written");
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
