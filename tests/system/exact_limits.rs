//! A limit is exact across pods: neither one more nor one less.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use system_tests::{TestTenant, World, event};

pub const TESTS: &[crate::Test] = &[
    ("a_thousand_of_five_thousand_events_are_stored", a_thousand),
    ("limits_per_user_count_every_user_by_itself", per_user),
    ("summed_measures_are_limited_by_their_sum", summed),
    ("the_level_of_a_limit_follows_what_is_used_of_it", level),
    ("a_rejected_event_takes_nothing_from_other_limits", all_or_none),
];

const DAILY: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: daily, namespace: NAME}
spec: {per: Tenant, quota: {max: 1000, period: Day}}
";

/// Throws events at both pods from several threads and counts what was accepted and what was limited.
fn throw(world: &World, tenant: &TestTenant, threads: usize, batches: usize, size: usize) -> (u64, u64) {
    let (accepted, limited) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (accepted, limited) = (&accepted, &limited);
            scope.spawn(move || {
                for batch in 0..batches {
                    let id = |n| format!("{thread}-{batch}-{n}");
                    let events: Vec<Value> = (0..size).map(|n| event(&id(n), "login", "ann")).collect();
                    let answer = tenant.post(world, thread, &Value::Array(events));
                    let body = answer.json();
                    let refused = body["rejected"].as_array().map_or(0, Vec::len) as u64;
                    match answer.status {
                        202 => {
                            accepted.fetch_add(body["accepted"].as_u64().unwrap(), Ordering::Relaxed);
                        }
                        429 => {
                            assert_eq!(body["title"], "Plan Limit Exceeded", "{body}");
                            assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
                            assert!(
                                body["limit"]["max"].is_u64() && body["limit"]["used"].is_u64(),
                                "{body}"
                            );
                        }
                        _ => panic!("{}: {body}", answer.status),
                    }
                    limited.fetch_add(refused, Ordering::Relaxed);
                }
            });
        }
    });
    (accepted.into_inner(), limited.into_inner())
}

fn a_thousand(world: &World) {
    let tenant = world.tenant("thousand", DAILY);
    assert_eq!(throw(world, &tenant, 8, 25, 25), (1_000, 4_000));
    tenant.shows(world, 1_000);
    let summary = tenant.read(world, "/v1/dashboard/summary").json();
    let daily =
        summary["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "daily").unwrap().clone();
    assert_eq!((&daily["max"], &daily["used"]), (&json!(1_000), &json!(1_000)), "{summary}");
    // Deleting and recreating the limit does not reset its count.
    world.kubectl(&["delete", "usagelimit", "daily", "--namespace", "thousand"]);
    world.apply(&DAILY.replace("NAME", "thousand"));
    world.ready("thousand");
    let refused = || tenant.post(world, 0, &event("late", "login", "ann")).status;
    system_tests::eventually("the recreated limit holds", || {
        (refused() == 429).then_some(()).ok_or_else(String::new)
    });
}

/// With a step of its own; beside it one of users, which has no level.
const STEPPED: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: ten, namespace: NAME}
spec: {per: Tenant, quota: {max: 10, period: Month}, warnAt: [50]}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: each, namespace: NAME}
spec: {per: User, quota: {max: 100, period: Month}}
";

fn level(world: &World) {
    let tenant = world.tenant("level", STEPPED);
    let level = |limit: &str| {
        let get = ["get", "usagelimit", limit, "--namespace=level", "--output=jsonpath={.status.level}"];
        world.kubectl(&get).trim().to_owned()
    };
    let becomes = |wanted: &str| {
        system_tests::eventually(&format!("the level is {wanted}"), || {
            let level = level("ten");
            (level == wanted).then_some(()).ok_or(level)
        });
    };
    becomes("Normal");
    tenant.post_many(world, "a", 5);
    becomes("50%");
    tenant.post_many(world, "b", 5);
    becomes("100%");
    let raise = ["patch", "usagelimit", "ten", "--namespace=level", "--type=merge", "--patch"];
    world.kubectl(&[&raise[..], &[r#"{"spec": {"quota": {"max": 1000, "period": "Month"}}}"#]].concat());
    becomes("Normal");
    assert_eq!(level("each"), "", "what users share has no one level");
}

fn per_user(world: &World) {
    let rule = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: exports, namespace: NAME}
spec: {per: User, match: {features: [export.*]}, quota: {max: 7, period: Day}}
";
    let tenant = world.tenant("peruser", rule);
    for user in ["ann", "bob"] {
        let accepted = (0..20).filter(|n| {
            tenant.post(world, *n, &event(&format!("{user}{n}"), "export.pdf", user)).status == 202
        });
        assert_eq!(accepted.count(), 7, "{user}");
        assert_eq!(
            tenant.post(world, 0, &event(&format!("{user}-x"), "login", user)).status,
            202,
            "not what it counts"
        );
    }
    tenant.shows(world, 16);
}

fn summed(world: &World) {
    let rule = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: tokens, namespace: NAME}
spec: {per: Tenant, measure: {type: Sum, field: tokens}, quota: {max: 100, period: Month}}
";
    let tenant = world.tenant("summed", rule);
    let post = |id: &str, pod, tokens: i64| {
        let event = json!({"id": id, "type": "chat", "data": {"tokens": tokens}});
        tenant.post(world, pod, &event).status
    };
    assert_eq!(
        [post("a", 0, 60), post("b", 1, 50), post("c", 1, 40), post("d", 0, 1), post("e", 0, 0)],
        [202, 429, 202, 429, 202]
    );
    assert_eq!(post("f", 0, -5), 422, "a negative value never gives units back");
    tenant.shows(world, 3);
}

fn all_or_none(world: &World) {
    let rules = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: all, namespace: NAME}
spec: {per: Tenant, quota: {max: 10, period: Day}}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: exports, namespace: NAME}
spec: {per: Tenant, match: {features: [export]}, quota: {max: 2, period: Day}}
";
    let tenant = world.tenant("allornone", rules);
    let count = |prefix: &str, feature: &str, n: usize| {
        (0..n)
            .filter(|i| tenant.post(world, *i, &event(&format!("{prefix}{i}"), feature, "ann")).status == 202)
            .count()
    };
    assert_eq!(count("e", "export", 6), 2);
    assert_eq!(count("l", "login", 20), 8, "refused exports left the common limit alone");
    tenant.shows(world, 10);
}
