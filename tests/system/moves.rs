//! A tenant that moves between lanes: its events are one set, wherever they are.

use std::time::Duration;

use event::lease::{Entry, key};
use event::names::{INTENTS_BUCKET, LEASES_BUCKET};
use event::position::is_seated;
use event::{Incarnation, Observed};
use jetstream::{Bucket, Settings, StreamSpec, StreamStep, Streams};
use system_tests::{World, event, eventually, within};

use crate::identity::connect;
use crate::pools::{pool, says};

pub const TESTS: &[crate::Test] =
    &[("a_tenant_moves_to_a_lane_of_its_own_and_back_and_repeats_are_recognised", there_and_back)];

const LIMIT: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: all, namespace: NAME}
spec: {per: Tenant, quota: {max: 60, period: Total}}
";

fn wish(world: &World, name: &str, isolation: &str) {
    let patch = format!(r#"{{"spec":{{"isolation":"{isolation}"}}}}"#);
    world.kubectl(&["patch", "tenant", name, "--type=merge", "--patch", &patch]);
}

fn move_to(world: &World, name: &str, isolation: &str, stream: &str) {
    wish(world, name, isolation);
    within(Duration::from_secs(60), &format!("{name} is in {stream}"), || {
        let path = "--output=jsonpath={.status.stream} {.status.conditions[?(@.type==\"LaneReady\")]}";
        let said = world.try_kubectl(&["get", "tenant", name, path])?;
        let arrived = said.starts_with(&format!("{stream} ")) && said.contains(r#""reason":"Settled""#);
        arrived.then_some(()).ok_or(said)
    });
}

fn rows(world: &World, table: &str) -> String {
    world.clickhouse(&format!("SELECT count() FROM {table}")).concat()
}

/// While a sink beats that does not say that it knows seats, the tenant stays where it is, and is told why.
fn held_back_by_an_old_sink(world: &World, name: &str, isolation: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(connect(world, "tool"));
    let leases = runtime.block_on(Bucket::open(&client, LEASES_BUCKET)).unwrap();
    let old = |ended| format!(r#"{{"renewal":1,"ended":{ended},"pod":"sink-of-last-year"}}"#);
    assert!(!Entry::decode(old(false).as_bytes()).unwrap().knows_seats());
    // One beat counts for ten seconds.
    let sink = key(Incarnation(4_711));
    let revision = runtime.block_on(leases.create(&sink, old(false).into())).unwrap();
    wish(world, name, isolation);
    within(Duration::from_secs(9), "the move waits for the old sink", || {
        let path = "--output=jsonpath={.status.conditions[?(@.type==\"LaneReady\")]}";
        let said = world.try_kubectl(&["get", "tenant", name, path])?;
        let told = said.contains(r#""reason":"SinksOutdated""#) && said.contains("sink-of-last-year");
        told.then_some(()).ok_or(said)
    });
    runtime.block_on(leases.update(&sink, old(true).into(), revision)).unwrap();
}

/// Whether sinks that know no seats are kept away from a lane.
fn is_closed(world: &World, lane: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect(world, "tool").await;
        let intents = Bucket::open(&client, INTENTS_BUCKET).await.unwrap();
        is_seated(&intents.get(lane).await.unwrap().unwrap().value).unwrap()
    })
}

fn there_and_back(world: &World) {
    world.apply(&pool("moving", 40, 1, ""));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/moving"]);
    let (mover, other) = (world.tenant_on("moving", "mover", LIMIT), world.tenant_on("moving", "rester", ""));
    mover.post_many(world, "a", 20);
    other.post_many(world, "a", 3);
    mover.shows(world, 20);

    assert!(!is_closed(world, "POOL_40"), "nobody has moved");
    held_back_by_an_old_sink(world, "mover", "Dedicated");
    move_to(world, "mover", "Dedicated", "USAGE_mover");
    assert!(is_closed(world, "POOL_40") && is_closed(world, "mover"));
    mover.shows(world, 20);
    // The same events again, and new ones.
    mover.post_many(world, "a", 10);
    mover.post_many(world, "b", 8);
    mover.shows(world, 28);
    let counts = ["pool_40.events_raw", "tenant_mover.events_raw", "tenant_mover.removed"];
    eventually("repeats are removed where they came", || {
        let found = counts.map(|table| rows(world, table));
        (found == ["23", "8", "10"]).then_some(()).ok_or(format!("{found:?}"))
    });

    move_to(world, "mover", "Pooled", "USAGE_POOL_40");
    mover.post_many(world, "b", 8);
    mover.post_many(world, "c", 4);
    mover.shows(world, 32);
    other.post_many(world, "b", 2);
    other.shows(world, 5);
    assert_eq!(rows(world, "tenant_mover.events_raw"), "8", "rows stay where they are");
    says(world, "tenant", "mover", "CountsReconciled", "Reconciled");
    // 60 units: 32 events are stored, and what 18 repeats took in two lanes comes back.
    let mut more = 0;
    within(Duration::from_secs(90), "what repeats took in both lanes comes back", || {
        let answer = mover.post(world, more, &event(&format!("d-{more}"), "login", "ann"));
        more += usize::from(answer.status == 202);
        (more == 28).then_some(()).ok_or(format!("{more}: {}", answer.body))
    });
    assert_eq!(mover.post(world, 0, &event("e", "login", "ann")).status, 429);
    mover.shows(world, 60);

    left_behind(world);

    // Destroyed for good: its rows in both lanes, and nobody else's.
    let patch = r#"{"spec":{"deletionPolicy":"Delete","deletionGrace":"1s"}}"#;
    world.kubectl(&["patch", "tenant", "mover", "--type=merge", "--patch", patch]);
    world.kubectl(&["annotate", "tenant", "mover", "meterplane.io/confirm-deletion=mover"]);
    world.kubectl(&["delete", "tenant", "mover", "--wait=false"]);
    within(Duration::from_secs(60), "the rows are gone", || {
        let left =
            [rows(world, "pool_40.events_raw"), rows(world, "system.databases WHERE name = 'tenant_mover'")];
        (left == ["5", "0"]).then_some(()).ok_or(format!("{left:?}"))
    });
    world.kubectl(&["wait", "--for=delete", "--timeout=60s", "tenant/mover"]);
    other.shows(world, 5);
}

/// The stream that the tenant left goes once it is empty.
fn left_behind(world: &World) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(connect(world, "operator"));
    let stream = || runtime.block_on(client.observe("USAGE_mover"));
    let Observed::Present(left) = stream() else { panic!("what is in it may be needed") };
    // Its messages age out now, and not after a day.
    let soon = Duration::from_secs(1);
    let settings = Settings { max_age: Some(soon), duplicate_window: soon, ..left.settings };
    let (stamp, metadata) = (left.stamp.unwrap(), left.metadata);
    let spec = StreamSpec { name: left.name, settings, stamp, metadata };
    runtime.block_on(client.execute(&StreamStep::Update { spec, fields: vec!["max_age"] })).unwrap();
    within(Duration::from_secs(60), "the stream that was left is gone", || {
        let found = stream();
        matches!(found, Observed::Absent).then_some(()).ok_or(format!("{found:?}"))
    });
}
