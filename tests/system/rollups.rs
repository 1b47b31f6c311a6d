//! Dashboards are drawn from rollups, and say what the rows say, whatever comes late.

use std::time::Duration;

use event::Lane;
use serde_json::{Value, json};
use system_tests::{TestTenant, World, within};
use xtask::prove::rollups::{Found, compare};

use crate::pools;

pub const TESTS: &[crate::Test] = &[
    ("sums_say_what_the_rows_say_whatever_comes_late", dedicated),
    ("sums_of_a_pool_are_each_tenants_own", pooled),
    ("sums_outlive_rows_until_their_own_retention", retained),
];

/// A lane is held for 40 s before anything of it is summed up, and an idle one is looked at every 20 s.
const SUMMED_WITHIN: Duration = Duration::from_secs(100);
const DAY_MS: i64 = 86_400_000;

/// The day's start so many days ago, and so many hours after it, in RFC 3339.
#[allow(clippy::disallowed_methods, reason = "events of these tests are of the last days")]
fn moment(days_back: i64, hours: i64) -> String {
    let today = jiff::Timestamp::now().as_millisecond().div_euclid(DAY_MS);
    let ms = (today - days_back) * DAY_MS + hours * 3_600_000 + 1_234_567;
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn event(id: &str, feature: &str, user: Option<&str>, time: &str, n: usize) -> Value {
    let data =
        if n.is_multiple_of(3) { json!({"value": 1.5}) } else { json!({"value": n, "latencyMs": n % 7}) };
    let mut event = json!({"id": id, "type": feature, "time": time, "data": data});
    if let Some(user) = user {
        event["subject"] = user.into();
    }
    event
}

fn accept(world: &World, tenant: &TestTenant, events: Vec<Value>) {
    let count = events.len();
    let answer = tenant.post(world, 0, &Value::Array(events));
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(count)), "{}", answer.body);
}

/// Events over five days, of users who come back, and of nobody.
fn fill(world: &World, tenant: &TestTenant, prefix: &str) {
    let events: Vec<Value> = (0..400)
        .map(|n| {
            let (feature, user) = (format!("feature.{}", n % 5), format!("user-{}", n % 37));
            let user = (n % 11 != 0).then_some(user.as_str());
            let time = moment((n % 5) as i64 + 1, (n % 24) as i64);
            event(&format!("{prefix}{n}"), &feature, user, &time, n)
        })
        .collect();
    accept(world, tenant, events);
}

fn compared(world: &World, lane: &Lane) -> Found {
    compare(lane, |sql| Ok(world.clickhouse(sql))).unwrap()
}

/// What the routes say of the last days; neither end is a whole hour.
fn told(world: &World, tenant: &TestTenant) -> Vec<Value> {
    told_between(world, tenant, &moment(5, 2), &moment(0, 0))
}

fn told_between(world: &World, tenant: &TestTenant, from: &str, to: &str) -> Vec<Value> {
    let range = format!("from={from}&to={to}");
    let routes = [
        format!("summary?{range}"),
        format!("usage/by-feature?{range}"),
        format!("usage/trends?interval=day&{range}"),
        format!("usage/trends?interval=hour&{range}"),
        format!("usage/trends?interval=hour&feature=feature.3&{range}"),
        format!("usage/trends?interval=day&feature=none&{range}"),
    ];
    let answer = |route: &String| {
        let answer = tenant.read(world, &format!("/v1/dashboard/{route}"));
        assert_eq!(answer.status, 200, "{route}: {}", answer.body);
        answer.json()
    };
    routes.iter().map(answer).collect()
}

/// What the routes say when there are no rollups: the tables that hold them are looked away from.
fn told_by_rows(world: &World, tenant: &TestTenant) -> Vec<Value> {
    let view = format!("tenant_{}.rollups", tenant.name);
    let hidden = format!("tenant_{}.rollups_aside", tenant.name);
    world.clickhouse(&format!("RENAME TABLE {view} TO {hidden}"));
    let told = told(world, tenant);
    world.clickhouse(&format!("RENAME TABLE {hidden} TO {view}"));
    told
}

fn await_builds(world: &World, database: &str, days: u64) {
    within(SUMMED_WITHIN, &format!("{days} days of {database} are summed up"), || {
        let sql = format!(
            "SELECT count() FROM (SELECT toDate(time) AS day, max(intent) AS last FROM {database}.events_raw GROUP BY day) AS r \
             JOIN (SELECT day, argMax(upto, build) AS covered FROM {database}.rollups_raw GROUP BY day) AS b ON r.day = b.day \
             WHERE last <= covered"
        );
        let covered = world.clickhouse(&sql);
        (covered == [days.to_string()]).then_some(()).ok_or(format!("{covered:?}"))
    });
}

fn dedicated(world: &World) {
    let tenant = world.tenant("rolled", "");
    let lane = Lane::Dedicated("rolled".parse().unwrap());
    fill(world, &tenant, "a");
    await_builds(world, "tenant_rolled", 5);
    let found = compared(world, &lane);
    assert!(found.agree() && found.sums > 200, "{found:?}");
    let rows = told_by_rows(world, &tenant);
    assert_eq!(told(world, &tenant), rows);
    assert!(rows[0]["events"].as_u64().unwrap() > 300 && rows[0]["activeUsers"] == 37, "{}", rows[0]);

    // What comes late is there before anything is built again: of a known user, of a new one, of nobody, with a new feature.
    let builds = || world.clickhouse("SELECT max(build) FROM tenant_rolled.rollups_raw");
    let before = builds();
    let late = [
        ("feature.3", Some("user-1")),
        ("feature.3", Some("late")),
        ("feature.new", Some("late")),
        ("feature.new", None),
    ];
    let late: Vec<Value> = late
        .iter()
        .enumerate()
        .map(|(n, (feature, user))| event(&format!("late-{n}"), feature, *user, &moment(2, 7), n))
        .collect();
    accept(world, &tenant, late);
    let events = rows[0]["events"].as_u64().unwrap() + 4;
    within(Duration::from_secs(20), "late events are shown", || {
        let shown = told(world, &tenant);
        (shown[0]["events"] == events).then_some(()).ok_or(shown[0].to_string())
    });
    assert_eq!(told(world, &tenant), told_by_rows(world, &tenant));
    await_builds(world, "tenant_rolled", 5);
    assert_ne!(builds(), before, "the day was built again");
    let found = compared(world, &lane);
    assert!(found.agree(), "{found:?}");
    assert_eq!(told(world, &tenant), told_by_rows(world, &tenant));

    // The comparison finds an event that a build counts twice, and the dashboard shows that it reads builds.
    world.clickhouse(
        "INSERT INTO tenant_rolled.rollups_raw SELECT * REPLACE (build + 1 AS build, events + (every = 1) AS events) \
         FROM (SELECT * FROM tenant_rolled.rollups_raw FINAL WHERE day = \
         (SELECT toDate(min(time)) + 2 FROM tenant_rolled.events_raw))",
    );
    let found = compared(world, &lane);
    assert!(!found.agree() && found.wrong.iter().any(|line| line.contains("told")), "{found:?}");
    assert_eq!(told(world, &tenant)[0]["events"], events + 1, "a whole day is one row");
    // And users of whom two have one number.
    world.clickhouse("INSERT INTO tenant_rolled.users_raw SELECT tenant, user_key + 1, ordinal FROM tenant_rolled.users_raw LIMIT 1");
    assert_eq!(compared(world, &lane).misnumbered.len(), 1);
}

fn pooled(world: &World) {
    world.apply(&pools::pool("summing", 50, 1, ""));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "lanepool/summing"]);
    let (one, two) = (world.tenant_on("summing", "sumone", ""), world.tenant_on("summing", "sumtwo", ""));
    fill(world, &one, "a");
    fill(world, &two, "a");
    accept(world, &two, vec![event("more", "feature.9", Some("only-two"), &moment(3, 3), 1)]);
    await_builds(world, "pool_50", 5);
    let found = compared(world, &Lane::Pooled(50));
    assert!(found.agree() && found.sums > 400, "{found:?}");
    for tenant in [&one, &two] {
        assert_eq!(told(world, tenant), told_by_rows(world, tenant), "{}", tenant.name);
    }
    let users = |tenant: &TestTenant| told(world, tenant)[0]["activeUsers"].clone();
    assert_eq!((users(&one), users(&two)), (json!(37), json!(38)));
    let seen = world.clickhouse("SELECT uniqExact(ordinal) FROM tenant_sumone.users");
    assert_eq!(seen, ["37"], "a view shows the tenant's own users");

    // A shorter retention holds at once, also of rows that are stored.
    world.clickhouse(&shifted("pool_50.events_raw", "time - toIntervalDay(20) AS time, 0 AS epoch"));
    let events = || world.clickhouse("SELECT count() FROM tenant_sumone.events");
    assert_eq!(events(), ["800"]);
    keep(world, "sumone", "10d", "365d");
    within(Duration::from_secs(30), "older rows are not shown", || {
        let shown = events();
        (shown == ["400"]).then_some(()).ok_or(format!("{shown:?}"))
    });
    assert_eq!(world.clickhouse("SELECT count() FROM tenant_sumtwo.events"), ["802"]);
}

/// Copies a table's rows with other values.
fn shifted(table: &str, values: &str) -> String {
    format!("INSERT INTO {table} SELECT * REPLACE ({values}) FROM {table} SETTINGS insert_deduplicate = 0")
}

fn keep(world: &World, tenant: &str, events: &str, rollups: &str) {
    let spec = json!({"spec": {"retention": {"events": events, "rollups": rollups}}});
    world.kubectl(&["patch", "tenant", tenant, "--type=merge", "--patch", &spec.to_string()]);
}

/// Waits until a table's rows of more than two weeks ago are gone.
fn await_gone(world: &World, table: &str, column: &str) {
    within(Duration::from_secs(60), &format!("old rows of {table} are gone"), || {
        world.clickhouse(&format!("OPTIMIZE TABLE {table} FINAL"));
        let left = world
            .clickhouse(&format!("SELECT count() FROM {table} WHERE {column} < now() - toIntervalDay(14)"));
        (left == ["0"]).then_some(()).ok_or(format!("{left:?}"))
    });
}

fn retained(world: &World) {
    for (events, rollups, why) in
        [("9d", "90d", "at least 10d"), ("216h", "90d", "at least 10d"), ("30d", "29d", "as long as events")]
    {
        let refused = world
            .try_apply(&format!(
                "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: forgetful}}\n\
                 spec: {{planRef: {{name: open}}, retention: {{events: {events}, rollups: {rollups}}}}}\n"
            ))
            .unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let tenant = world.tenant("kept", "");
    fill(world, &tenant, "a");
    await_builds(world, "tenant_kept", 5);
    // The same three weeks ago, as it was summed up then.
    world.clickhouse(&shifted("tenant_kept.events_raw", "time - toIntervalDay(20) AS time, 0 AS epoch"));
    world.clickhouse(&shifted(
        "tenant_kept.rollups_raw",
        "day - 20 AS day, start - toIntervalDay(20) AS start",
    ));
    let whole = |days_back| moment(days_back, 0).split('T').next().unwrap().to_owned() + "T00:00:00Z";
    let then = || told_between(world, &tenant, &whole(25), &whole(20));
    let before = then();
    assert_eq!(before[0]["events"], 400, "{}", before[0]);
    keep(world, "kept", "10d", "30d");
    await_gone(world, "tenant_kept.events_raw", "time");
    assert_eq!(then(), before, "sums outlive their rows");
    keep(world, "kept", "10d", "12d");
    await_gone(world, "tenant_kept.rollups_raw", "start");
    assert_eq!(then()[0]["events"], 0);
    assert_eq!(told(world, &tenant), told_by_rows(world, &tenant), "and what is younger stays");
}
