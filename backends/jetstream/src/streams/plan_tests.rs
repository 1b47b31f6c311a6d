use std::time::Duration;

use event::{Claim, Lane, Observed, Stamp};

use super::*;
use crate::streams::{BucketSpec, LaneSettings, LedgerWindow, Storage};

const HOUR: Duration = Duration::from_secs(3600);

fn stamp() -> Stamp {
    let text = str::to_owned;
    Stamp {
        installation: text("dev"),
        tenant: text("acme"),
        uid: text("u1"),
        lineage: text("u1"),
        released: false,
    }
}

fn spec() -> StreamSpec {
    let settings = LaneSettings {
        replicas: 1,
        max_age: HOUR,
        max_bytes: 1 << 30,
        duplicate_window: Duration::from_secs(120),
    };
    StreamSpec::lane(&Lane::Dedicated("acme".parse().unwrap()), settings, &stamp())
}

/// The stream as `spec` wants it, with messages up to half an hour old.
fn state(spec: &StreamSpec) -> StreamState {
    StreamState {
        name: spec.name.clone(),
        settings: spec.settings.clone(),
        stamp: Some(spec.stamp.clone()),
        metadata: spec.metadata.clone(),
        created_ms: 1,
        messages: 10,
        bytes: 1 << 20,
        first_seq: 1,
        last_seq: 10,
        oldest_age: HOUR / 2,
    }
}

fn with(change: impl FnOnce(&mut StreamState)) -> Observed<StreamState> {
    let mut state = state(&spec());
    change(&mut state);
    Observed::Present(state)
}

#[test]
fn what_is_as_wanted_needs_no_step() {
    for expectation in [Expectation::MayCreate, Expectation::MustExist, Expectation::MayEvict] {
        assert_eq!(plan(&spec(), &with(|_| {}), expectation), Plan::default());
    }
}

#[test]
fn a_missing_stream_is_created_only_if_it_may_be() {
    let created = plan(&spec(), &Observed::Absent, Expectation::MayCreate);
    assert_eq!(created.steps, [StreamStep::Create(spec())]);
    for expectation in [Expectation::MustExist, Expectation::MayEvict] {
        assert_eq!(plan(&spec(), &Observed::Absent, expectation), Plan::blocked(Blocked::Missing));
    }
}

#[test]
fn the_unknown_forces_nothing() {
    let unknown = Observed::Unknown("timeout".to_owned());
    for expectation in [Expectation::MayCreate, Expectation::MustExist, Expectation::MayEvict] {
        assert_eq!(
            plan(&spec(), &unknown, expectation),
            Plan::blocked(Blocked::Unknown("timeout".to_owned()))
        );
    }
}

#[test]
fn stamps_decide_who_may_touch_it() {
    let other = |change: fn(&mut Stamp)| {
        let mut stamp = stamp();
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
        // Also when its settings have drifted: nothing of another's is repaired.
        let have = with(|state| {
            state.stamp = found;
            state.settings.replicas = 3;
        });
        assert_eq!(plan(&spec(), &have, Expectation::MayEvict), Plan::blocked(blocked));
    }
}

#[test]
fn drift_is_named_and_repaired_in_one_step() {
    let have = with(|state| {
        state.settings.subjects.push("other.>".to_owned());
        state.settings.discard = Discard::Old;
        state.settings.deny_delete = false;
        state.settings.plain = false;
    });
    let found = plan(&spec(), &have, Expectation::MustExist);
    let fields = vec!["subjects", "discard", "deny_delete", "plain"];
    assert_eq!(found, Plan { steps: vec![StreamStep::Update { spec: spec(), fields }], blocked: None });
}

#[test]
fn an_inherited_lineage_is_written_without_taking_ownership() {
    let have = with(|state| state.stamp.as_mut().unwrap().lineage = "u0".to_owned());
    let steps = plan(&spec(), &have, Expectation::MustExist).steps;
    assert_eq!(steps, [StreamStep::Update { spec: spec(), fields: vec!["stamp"] }]);
}

#[test]
fn metadata_of_others_is_no_drift() {
    let have = with(|state| drop(state.metadata.insert("team".to_owned(), "blue".to_owned())));
    assert_eq!(plan(&spec(), &have, Expectation::MustExist), Plan::default());
    let mut want = spec();
    want.metadata.insert("team".to_owned(), "red".to_owned());
    let steps = plan(&want, &have, Expectation::MustExist).steps;
    assert_eq!(steps, [StreamStep::Update { spec: want, fields: vec!["metadata"] }]);
}

#[test]
fn what_the_server_cannot_change_blocks_everything() {
    let have = with(|state| {
        state.settings.storage = Storage::Memory;
        state.settings.replicas = 3;
    });
    assert_eq!(
        plan(&spec(), &have, Expectation::MayEvict),
        Plan::blocked(Blocked::Immutable { field: "storage" })
    );
    let mut want = spec();
    want.settings.deny_purge = false;
    let blocked = plan(&want, &with(|_| {}), Expectation::MustExist).blocked;
    assert_eq!(blocked, Some(Blocked::Immutable { field: "deny_purge" }));
}

#[test]
fn a_lower_limit_waits_until_it_drops_nothing() {
    let mut want = spec();
    want.settings.max_age = Some(HOUR / 4);
    want.settings.replicas = 3;
    let held = plan(&want, &with(|_| {}), Expectation::MustExist);
    assert_eq!(held.blocked, Some(Blocked::WouldEvict { field: "max_age" }));
    let [StreamStep::Update { spec: partial, fields }] = held.steps.as_slice() else { panic!("{held:?}") };
    assert_eq!(
        (partial.settings.max_age, partial.settings.replicas),
        (Some(HOUR), 3),
        "the rest is repaired"
    );
    assert_eq!(fields, &["replicas"]);

    let permitted = plan(&want, &with(|_| {}), Expectation::MayEvict);
    assert_eq!(permitted.blocked, None);
    assert_eq!(
        permitted.steps,
        [StreamStep::Update { spec: want.clone(), fields: vec!["replicas", "max_age"] }]
    );
    let young = with(|state| state.oldest_age = HOUR / 5);
    assert_eq!(plan(&want, &young, Expectation::MustExist).blocked, None);
}

#[test]
fn a_smaller_size_evicts_only_where_the_oldest_give_way() {
    let mut want = spec();
    want.settings.max_bytes = Some(1 << 10);
    assert_eq!(plan(&want, &with(|_| {}), Expectation::MustExist).blocked, None);
    want.settings.discard = Discard::Old;
    let blocked = plan(&want, &with(|_| {}), Expectation::MustExist).blocked;
    assert_eq!(blocked, Some(Blocked::WouldEvict { field: "max_bytes" }));
}

#[test]
fn release_and_adoption_are_steps_that_happen_once() {
    let owned = state(&spec());
    let released = Stamp { released: true, ..stamp() };
    let step = StreamStep::Restamp { name: owned.name.clone(), from: Some(stamp()), to: released.clone() };
    assert_eq!(release(&owned), Some(step));
    let retained = StreamState { stamp: Some(released.clone()), ..owned.clone() };
    assert_eq!(release(&retained), None);
    let step = StreamStep::Restamp { name: owned.name.clone(), from: Some(released), to: stamp() };
    assert_eq!(adopt(&retained, &stamp()), Some(step));
    assert_eq!(adopt(&owned, &stamp()), None);
    assert_eq!(
        release(&StreamState { stamp: None, ..owned }),
        None,
        "nobody's stream is not ours to release"
    );
}

#[test]
fn ledgers_outlive_their_longest_period_and_forget_nothing_else() {
    let days = |window| {
        let spec = BucketSpec::ledger(window, 3, 1, "l1").stream(&stamp());
        assert!(spec.settings.deny_purge && spec.settings.deny_delete && !spec.settings.allow_rollup);
        assert_eq!((spec.settings.max_bytes, spec.settings.discard), (None, Discard::New), "never evicts");
        spec.settings.max_age.map(|age| age.as_secs_f64() / 86_400.0)
    };
    assert!(days(LedgerWindow::Hour).unwrap() >= 2.0 + 1.0 / 24.0);
    assert!(days(LedgerWindow::Day).unwrap() >= 3.0);
    assert!(days(LedgerWindow::Month).unwrap() >= 33.0);
    assert_eq!(days(LedgerWindow::Total), None);
    for window in [LedgerWindow::Second, LedgerWindow::Minute] {
        assert_eq!(BucketSpec::ledger(window, 0, 1, "l1").storage, Storage::Memory);
    }
    assert_eq!(BucketSpec::ledger(LedgerWindow::Day, 3, 1, "l1").stream(&stamp()).name, "KV_ledger-day-3");
}

#[test]
fn buckets_keep_the_servers_rules() {
    for spec in [BucketSpec::policy(1), BucketSpec::pods(1), BucketSpec::intents(3), BucketSpec::leases(1)] {
        let settings = spec.stream(&stamp()).settings;
        assert_eq!(settings.max_msgs_per_subject, Some(1));
        assert!(settings.max_age.is_none_or(|age| settings.duplicate_window <= age));
        assert!(!(settings.allow_rollup && settings.deny_purge), "a rollup needs the right to purge");
    }
}
