//! What is said about a UsageLimit.

use std::time::Duration;

use crds::condition::{ACCEPTED, EFFECTIVE, ENFORCED, PROGRAMMED, READY};
use crds::{UsageLimit, UsageLimitStatus};
use jiff::Timestamp;
use kube::Api;

use super::dereference::Referred;
use super::validate::Verdict;
use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::{enforced, waiting, write};
use crate::engine::ObjectKey;
use crate::errors::Failure;

/// Level of a limit until consumption is followed.
const NORMAL: &str = "Normal";

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
    write::status(&api, &ctx.limits, limit, limit.status.as_ref(), &status).await?;
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
    let mut statements = Statements::default();
    let mut again = None;
    let mut enforced_revision = None;
    match verdict {
        Verdict::Waiting(why) => again = waiting(&mut statements, why, &old.conditions, now),
        Verdict::Refused(why, kept) => {
            statements.refused(why);
            let message =
                if *kept { "its last accepted form stays in force" } else { "it was never in force" };
            statements.no(PROGRAMMED, Why::new(why.reason.clone(), message));
        }
        Verdict::Compiling => {
            let why = Why::new("Compiling", "the tenant's snapshot does not carry this generation yet");
            statements
                .yes(ACCEPTED, "Accepted", "the rule is valid")
                .no(PROGRAMMED, why.clone())
                .reconciling(&why);
        }
        Verdict::Suspended => {
            statements
                .yes(ACCEPTED, "Accepted", "the rule is valid")
                .yes(PROGRAMMED, "Suspended", "the rule is out of the tenant's snapshot")
                .no(ENFORCED, Why::new("Suspended", "spec.suspend is true"))
                .yes(READY, "Suspended", "the rule is out of force as written");
        }
        Verdict::InForce { reason, covered_by } => {
            statements.yes(ACCEPTED, "Accepted", "the rule is valid");
            statements.yes(PROGRAMMED, "Programmed", "the rule is in the tenant's snapshot");
            effective(&mut statements, covered_by.as_deref());
            let standing = referred.standing.as_ref();
            let same = old.observed_generation == generation;
            enforced_revision = enforced::latched(standing, old.enforced_revision, same);
            enforced::ready(&mut statements, enforced_revision, standing);
            if let Some(standing) = standing {
                again = enforced::state(&mut statements, standing, reason, &old.conditions, generation);
            }
        }
    }
    let status = UsageLimitStatus {
        observed_generation: generation,
        conditions: statements.conditions(&old.conditions, generation, now),
        level: matches!(verdict, Verdict::InForce { .. }).then(|| NORMAL.to_owned()),
        enforced_revision,
    };
    (status, again)
}

fn effective(statements: &mut Statements, covered_by: Option<&str>) {
    match covered_by {
        None => statements.yes(EFFECTIVE, "Narrows", "no limit of the plan is at least as strict"),
        Some(name) => {
            let message = format!("limit {name} of the plan is at least as strict");
            statements.no(EFFECTIVE, Why::new("LooserThanPlan", message))
        }
    };
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
