//! What is said about a Plan.

use crds::condition::{ACCEPTED, PROGRAMMED, READY};
use crds::{Plan, PlanStatus};
use jiff::Timestamp;
use kube::Api;

use super::dereference::Use;
use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::orders::Orders;
use crate::controllers::write;
use crate::errors::Failure;

/// Writes the status if it differs.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(ctx: &Context, plan: &Plan, verdict: &Result<(), Why>, used: &Use) -> Result<(), Failure> {
    let status = compute(plan, verdict, used, clock::now());
    let api: Api<Plan> = Api::all(ctx.kube.clone());
    write::status(&api, &ctx.caches.plans, plan, plan.status.as_ref(), &status).await
}

fn compute(plan: &Plan, verdict: &Result<(), Why>, used: &Use, now: Timestamp) -> PlanStatus {
    let mut statements = Statements::default();
    let deleted = plan.metadata.deletion_timestamp.is_some();
    match verdict {
        Err(why) => {
            statements.refused(why);
        }
        Ok(()) => {
            statements.yes(ACCEPTED, "Accepted", "every limit is valid");
            if used.current == used.placed {
                statements.yes(
                    PROGRAMMED,
                    "Programmed",
                    "every tenant's snapshot is compiled from this generation",
                );
                statements.yes(READY, "Ready", "the plan is in use as written");
            } else {
                let message = format!(
                    "{} of {} snapshots are compiled from this generation",
                    used.current, used.placed
                );
                let why = Why::new("Compiling", message);
                statements.no(PROGRAMMED, why.clone()).reconciling(&why);
            }
        }
    }
    if deleted {
        let message = format!("{} tenants are on this plan; it goes when none is", used.tenants);
        statements.reconciling(&Why::new("InUse", message));
    }
    let old = plan.status.as_ref().map_or(&[][..], |status| &status.conditions);
    PlanStatus {
        observed_generation: plan.metadata.generation,
        last_handled_reconcile_at: Orders::of(plan).at,
        conditions: statements.conditions(old, plan.metadata.generation, now),
        limits: u32::try_from(plan.spec.limits.len()).ok(),
        tenants: Some(used.tenants),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::{ConditionStatus, RECONCILING, find};

    fn plan() -> Plan {
        let spec = serde_json::from_value(serde_json::json!({"limits": []})).unwrap();
        Plan::new("pro", spec)
    }

    #[test]
    fn a_plan_is_ready_when_every_snapshot_follows_it() {
        let status = |current| {
            compute(&plan(), &Ok(()), &Use { tenants: 3, placed: 2, current }, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(find(&status(2).conditions, READY).unwrap().status, ConditionStatus::True);
        assert_eq!(find(&status(1).conditions, READY).unwrap().reason, "Compiling");
        assert_eq!(status(2).tenants, Some(3));
    }

    #[test]
    fn a_deleted_plan_says_who_keeps_it() {
        let mut plan = plan();
        plan.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let used = Use { tenants: 3, placed: 3, current: 3 };
        let status = compute(&plan, &Ok(()), &used, Timestamp::UNIX_EPOCH);
        let condition = find(&status.conditions, RECONCILING).unwrap();
        assert_eq!(condition.reason, "InUse");
        assert!(condition.message.starts_with("3 tenants"));
    }
}
