//! Quotas that never start anew: exact across pods, and what a dead pod held and what repeated events took comes back.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{TestTenant, World, event, eventually, within};

pub const TESTS: &[crate::Test] = &[
    ("a_total_is_exact_across_pods_and_outlives_its_limit", exact),
    ("what_repeated_events_took_of_a_total_comes_back", repeats),
];

pub const DEATHS: &[crate::Test] = &[
    ("what_a_killed_pod_held_of_a_total_comes_back", killed),
    ("a_pod_that_was_frozen_and_taken_for_dead_ends_itself", frozen),
];

const CREDITS: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: credits, namespace: NAME}
spec: {per: Tenant, quota: {max: MAX, period: Total}}
";

/// Longer than a pod is silent before it is taken for dead, and what was noted is waited for.
const SETTLED: Duration = Duration::from_secs(120);

fn tenant(world: &World, name: &str, max: u64) -> TestTenant {
    world.tenant(name, &CREDITS.replace("MAX", &max.to_string()))
}

fn batch(prefix: &str, count: usize) -> Value {
    (0..count).map(|n| event(&format!("{prefix}-{n}"), "login", "ann")).collect()
}

/// Posts batches at `pods` until one is refused for good; how many events were accepted.
fn use_up(world: &World, tenant: &TestTenant, prefix: &str, pods: &[usize], size: usize) -> u64 {
    let (mut accepted, mut turn) = (0, 0);
    within(SETTLED, "the quota is used up", || {
        turn += 1;
        let answer = tenant.post(world, pods[turn % pods.len()], &batch(&format!("{prefix}-{turn}"), size));
        let body = answer.json();
        accepted += body["accepted"].as_u64().unwrap_or(0);
        let is_final = answer.status == 429 && !answer.headers.contains_key("retry-after");
        is_final.then_some(()).ok_or_else(|| format!("{accepted} accepted, {}: {body}", answer.status))
    });
    accepted
}

fn stored(world: &World, tenant: &TestTenant) -> u64 {
    let sql = format!("SELECT count() FROM tenant_{}.events_raw", tenant.name);
    world.clickhouse(&sql)[0].parse().unwrap()
}

/// Sums over the book of charges: units of stored events, and of repeated ones.
fn book(world: &World, tenant: &TestTenant) -> Vec<String> {
    let sql = format!("SELECT sum(stored), sum(repeated) FROM tenant_{}.charges", tenant.name);
    world.clickhouse(&sql)
}

fn exact(world: &World) {
    let tenant = tenant(world, "totals", 300);
    assert_eq!(use_up(world, &tenant, "a", &[0, 1], 7), 300);
    let refused = tenant.post(world, 0, &event("late", "login", "ann"));
    let problem = refused.problem(429);
    assert_eq!((&problem["limit"]["max"], &problem["limit"]["used"]), (&json!(300), &json!(300)));
    assert!(problem.get("retryAfterMs").is_none(), "nothing starts anew: {problem}");
    assert_eq!(refused.headers["ratelimit"], r#""ns.totals.credits";r=0"#);
    assert_eq!(refused.headers["ratelimit-policy"], r#""ns.totals.credits";q=300"#);
    tenant.shows(world, 300);
    assert_eq!(book(world, &tenant), ["300\t0"]);
    world.kubectl(&["delete", "usagelimit", "credits", "--namespace", "totals"]);
    eventually("without the limit events are accepted", || {
        let answer = tenant.post(world, 0, &event("free", "login", "ann"));
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    world.apply(&CREDITS.replace("NAME", "totals").replace("MAX", "310"));
    world.ready("totals");
    let more = use_up(world, &tenant, "b", &[0, 1], 3);
    assert_eq!(more, 9, "the recreated limit goes on where it was, and counts what came meanwhile");
    tenant.shows(world, 310);
}

/// Both pods admit the same events: each is charged twice, stored once, and the other half comes back.
fn repeats(world: &World) {
    let tenant = tenant(world, "totalrepeats", 400);
    for pod in [0, 1] {
        for part in 0..5 {
            let answer = tenant.post(world, pod, &batch(&format!("same-{part}"), 20));
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }
    tenant.shows(world, 100);
    assert_eq!(book(world, &tenant), ["100\t100"]);
    let mut turn = 0;
    within(SETTLED, "everything but the stored events can be used", || {
        turn += 1;
        tenant.post(world, turn, &batch(&format!("more-{turn}"), 11));
        let stored = stored(world, &tenant);
        assert!(stored <= 400, "{stored} of 400 are stored");
        (stored == 400).then_some(()).ok_or_else(|| format!("{stored} are stored"))
    });
}

/// Large slices: both pods are busy when one dies.
fn warm_up(world: &World, tenant: &TestTenant) -> u64 {
    let accepted = |answer: system_tests::Answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["accepted"].as_u64().unwrap()
    };
    (0..40).map(|n| accepted(tenant.post(world, n, &batch(&format!("warm-{n}"), 50)))).sum()
}

fn killed(world: &World) {
    let tenant = tenant(world, "totalkill", 20_000);
    let before = warm_up(world, &tenant);
    world.platform.kill9("ingest-1").unwrap();
    let after = use_up(world, &tenant, "rest", &[1], 250);
    assert_eq!(before + after, 20_000, "what the killed pod held was given to the other");
    world.platform.start_part("ingest-1").unwrap();
    tenant.shows(world, 20_000);
    assert_eq!(book(world, &tenant), ["20000\t0"]);
}

fn frozen(world: &World) {
    let tenant = tenant(world, "totalfreeze", 20_000);
    let before = warm_up(world, &tenant);
    world.platform.pause("ingest-1").unwrap();
    let after = use_up(world, &tenant, "rest", &[1], 250);
    assert_eq!(before + after, 20_000, "what the frozen pod held was given to the other");
    world.platform.resume("ingest-1").unwrap();
    // It believes that it holds units; the first pack that it sends with them, or the first question to the ledger, ends it.
    eventually("the frozen pod ends", || {
        let late = system_tests::Call::post(world.events_url(0)).key(&tenant.ingest_key);
        if let Ok(answer) = late.body("application/json", batch("late", 2).to_string()).try_send() {
            assert_ne!(answer.status, 202, "{}", answer.body);
        }
        let ended = world.platform.crashes();
        ended.iter().any(|crash| crash.part == "ingest-1").then_some(()).ok_or_else(|| format!("{ended:?}"))
    });
    world.platform.start_part("ingest-1").unwrap();
    tenant.shows(world, 20_000);
    assert_eq!(stored(world, &tenant), 20_000);
}
