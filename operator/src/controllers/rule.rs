//! What UsageLimits and AccessPolicies have in common: each is a rule that becomes part of its tenant's snapshot.

use std::time::Duration;

use crds::condition::{ACCEPTED, Condition, EFFECTIVE, ENFORCED, PROGRAMMED, READY};
use jiff::Timestamp;
use policy::limit::Mode;

use super::enforced::{self, Standing};
use super::waiting;
use crate::conditions::{Statements, Why};
use crate::snapshot::publications::Publication;

/// What became of a rule.
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
        /// How it narrows the plan, or what of the plan makes it without effect.
        effective: Result<&'static str, String>,
    },
}

/// A rule as it stands in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSnapshot {
    /// Generation of the object that it was compiled from.
    pub generation: i64,
    /// Its mode.
    pub mode: Mode,
    /// See [`Verdict::InForce`].
    pub effective: Result<&'static str, String>,
}

/// Judges a rule by what was read about it: its namespace and tenant, what [`crate::snapshot::judge`] says about it, the
/// tenant's publication and the rule's form in it.
pub fn verdict<R>(
    (namespace, tenant): (&str, Option<&str>),
    judged: Option<Result<Option<R>, Why>>,
    publication: Option<&Publication>,
    in_snapshot: Option<InSnapshot>,
    generation: Option<i64>,
) -> Verdict {
    if tenant.is_none() {
        let message = format!("namespace {namespace} does not belong to a tenant");
        return Verdict::Waiting(Why::new("WaitingForTenant", message));
    }
    match (judged, in_snapshot) {
        (None, _) => Verdict::Compiling,
        (Some(Err(why)), in_snapshot) => Verdict::Refused(why, in_snapshot.is_some()),
        (Some(Ok(_)), _) if publication.is_none() => {
            Verdict::Waiting(Why::new("WaitingForTenant", "the tenant is not ready yet"))
        }
        (Some(Ok(None)), None) => Verdict::Suspended,
        (Some(Ok(Some(_))), Some(present)) if Some(present.generation) == generation => {
            let reason = match present.mode {
                Mode::Enforce => "Enforcing",
                Mode::Warn => "Warning",
                Mode::Observe => "Observing",
            };
            Verdict::InForce { reason, effective: present.effective }
        }
        (Some(Ok(_)), _) => Verdict::Compiling,
    }
}

/// What the status said before.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// Generation it was about.
    pub generation: Option<i64>,
    /// Its conditions.
    pub conditions: &'a [Condition],
    /// Its enforced revision.
    pub enforced_revision: Option<i64>,
}

/// What the status is to say.
#[derive(Debug)]
pub struct Stated {
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Its enforced revision.
    pub enforced_revision: Option<i64>,
    /// When that changes by time.
    pub again: Option<Duration>,
}

/// States what became of a rule of `generation`.
pub fn state(
    verdict: &Verdict,
    standing: Option<&Standing>,
    before: Before<'_>,
    generation: Option<i64>,
    now: Timestamp,
) -> Stated {
    let mut statements = Statements::default();
    let mut again = None;
    let mut enforced_revision = None;
    match verdict {
        Verdict::Waiting(why) => again = waiting(&mut statements, why, before.conditions, now),
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
        Verdict::InForce { reason, effective } => {
            statements.yes(ACCEPTED, "Accepted", "the rule is valid");
            statements.yes(PROGRAMMED, "Programmed", "the rule is in the tenant's snapshot");
            match effective {
                Ok(how) => statements.yes(EFFECTIVE, "Narrows", how),
                Err(plan) => statements.no(EFFECTIVE, Why::new("LooserThanPlan", plan.clone())),
            };
            let same = before.generation == generation;
            enforced_revision = enforced::latched(standing, before.enforced_revision, same);
            enforced::ready(&mut statements, enforced_revision, standing);
            if let Some(standing) = standing {
                again = enforced::state(&mut statements, standing, reason, before.conditions, generation);
            }
        }
    }
    let conditions = statements.conditions(before.conditions, generation, now);
    Stated { conditions, enforced_revision, again }
}
