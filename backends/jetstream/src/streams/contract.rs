//! What every implementation of [`Streams`] must do. It is run on the fake in unit tests and on a real server in system
//! tests; it uses streams of its own and removes them. A failure panics with what was expected.

use std::time::Duration;

use event::{Claim, Lane, Observed, Stamp, TenantName};

use super::{
    Blocked, BucketSpec, Discard, Expectation, LaneSettings, LedgerWindow, Plan, StreamError, StreamSpec,
    StreamState, StreamStep, Streams, ViolationsSettings, adopt, plan, release,
};

const INSTALLATION: &str = "contract";
const TENANT: &str = "contract-streams";

/// Runs all of it.
pub async fn run(streams: &impl Streams) {
    let wanted = [
        StreamSpec::lane(&lane(), settings(), &stamp("u1")),
        StreamSpec::violations(violations(), &stamp("u1")),
        BucketSpec::policy(1).stream(&stamp("u1")),
        BucketSpec::pods(1).stream(&stamp("u1")),
        BucketSpec::ledger(LedgerWindow::Second, 0, 1, "l1").stream(&stamp("u1")),
        BucketSpec::ledger(LedgerWindow::Month, 0, 1, "l1").stream(&stamp("u1")),
    ]
    .map(apart);
    for spec in &wanted {
        remove(streams, &spec.name).await;
    }
    for spec in &wanted {
        every_kind_converges(streams, spec).await;
    }
    let [spec, _, bucket, ..] = &wanted;
    drift_is_repaired(streams, spec).await;
    names_are_listed_by_prefix(streams, spec, bucket).await;
    steps_refuse_what_is_not_ours(streams, spec).await;
    data_is_released_and_adopted(streams, spec).await;
    for spec in &wanted {
        remove(streams, &spec.name).await;
        assert_eq!(streams.observe(&spec.name).await, Observed::Absent, "{} is gone", spec.name);
    }
}

fn lane() -> Lane {
    // The name is a constant that is one.
    TENANT.parse::<TenantName>().map_or(Lane::Pooled(u16::MAX), Lane::Dedicated)
}

fn settings() -> LaneSettings {
    LaneSettings {
        replicas: 1,
        max_age: Duration::from_secs(3600),
        max_bytes: 1,
        duplicate_window: Duration::from_secs(60),
    }
}

fn violations() -> ViolationsSettings {
    ViolationsSettings { replicas: 1, max_age: Duration::from_secs(3600), max_bytes: 1 << 20 }
}

fn stamp(uid: &str) -> Stamp {
    let text = str::to_owned;
    Stamp {
        installation: text(INSTALLATION),
        tenant: text(TENANT),
        uid: text(uid),
        lineage: text("u0"),
        released: false,
    }
}

/// The same under names and subjects that no installation uses, so that the suite can run beside one.
fn apart(mut spec: StreamSpec) -> StreamSpec {
    if !spec.name.contains(TENANT) {
        spec.name = format!("{}_{TENANT}", spec.name);
        spec.settings.subjects = vec![format!("{TENANT}.{}.>", spec.name)];
    }
    spec
}

async fn remove(streams: &impl Streams, name: &str) {
    if let Some(stamp) = streams.observe(name).await.present().and_then(|state| state.stamp.clone()) {
        assert_eq!(streams.delete(name, &stamp).await, Ok(()), "{name} is deleted");
    }
}

async fn observed(streams: &impl Streams, name: &str) -> StreamState {
    let observed = streams.observe(name).await;
    assert!(observed.present().is_some(), "{name} is there: {observed:?}");
    observed.present().cloned().unwrap_or_else(|| unreachable!("asserted above"))
}

async fn execute(streams: &impl Streams, plan: &Plan) {
    assert_eq!(plan.blocked, None);
    for step in &plan.steps {
        assert_eq!(streams.execute(step).await, Ok(()), "{step:?}");
        assert_eq!(streams.execute(step).await, Ok(()), "again: {step:?}");
    }
}

async fn every_kind_converges(streams: &impl Streams, spec: &StreamSpec) {
    assert_eq!(streams.observe(&spec.name).await, Observed::Absent);
    assert_eq!(streams.last_sequence(&spec.name).await, Err(StreamError::NotFound));
    let gone = plan(spec, &streams.observe(&spec.name).await, Expectation::MustExist);
    assert_eq!(gone, Plan { steps: Vec::new(), blocked: Some(Blocked::Missing) });

    execute(streams, &plan(spec, &Observed::Absent, Expectation::MayCreate)).await;
    let state = observed(streams, &spec.name).await;
    assert_eq!(state.settings, spec.settings, "{}", spec.name);
    assert_eq!(state.metadata, spec.metadata, "{}", spec.name);
    assert_eq!(state.stamp.as_ref(), Some(&spec.stamp));
    assert_eq!((state.messages, state.last_seq, state.oldest_age), (0, 0, Duration::ZERO));
    for expectation in [Expectation::MayCreate, Expectation::MustExist, Expectation::MayEvict] {
        assert_eq!(plan(spec, &Observed::Present(state.clone()), expectation), Plan::default());
    }
    assert_eq!(streams.last_sequence(&spec.name).await, Ok(0));
}

async fn drift_is_repaired(streams: &impl Streams, spec: &StreamSpec) {
    let before = observed(streams, &spec.name).await;
    let mut other = spec.clone();
    other.settings.max_age = Some(Duration::from_secs(1800));
    other.settings.max_bytes = Some(128 << 20);
    other.settings.discard = Discard::Old;
    other.metadata.insert("note".to_owned(), "kept".to_owned());
    execute(streams, &plan(&other, &streams.observe(&spec.name).await, Expectation::MustExist)).await;
    assert_eq!(observed(streams, &spec.name).await.settings, other.settings);

    let repair = plan(spec, &streams.observe(&spec.name).await, Expectation::MustExist);
    execute(streams, &repair).await;
    let after = observed(streams, &spec.name).await;
    assert_eq!(after.settings, before.settings);
    assert_eq!(after.metadata.get("note").map(String::as_str), Some("kept"), "metadata of others stays");
    assert_eq!(after.created_ms, before.created_ms, "it is the same stream");
    assert_eq!(plan(spec, &Observed::Present(after), Expectation::MustExist), Plan::default());
}

async fn names_are_listed_by_prefix(streams: &impl Streams, lane: &StreamSpec, bucket: &StreamSpec) {
    let lanes = streams.list_names(event::names::LANE_STREAM_PREFIX).await.unwrap_or_default();
    assert!(lanes.contains(&lane.name) && !lanes.contains(&bucket.name), "{lanes:?}");
    assert!(lanes.is_sorted());
    assert_eq!(streams.list_names("no such prefix").await, Ok(Vec::new()));
}

async fn steps_refuse_what_is_not_ours(streams: &impl Streams, spec: &StreamSpec) {
    let ours = observed(streams, &spec.name).await;
    let foreign = Stamp { installation: "another".to_owned(), ..spec.stamp.clone() };
    let theirs = StreamSpec { stamp: foreign.clone(), ..spec.clone() };
    let blocked = plan(&theirs, &Observed::Present(ours.clone()), Expectation::MayCreate).blocked;
    assert_eq!(blocked, Some(Blocked::Claimed(Claim::Foreign { found: Some(spec.stamp.clone()) })));

    let mismatch = || Err(StreamError::StampMismatch { found: Some(spec.stamp.clone()) });
    let create = StreamStep::Create(theirs.clone());
    assert!(
        matches!(streams.execute(&create).await, Err(StreamError::Refused { .. })),
        "nothing is overwritten"
    );
    let update = StreamStep::Update { spec: theirs, fields: Vec::new() };
    assert_eq!(streams.execute(&update).await, mismatch());
    let take = StreamStep::Restamp { name: spec.name.clone(), from: None, to: foreign.clone() };
    assert_eq!(streams.execute(&take).await, mismatch());
    assert_eq!(streams.delete(&spec.name, &foreign).await, mismatch());
    let after = observed(streams, &spec.name).await;
    assert_eq!((after.settings, after.stamp), (ours.settings, ours.stamp), "nothing has changed");
    assert_eq!(streams.delete("USAGE_no-such-lane", &foreign).await, Ok(()));
}

async fn data_is_released_and_adopted(streams: &impl Streams, spec: &StreamSpec) {
    let Some(step) = release(&observed(streams, &spec.name).await) else {
        unreachable!("an owned stream can be released");
    };
    execute(streams, &Plan { steps: vec![step], blocked: None }).await;
    let released = observed(streams, &spec.name).await;
    assert_eq!(release(&released), None, "once");

    let heir = StreamSpec { stamp: stamp("u2"), ..spec.clone() };
    let found = Stamp { released: true, ..spec.stamp.clone() };
    for claimant in [spec, &heir] {
        let blocked = plan(claimant, &Observed::Present(released.clone()), Expectation::MayCreate).blocked;
        assert_eq!(blocked, Some(Blocked::Claimed(Claim::RetainedData { found: found.clone() })));
    }
    let steps = adopt(&released, &heir.stamp).into_iter().collect();
    execute(streams, &Plan { steps, blocked: None }).await;
    let adopted = observed(streams, &spec.name).await;
    assert_eq!(adopted.stamp, Some(heir.stamp.clone()));
    assert_eq!(adopt(&adopted, &heir.stamp), None, "once");
    assert_eq!(plan(&heir, &Observed::Present(adopted), Expectation::MustExist), Plan::default());
}
