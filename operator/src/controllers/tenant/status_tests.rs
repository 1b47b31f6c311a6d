use super::super::slices::{Placement, SINKS_OUTDATED};
use super::super::validate::tests::{acme, pro, settings};
use super::super::validate::validate;
use super::*;
use crate::belonging::Claims;
use crate::errors::System;
use crate::fleet::Reach;
use crate::snapshot::assemble::Place;
use crate::snapshot::publish::Published;
use crds::condition::{RECONCILING, STALLED};
use event::Lane;

fn round() -> Round {
    Round {
        accepted: validate(&acme(|_| {}), Some(&pro(|_| {})), &settings()),
        slice: Ok(Placement {
            place: Place {
                lineage: "l".into(),
                lane: Lane::Dedicated("acme".parse().unwrap()),
                retention_days: 90,
            },
            database: "tenant_acme".into(),
            key: "mp-acme".into(),
        }),
        published: Ok(Published { revision: 7, next_change_ms: None }),
        claims: Claims { held: vec!["acme".into()], ..Claims::default() },
        missing_namespaces: vec![],
    }
}

fn unavailable_vault() -> Hindrance {
    Hindrance::Failed(Failure::Unavailable { system: System::Vault, detail: "connection refused".into() })
}

fn computed(
    tenant: &Tenant,
    round: &Round,
    standing: Option<&Standing>,
    snapshot: Option<&Snapshot>,
    counted: &Counted,
    now: Timestamp,
) -> (TenantStatus, Option<Duration>) {
    let durable = (ConditionStatus::True, Why::new("SingleCopy", "on one disk"));
    compute(
        tenant,
        round,
        snapshot,
        &Facts { standing, counted, durable: &durable, moved: &Moved::Never, queried: None },
        now,
    )
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn said(status: &TenantStatus) -> Vec<(String, ConditionStatus, String)> {
    status.conditions.iter().map(|c| (c.kind.clone(), c.status, c.reason.clone())).collect()
}

fn text(kind: &str, status: ConditionStatus, reason: &str) -> (String, ConditionStatus, String) {
    (kind.to_owned(), status, reason.to_owned())
}

#[test]
fn a_tenant_in_place_is_ready_and_says_where_it_lives() {
    let standing = Standing { revision: 7, reach: Reach::All, published: Instant::now() };
    let (status, again) =
        computed(&acme(|_| {}), &round(), Some(&standing), None, &Counted::AddsUp { dead: 0 }, at(1));
    assert_eq!(
        said(&status),
        [
            text(READY, ConditionStatus::True, "Ready"),
            text(ACCEPTED, ConditionStatus::True, "Accepted"),
            text(PROGRAMMED, ConditionStatus::True, "Programmed"),
            text(COUNTS_RECONCILED, ConditionStatus::True, "Reconciled"),
            text(DRIFTED, ConditionStatus::False, "AsWritten"),
            text(DURABLE, ConditionStatus::True, "SingleCopy"),
            text(ENFORCED, ConditionStatus::True, "Enforcing"),
            text(NAMESPACES_CLAIMED, ConditionStatus::True, "Claimed"),
        ]
    );
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    assert_eq!((status.stream.as_deref(), again), (Some("USAGE_acme"), None));
}

#[test]
fn the_second_round_says_the_same() {
    let (first, _) = computed(&acme(|_| {}), &round(), None, None, &Counted::AddsUp { dead: 0 }, at(1));
    let second = acme(|tenant| tenant.status = Some(first.clone()));
    assert_eq!(computed(&second, &round(), None, None, &Counted::AddsUp { dead: 0 }, at(99)).0, first);
}

#[test]
fn a_failing_system_takes_nothing_back_that_was_true() {
    let (first, _) = computed(&acme(|_| {}), &round(), None, None, &Counted::AddsUp { dead: 0 }, at(1));
    let failing = Round { slice: Err(unavailable_vault()), ..round() };
    let ready = acme(|tenant| tenant.status = Some(first.clone()));
    let (status, _) = computed(&ready, &failing, None, None, &Counted::AddsUp { dead: 0 }, at(2));
    assert_eq!(find(&status.conditions, READY).unwrap().status, ConditionStatus::True);
    assert_eq!(find(&status.conditions, PROGRAMMED).unwrap().status, ConditionStatus::True);
    assert_eq!(find(&status.conditions, RECONCILING).unwrap().reason, "VaultUnavailable");
    assert_eq!(status.stream.as_deref(), Some("USAGE_acme"));
    let edited = acme(|tenant| {
        tenant.status = Some(first.clone());
        tenant.metadata.generation = Some(2);
    });
    let (status, _) = computed(&edited, &failing, None, None, &Counted::AddsUp { dead: 0 }, at(2));
    assert_eq!(
        find(&status.conditions, READY).unwrap().status,
        ConditionStatus::False,
        "not for the new spec"
    );
    assert_eq!(find(&status.conditions, PROGRAMMED).unwrap().status, ConditionStatus::False);
}

#[test]
fn what_nobody_decided_is_not_accepted_and_stalls() {
    let why = Why::new("RetainedDataExists", "kubectl patch …");
    let refused = Round {
        slice: Err(Hindrance::Refused(why.clone())),
        published: Err(Hindrance::Refused(why)),
        ..round()
    };
    let (status, _) = computed(&acme(|_| {}), &refused, None, None, &Counted::AddsUp { dead: 0 }, at(1));
    for kind in [READY, ACCEPTED] {
        let condition = find(&status.conditions, kind).unwrap();
        assert_eq!(
            (condition.status, condition.reason.as_str()),
            (ConditionStatus::False, "RetainedDataExists")
        );
    }
    assert_eq!(find(&status.conditions, STALLED).unwrap().status, ConditionStatus::True);
}

#[test]
fn a_lost_conflict_names_no_other_tenant() {
    let claims = Claims { conflicted: vec!["shared".into()], ..Claims::default() };
    let (status, _) = computed(
        &acme(|_| {}),
        &Round { claims, ..round() },
        None,
        None,
        &Counted::AddsUp { dead: 0 },
        at(1),
    );
    let condition = find(&status.conditions, NAMESPACES_CLAIMED).unwrap();
    assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::False, "Conflicted"));
    assert_eq!(condition.message, "shared: held by another tenant");
    assert_eq!(
        find(&status.conditions, READY).unwrap().status,
        ConditionStatus::True,
        "it never pulls Ready"
    );
}

#[test]
fn counts_that_differ_are_told_and_leave_ready_alone() {
    let of = |counted: Counted| computed(&acme(|_| {}), &round(), None, None, &counted, at(1)).0;
    let differ = of(Counted::Differs("lane acme, messages 1 to 9".into()));
    assert!(said(&differ).contains(&text(COUNTS_RECONCILED, ConditionStatus::False, "CountsDiffer")));
    assert!(said(&differ).contains(&text(READY, ConditionStatus::True, "Ready")));
    let not_yet = of(Counted::NotYet);
    assert!(said(&not_yet).contains(&text(COUNTS_RECONCILED, ConditionStatus::Unknown, "NotCounted")));
}

#[test]
fn a_move_that_sinks_of_an_older_version_hold_back_says_so() {
    for reason in [SINKS_OUTDATED, MOVING] {
        let slice = Err(Hindrance::Waiting(Why::new(reason, "from acme to pool-3: …")));
        let status =
            computed(&acme(|_| {}), &Round { slice, ..round() }, None, None, &Counted::NotYet, at(1)).0;
        assert!(said(&status).contains(&text(LANE_READY, ConditionStatus::False, reason)));
    }
}

#[test]
fn a_query_user_is_spoken_of_only_where_it_is_asked_for_and_never_pulls_ready() {
    let asks = |tenant: &mut Tenant| {
        tenant.spec.query_user = Some(crds::tenant::QueryUser { namespace: "acme".into() });
    };
    let of = |tenant: &Tenant, queried: Option<&Result<(), Hindrance>>| {
        let durable = (ConditionStatus::True, Why::new("SingleCopy", "on one disk"));
        let counted = Counted::AddsUp { dead: 0 };
        let facts =
            Facts { standing: None, counted: &counted, durable: &durable, moved: &Moved::Never, queried };
        compute(tenant, &round(), None, &facts, at(1)).0
    };
    assert!(find(&of(&acme(|_| {}), None).conditions, QUERY_USER_READY).is_none());
    let unknown = of(&acme(asks), None);
    assert!(said(&unknown).contains(&text(QUERY_USER_READY, ConditionStatus::Unknown, "Pending")));
    let no = Err(Hindrance::Stalled(Why::new("NoUserStorage", "…")));
    let refused = of(&acme(asks), Some(&no));
    assert!(said(&refused).contains(&text(QUERY_USER_READY, ConditionStatus::False, "NoUserStorage")));
    assert!(said(&refused).contains(&text(READY, ConditionStatus::True, "QueryUserNotReady")));
    let ready = of(&acme(asks), Some(&Ok(())));
    assert!(said(&ready).contains(&text(QUERY_USER_READY, ConditionStatus::True, "Ready")));
    // A failing ClickHouse takes nothing back that was true.
    let known = acme(|tenant| {
        asks(tenant);
        tenant.status = Some(ready.clone());
    });
    let failed = Err(unavailable_vault());
    assert!(said(&of(&known, Some(&failed))).contains(&text(
        QUERY_USER_READY,
        ConditionStatus::True,
        "Ready"
    )));
}
