//! A tenant's limits as its status lists them.

use crds::limit as declared;
use crds::tenant::EffectiveLimit;
use jiff::Timestamp;
use policy::effective::{Effective, PLAN, effective};
use policy::limit::{Mode, Per};
use policy::snapshot::Snapshot;

/// Most limits that a status lists.
const LISTED: usize = 64;

/// The first limits that are in force, and how many more there are.
pub fn listed(snapshot: &Snapshot) -> (Vec<EffectiveLimit>, Option<u32>) {
    let all = effective(snapshot);
    let rest = all.len().saturating_sub(LISTED);
    let listed = all.iter().take(LISTED).map(|limit| entry(limit, snapshot.tenant.as_str())).collect();
    (listed, u32::try_from(rest).ok().filter(|rest| *rest > 0))
}

fn entry(limit: &Effective, tenant: &str) -> EffectiveLimit {
    let source = &limit.source;
    EffectiveLimit {
        name: limit.name.clone(),
        per: match limit.per {
            Per::Tenant => declared::Per::Tenant,
            Per::User => declared::Per::User,
            Per::ApiKey => declared::Per::ApiKey,
        },
        max: limit.max,
        period: format!("{:?}", limit.window),
        mode: match limit.mode {
            Mode::Observe => declared::Mode::Observe,
            Mode::Warn => declared::Mode::Warn,
            Mode::Enforce => declared::Mode::Enforce,
        },
        source: if source.kind == PLAN {
            format!("plan/{}", source.name)
        } else {
            format!("{}/{}/{}", source.kind.to_lowercase(), source.namespace, source.name)
        },
        overridden_by: limit.overridden.as_ref().map(|_| format!("tenant/{tenant}")),
        until: limit
            .overridden
            .as_ref()
            .and_then(|over| over.until_ms)
            .and_then(|until| Timestamp::from_millisecond(until).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::assemble::tests::snapshot_of;
    use policy::limit::Overridden;

    #[test]
    fn a_status_lists_a_bounded_number_of_limits_and_counts_the_rest() {
        let names: Vec<String> = (0..70).map(|n| format!("plan.l{n}")).collect();
        let limits: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let (shown, more) = listed(&snapshot_of(&limits));
        assert_eq!((shown.len(), more), (64, Some(6)));
        assert_eq!(listed(&snapshot_of(&limits[..64])).1, None);
    }

    #[test]
    fn a_listed_limit_says_who_declared_and_who_replaced_it() {
        let mut snapshot = snapshot_of(&[("plan.events", 8), ("ns.acme.exports", 3)]);
        snapshot.limits[0].origin.name = "pro".into();
        snapshot.limits[0].overridden = Some(Overridden { declared: 5, until_ms: Some(1_000) });
        snapshot.limits[1].origin.namespace = "acme".into();
        snapshot.limits[1].origin.name = "exports".into();
        let (shown, _) = listed(&snapshot);
        let of = |at: usize| (shown[at].max, shown[at].source.as_str(), shown[at].overridden_by.as_deref());
        assert_eq!(of(0), (8, "plan/pro", Some("tenant/acme")));
        assert_eq!(shown[0].until, Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1)));
        assert_eq!(of(1), (3, "usagelimit/acme/exports", None));
    }
}
