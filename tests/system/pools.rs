//! Pooled tenants: one stream and one table for many, and still each its own.

use std::time::Duration;

use system_tests::{World, event, eventually, within};

use crate::isolation;

pub const TESTS: &[crate::Test] = &[
    ("pooled_tenants_share_a_lane_and_see_only_their_own", shared),
    ("a_pool_grows_keeps_its_tenants_and_goes_when_it_is_empty", lifecycle),
    ("a_pooled_tenants_data_are_retained_and_destroyed_as_asked", deletion),
];

/// A pool of its own for each test, and a plan that places tenants there.
pub fn pool(name: &str, first: u16, shards: u16, more: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: LanePool\nmetadata: {{name: {name}}}\n\
         spec: {{shards: {shards}, firstShard: {first}, storage: 64Mi{more}}}\n---\n\
         apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {{name: {name}}}\n\
         spec: {{isolation: Pooled, pool: {name}}}\n"
    )
}

fn said(world: &World, kind: &str, name: &str, condition: &str) -> String {
    let path = format!("--output=jsonpath={{.status.conditions[?(@.type==\"{condition}\")]}}");
    world.try_kubectl(&["get", kind, name, &path]).unwrap_or_else(|error| error)
}

pub fn says(world: &World, kind: &str, name: &str, condition: &str, what: &str) {
    eventually(&format!("{kind} {name} says {what}"), || {
        let condition = said(world, kind, name, condition);
        condition.contains(what).then_some(()).ok_or(condition)
    });
}

fn shared(world: &World) {
    world.apply(&pool("shared", 10, 1, ""));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/shared"]);
    let one = world.tenant_on("shared", "poolone", isolation::RULE);
    let two = world.tenant_on("shared", "pooltwo", isolation::RULE);
    isolation::routes(world, &one, &two);
    assert_eq!(world.clickhouse("SELECT count(), uniqExact(tenant) FROM pool_10.events_raw"), ["5\t2"]);
    let streams = world.kubectl(&[
        "get",
        "tenants",
        "poolone",
        "pooltwo",
        "--output=jsonpath={.items[*].status.stream}",
    ]);
    assert_eq!(streams.trim(), "USAGE_POOL_10 USAGE_POOL_10");
    // The same id in both is two events, and twice in one is one.
    for tenant in [&one, &two] {
        tenant.post(world, 1, &event("same", "login", "ann"));
        tenant.post(world, 0, &event("same", "login", "ann"));
    }
    one.shows(world, 4);
    two.shows(world, 3);
    // Rows go by their tenant's retention, and what is past it is not shown any more.
    let days = "SELECT DISTINCT toUInt32(round((toUnixTimestamp(expires_at) - toUnixTimestamp(time)) / 86400)) FROM pool_10.events_raw";
    assert_eq!(world.clickhouse(days), ["90"]);
    world.clickhouse(
        "ALTER TABLE pool_10.events_raw UPDATE expires_at = now() - 1 WHERE id = 'same' SETTINGS mutations_sync = 1",
    );
    one.shows(world, 3);
}

fn lifecycle(world: &World) {
    world.apply(include_str!("../../examples/pools/pool.yaml"));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/default", "plan/free"]);
    // A tenant waits for its pool, and is placed as soon as it is there.
    world.apply("apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {name: growing}\nspec: {isolation: Pooled, pool: growing}\n");
    let tenant = "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {name: early}\nspec: {planRef: {name: growing}}\n";
    world.apply(tenant);
    says(world, "tenant", "early", "Ready", "WaitingForPool");
    world.apply(&pool("growing", 20, 2, ""));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "tenant/early"]);
    let refused = world.try_apply(&pool("growing", 20, 1, "")).unwrap_err();
    assert!(refused.contains("shards never become fewer"), "{refused}");
    let refused = world.try_apply(&pool("growing", 21, 2, "")).unwrap_err();
    assert!(refused.contains("firstShard is immutable"), "{refused}");
    let refused = world.try_apply(&pool("tiny", 29, 0, "")).unwrap_err();
    assert!(refused.contains("spec.shards"), "{refused}");
    world.apply(&pool("growing", 20, 3, ""));
    eventually("the third shard is there", || {
        let tables =
            world.clickhouse("SELECT name FROM system.tables WHERE database = 'pool_22' ORDER BY name");
        tables.contains(&"events_raw".to_owned()).then_some(()).ok_or(format!("{tables:?}"))
    });
    world.apply(&pool("overlapping", 22, 1, ""));
    says(world, "lanepool", "overlapping", "Accepted", "ShardsConflict");
    world.kubectl(&["delete", "lanepool", "overlapping"]);
    // It goes when nobody is in it.
    world.kubectl(&["delete", "lanepool", "growing", "--wait=false"]);
    says(world, "lanepool", "growing", "Reconciling", "InUse");
    world.kubectl(&["delete", "tenant", "early"]);
    world.kubectl(&["wait", "--for=delete", "--timeout=60s", "lanepool/growing"]);
    world.apply(&pool("growing", 20, 3, ""));
    says(world, "lanepool", "growing", "Accepted", "RetainedDataExists");
    world.apply(&pool("growing", 20, 3, ", adoption: Released"));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/growing"]);
}

fn deletion(world: &World) {
    world.apply(&pool("leaving", 30, 1, ""));
    let (name, rows) = ("leaver", || world.clickhouse("SELECT count() FROM pool_30.events_raw"));
    let first = world.tenant_on("leaving", name, "");
    let other = world.tenant_on("leaving", "stayer", "");
    first.post_many(world, "a", 10);
    other.post_many(world, "a", 5);
    first.shows(world, 10);
    other.shows(world, 5);
    let tenant = |more: &str| {
        format!(
            "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
             spec: {{displayName: Test {name}, planRef: {{name: leaving}}, namespaces: [{name}]{more}}}"
        )
    };
    world.kubectl(&["delete", "tenant", name]);
    assert_eq!(rows(), ["15"], "what was kept can come back");
    world.apply(&tenant(", adoption: Released"));
    world.ready(name);
    assert_eq!(world.clickhouse("SELECT count() FROM tenant_leaver.events"), ["10"]);
    // Destroyed for good: its rows, and nobody else's.
    world.apply(&tenant(", adoption: Released, deletionPolicy: Delete, deletionGrace: 1s"));
    world.kubectl(&["annotate", "tenant", name, &format!("meterplane.io/confirm-deletion={name}")]);
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    within(Duration::from_secs(60), "the rows are gone", || {
        let left = rows();
        (left == ["5"]).then_some(()).ok_or(format!("{left:?}"))
    });
    world.kubectl(&["wait", "--for=delete", "--timeout=60s", "tenant/leaver"]);
    other.shows(world, 5);
}
