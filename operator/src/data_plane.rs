//! DataPlane/default: what is known of the ingest pods, written at most once in five seconds and only when it changed.

use std::time::Duration;

use crds::condition::{ENFORCED, READY};
use crds::{DataPlane, DataPlaneSpec, DataPlaneStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::write::MANAGER;
use crate::errors::Failure;
use crate::fleet::Counts;

/// The one object.
const NAME: &str = "default";
/// Time between two writes, at least.
const EVERY: Duration = Duration::from_secs(5);

/// Writes for ever.
pub async fn run(ctx: &Context) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let newest = ctx.publications.newest().unwrap_or_default();
        let counts = ctx.fleet.counts(newest, Instant::now());
        if let Err(error) = write(ctx, counts, newest).await {
            tracing::warn!(%error, "DataPlane/default was not written; trying again");
        }
    }
}

async fn write(ctx: &Context, counts: Counts, newest: u64) -> Result<(), Failure> {
    let api: Api<DataPlane> = Api::all(ctx.kube.clone());
    let present = present(&api).await?;
    let (version, present) = (present.resource_version(), present.status.unwrap_or_default());
    let status = compute(&present.conditions, counts, newest, clock::now());
    if status != present {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = json!({"metadata": {"resourceVersion": version}, "status": &status});
        api.patch_status(NAME, &params, &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

/// What stands there; the object is created when there is none.
async fn present(api: &Api<DataPlane>) -> Result<DataPlane, Failure> {
    if let Some(object) = api.get_opt(NAME).await? {
        return Ok(object);
    }
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    Ok(api.create(&params, &DataPlane::new(NAME, DataPlaneSpec {})).await?)
}

fn compute(previous: &[crds::Condition], counts: Counts, newest: u64, now: Timestamp) -> DataPlaneStatus {
    let pods = counts.current + counts.lagging + counts.fenced;
    let mut statements = Statements::default();
    if counts.current + counts.lagging == 0 {
        let why = Why::new("NoPods", "no ingest pod is there to decide");
        statements.no(READY, why.clone());
        statements.set(ENFORCED, crds::ConditionStatus::Unknown, why);
    } else {
        statements.yes(READY, "Serving", "ingest pods are there to decide");
        if counts.current == pods {
            statements.yes(ENFORCED, "Enforcing", "every ingest pod decides by the newest policy");
        } else {
            statements
                .no(ENFORCED, Why::new("Applying", "not every ingest pod decides by the newest policy"));
        }
    }
    DataPlaneStatus {
        conditions: statements.conditions(previous, None, now),
        pods: Some(pods),
        current: Some(counts.current),
        lagging: Some(counts.lagging),
        fenced: Some(counts.fenced),
        revision: i64::try_from(newest).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::find;

    #[test]
    fn the_data_plane_tells_how_far_policy_has_come() {
        let reason = |current, lagging, fenced, kind| {
            let status = compute(&[], Counts { current, lagging, fenced }, 7, Timestamp::UNIX_EPOCH);
            assert_eq!(status.pods, Some(current + lagging + fenced));
            find(&status.conditions, kind).unwrap().reason.clone()
        };
        assert_eq!(
            (reason(2, 0, 0, READY), reason(2, 0, 0, ENFORCED)),
            ("Serving".into(), "Enforcing".into())
        );
        assert_eq!(
            (reason(1, 1, 0, READY), reason(1, 1, 0, ENFORCED)),
            ("Serving".into(), "Applying".into())
        );
        assert_eq!((reason(0, 0, 2, READY), reason(0, 0, 2, ENFORCED)), ("NoPods".into(), "NoPods".into()));
    }

    #[test]
    fn an_unchanged_data_plane_is_not_written_again() {
        let counts = Counts { current: 2, ..Counts::default() };
        let first = compute(&[], counts, 7, Timestamp::UNIX_EPOCH);
        let later = compute(&first.conditions, counts, 7, Timestamp::from_second(60).unwrap());
        assert_eq!(first, later);
    }
}
