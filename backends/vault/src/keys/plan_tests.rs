use event::{Claim, Observed, Stamp};

use super::*;
use crate::keys::{TransitKey, policy};

fn spec() -> KeySpec {
    let text = str::to_owned;
    let stamp = Stamp {
        installation: text("dev"),
        tenant: text("acme"),
        uid: text("u1"),
        lineage: text("u1"),
        released: false,
    };
    KeySpec { tenant: "acme".parse().unwrap(), stamp }
}

fn with(change: impl FnOnce(&mut KeyState)) -> Observed<KeyState> {
    let spec = spec();
    let mut state = KeyState {
        key: Some(TransitKey {
            kind: KIND.to_owned(),
            versions: vec![1, 2],
            exportable: false,
            deletion_allowed: false,
        }),
        policy: Some(policy::render(&spec.tenant, &spec.stamp)),
        stamp: Some(spec.stamp),
        tenant: spec.tenant,
    };
    change(&mut state);
    Observed::Present(state)
}

fn write() -> KeyStep {
    KeyStep::WritePolicy { tenant: spec().tenant, from: Some(spec().stamp), to: spec().stamp }
}

fn create() -> KeyStep {
    KeyStep::CreateKey { tenant: spec().tenant, stamp: spec().stamp }
}

#[test]
fn what_is_as_wanted_needs_no_step() {
    assert_eq!(plan(&spec(), &with(|_| {}), Expectation::MustExist), Plan::default());
}

#[test]
fn a_new_key_gets_its_stamp_first() {
    let steps = plan(&spec(), &Observed::Absent, Expectation::MayCreate).steps;
    let stamped = KeyStep::WritePolicy { tenant: spec().tenant, from: None, to: spec().stamp };
    assert_eq!(steps, [stamped, create()]);
    let half = with(|state| state.key = None);
    assert_eq!(plan(&spec(), &half, Expectation::MayCreate).steps, [create()]);
}

#[test]
fn a_lost_key_is_never_replaced_where_data_need_it() {
    for have in [Observed::Absent, with(|state| state.key = None)] {
        assert_eq!(plan(&spec(), &have, Expectation::MustExist), Plan::blocked(Blocked::Missing));
    }
}

#[test]
fn the_unknown_forces_nothing() {
    let unknown = Observed::Unknown("sealed".to_owned());
    let blocked = Plan::blocked(Blocked::Unknown("sealed".to_owned()));
    assert_eq!(plan(&spec(), &unknown, Expectation::MayCreate), blocked);
}

#[test]
fn stamps_decide_who_may_touch_it() {
    let other = |change: fn(&mut Stamp)| {
        let mut stamp = spec().stamp;
        change(&mut stamp);
        stamp
    };
    let foreign = other(|s| s.installation = "prod".to_owned());
    let orphaned = other(|s| s.uid = "u0".to_owned());
    let released = other(|s| s.released = true);
    for (found, blocked) in [
        (None, Blocked::Claimed(Claim::Foreign { found: None })),
        (Some(foreign.clone()), Blocked::Claimed(Claim::Foreign { found: Some(foreign) })),
        (Some(orphaned.clone()), Blocked::Claimed(Claim::Orphaned { found: orphaned })),
        (Some(released.clone()), Blocked::Claimed(Claim::RetainedData { found: released })),
    ] {
        let have = with(|state| state.stamp = found);
        assert_eq!(plan(&spec(), &have, Expectation::MayCreate), Plan::blocked(blocked));
    }
}

#[test]
fn a_policy_that_drifted_is_rewritten() {
    let widened = with(|state| state.policy.as_mut().unwrap().push_str("path \"*\" {}\n"));
    assert_eq!(plan(&spec(), &widened, Expectation::MustExist).steps, [write()]);
}

#[test]
fn a_key_that_could_leave_or_vanish_is_noticed() {
    let key = |change: fn(&mut TransitKey)| with(|state| change(state.key.as_mut().unwrap()));
    for (have, field) in [
        (key(|key| key.kind = "ed25519".to_owned()), "type"),
        (key(|key| key.exportable = true), "exportable"),
    ] {
        let blocked = plan(&spec(), &have, Expectation::MustExist).blocked;
        assert_eq!(blocked, Some(Blocked::Immutable { field }));
    }
    let deletable = key(|key| key.deletion_allowed = true);
    let forbid = KeyStep::ForbidDeletion { tenant: spec().tenant, stamp: spec().stamp };
    assert_eq!(plan(&spec(), &deletable, Expectation::MustExist).steps, [forbid]);
}

#[test]
fn the_stamp_survives_the_policy_and_grants_are_minimal() {
    let text = policy::render(&spec().tenant, &spec().stamp);
    assert_eq!(policy::stamp(&text), Some(spec().stamp));
    assert!(
        text.lines().skip(1).all(|line| line.contains("/mp-acme") && line.ends_with("[\"update\"] }")),
        "{text}"
    );
    assert!(!text.contains("create"), "an encryption must not bring a shredded key back");
    for unstamped in ["", "path \"x\" {}", "# meterplane: {", "# meterplane: {}"] {
        assert_eq!(policy::stamp(unstamped), None, "{unstamped}");
    }
}
