//! Rates at both pods: no window stores more than its units and what earlier windows saved; headers; checks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::{Answer, Call, TestTenant, World, event, eventually};

pub const TESTS: &[crate::Test] = &[
    ("no_second_stores_more_than_its_rate_and_what_was_saved", a_second),
    ("a_rate_a_minute_holds_at_both_pods", a_minute),
    ("rates_per_user_are_apart", per_user),
    ("rate_headers_tell_how_limits_stand_and_a_check_charges_nothing", headers_and_checks),
];

const MAX: u64 = 40;
const BURST: u64 = 100;

/// Posts single events at both pods from several threads until the time is up; accepted, and limited.
fn hammer(world: &World, tenant: &TestTenant, prefix: &str, threads: usize, lasts: Duration) -> (u64, u64) {
    let (accepted, limited) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (accepted, limited) = (&accepted, &limited);
            scope.spawn(move || {
                let mut n = 0;
                while begun.elapsed() < lasts {
                    n += 1;
                    let id = |part| format!("{prefix}-{thread}-{n}-{part}");
                    let events: Vec<Value> = (0..3).map(|part| event(&id(part), "login", "ann")).collect();
                    let answer = tenant.post(world, thread, &Value::Array(events));
                    let body = answer.json();
                    match answer.status {
                        202 => accepted.fetch_add(body["accepted"].as_u64().unwrap(), Ordering::Relaxed),
                        429 => {
                            let retry_ms = body["retryAfterMs"].as_u64().unwrap();
                            assert!((1..=1_000).contains(&retry_ms), "the next window has units: {body}");
                            assert_eq!(answer.headers["retry-after"], "1");
                            0
                        }
                        _ => panic!("{}: {body}", answer.status),
                    };
                    let refused = body["rejected"].as_array().map_or(0, Vec::len) as u64;
                    limited.fetch_add(refused, Ordering::Relaxed);
                }
            });
        }
    });
    (accepted.into_inner(), limited.into_inner())
}

/// Stored events by the second of their receipt.
fn by_second(world: &World, tenant: &TestTenant) -> BTreeMap<u64, u64> {
    let table = format!("tenant_{}.events_raw", tenant.name);
    let sql = format!(
        "SELECT toUnixTimestamp(toStartOfSecond(received)) AS second, count() FROM {table} GROUP BY second"
    );
    let number = |text: &str| text.parse::<u64>().unwrap();
    let lines = world.clickhouse(&sql);
    lines.iter().map(|line| line.split_once('\t').unwrap()).map(|(s, n)| (number(s), number(n))).collect()
}

fn check(world: &World, tenant: &TestTenant, pod: usize, events: &[Value]) -> Answer {
    let url = world.events_url(pod).replace("/events", "/check");
    let body = Value::Array(events.to_vec()).to_string();
    Call::post(url).key(&tenant.ingest_key).body("application/json", body).send()
}

/// Units that a check says there are for its first event.
fn remaining(world: &World, tenant: &TestTenant, events: &[Value]) -> u64 {
    let answer = check(world, tenant, 1, events);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["results"][0]["limits"][0]["remaining"].as_u64().unwrap()
}

/// Waits until the limit is enforced and its ledger is settled.
fn usable(world: &World, tenant: &TestTenant, feature: &str) {
    for pod in 0..2 {
        eventually("the rate can be leased", || {
            let answer = tenant.post(world, pod, &event(&format!("first-{pod}"), feature, "ann"));
            (answer.status == 202).then_some(()).ok_or(answer.body)
        });
    }
}

fn a_second(world: &World) {
    let rule = format!(
        r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {{name: burst, namespace: NAME}}
spec: {{per: Tenant, match: {{features: [login]}}, rate: {{max: {MAX}, period: Second, burst: {BURST}}}}}
"
    );
    let tenant = world.tenant("rates", &rule);
    usable(world, &tenant, "login");
    // Quiet windows save the burst, and asking how much there is takes nothing of it.
    eventually("a burst is saved", || {
        let remaining = remaining(world, &tenant, &[event("x", "login", "ann")]);
        (remaining == MAX + BURST).then_some(()).ok_or_else(|| format!("{remaining} remaining"))
    });
    let events: Vec<Value> = (0..MAX + BURST + 1).map(|n| event(&format!("b{n}"), "login", "ann")).collect();
    let answer = tenant.post(world, 0, &Value::Array(events));
    let body = answer.json();
    // The request may lie on the boundary of two windows; units that the other pod holds come to very few.
    let in_burst = body["accepted"].as_u64().unwrap();
    assert!((MAX + BURST - 6..=MAX + BURST + 1).contains(&in_burst), "{in_burst}: {body}");
    let lasts = Duration::from_secs(8);
    let (accepted, limited) = hammer(world, &tenant, "load", 6, lasts);
    let accepted_in_all = accepted + in_burst + 2;
    assert!(limited > 0, "the load was too small to show anything");
    let least = MAX * (lasts.as_secs() - 2) * 3 / 4;
    assert!(accepted >= least, "{accepted} of at least {least}");
    let mut windows = BTreeMap::new();
    eventually("everything is stored", || {
        windows = by_second(world, &tenant);
        let stored: u64 = windows.values().sum();
        let all = stored == accepted_in_all;
        all.then_some(()).ok_or_else(|| format!("{stored} of {accepted_in_all}"))
    });
    // An exact token bucket, full at the beginning, admits all of this.
    let (first, last) = (*windows.keys().next().unwrap(), *windows.keys().next_back().unwrap());
    let mut saved = BURST;
    for second in first..=last {
        let stored = windows.get(&second).copied().unwrap_or(0);
        assert!(stored <= MAX + saved, "{stored} stored in {second} with {saved} saved: {windows:?}");
        saved = (saved + MAX - stored).min(BURST);
    }
    println!("stored by second: {:?}; accepted {accepted}, limited {limited}", windows.values());
}

fn a_minute(world: &World) {
    let rule = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: minutely, namespace: NAME}
spec: {per: Tenant, match: {features: [export]}, rate: {max: 30, period: Minute}}
";
    let tenant = world.tenant("minutely", rule);
    let post = |n: usize| tenant.post(world, n, &event(&format!("e{n}"), "export", "ann"));
    // Until the minute that follows the start of the ledger, the rate answers 503.
    system_tests::within(Duration::from_secs(90), "the rate can be leased", || {
        let answer = post(0);
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    let mut limited = None;
    for n in 1..200 {
        let answer = post(n);
        match answer.status {
            202 => {}
            429 => {
                let retry_ms = answer.json()["retryAfterMs"].as_u64().unwrap();
                assert!(retry_ms <= 60_000, "{}", answer.body);
                limited = Some(n);
                break;
            }
            other => panic!("{other}: {}", answer.body),
        }
    }
    let limited = limited.expect("a rate of 30 a minute refuses one of 200");
    // The load may have crossed one boundary, not two; and small rates leave no units in pods.
    assert!((28..=61).contains(&limited), "refused at {limited}");
}

fn per_user(world: &World) {
    let rule = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: peruser, namespace: NAME}
spec: {per: User, match: {features: [export]}, rate: {max: 2, period: Second}}
";
    let tenant = world.tenant("rateuser", rule);
    usable(world, &tenant, "export");
    let accepted = |user: &str| {
        let events: Vec<Value> = (0..10).map(|n| event(&format!("{user}-{n}"), "export", user)).collect();
        let answer = tenant.post(world, 0, &Value::Array(events));
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["accepted"].as_u64().unwrap()
    };
    for user in ["bob", "cid", "dan"] {
        // A request may lie on the boundary of two windows.
        let accepted = accepted(user);
        assert!((2..=4).contains(&accepted), "{user}: {accepted}");
    }
}

fn headers_and_checks(world: &World) {
    let rules = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: daily, namespace: NAME}
spec: {per: Tenant, match: {features: [export]}, quota: {max: 5, period: Day}, warnAt: [40, 80]}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: fast, namespace: NAME}
spec: {per: Tenant, match: {features: [export, login]}, rate: {max: 100, period: Second, burst: 50}}
";
    let tenant = world.tenant("ratehead", rules);
    eventually("the rate can be leased", || {
        let answer = tenant.post(world, 1, &event("first", "login", "ann"));
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    let export = |n: u64| event(&format!("e{n}"), "export", "ann");
    let events: Vec<Value> = (0..7).map(export).collect();
    // Five of seven would pass, again and again: nothing is taken.
    for _ in 0..3 {
        let answer = check(world, &tenant, 1, &events);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body = answer.json();
        assert_eq!(body["advisory"], true);
        let permits: Vec<&Value> = body["results"].as_array().unwrap().iter().map(|r| &r["permit"]).collect();
        assert_eq!(json!(permits), json!([true, true, true, true, true, false, false]), "{body}");
        let denial = &body["results"][6]["denial"];
        assert_eq!((&denial["code"], &denial["limit"]), (&json!("plan_limit_exceeded"), &json!("daily")));
        assert!(denial["retryAfterMs"].as_u64().unwrap() <= 86_400_000, "{denial}");
    }
    let quota = |header: &str| {
        let item = header.split(',').find(|item| item.starts_with("\"ns.ratehead.daily\""));
        item.unwrap_or_else(|| panic!("{header}")).to_owned()
    };
    for n in 0..5u64 {
        let answer = tenant.post(world, 0, &export(n));
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert!(quota(&answer.headers["ratelimit-policy"]).ends_with(";q=5;w=86400"), "{:?}", answer.headers);
        let limit = quota(&answer.headers["ratelimit"]);
        assert!(limit.contains(&format!(";r={};t=", 4 - n)), "{n}: {limit}");
        let warned = [None, Some(40), Some(40), Some(80), Some(80)][n as usize];
        assert_eq!(limit.split_once(";mp-warn=").map(|(_, p)| p.parse().unwrap()), warned, "{n}: {limit}");
        let rate = "\"ns.ratehead.fast\";q=100;w=1;mp-burst=50";
        assert!(answer.headers["ratelimit-policy"].contains(rate), "{:?}", answer.headers);
    }
    let refused = tenant.post(world, 0, &export(9));
    assert_eq!(refused.status, 429, "{}", refused.body);
    let limit = quota(&refused.headers["ratelimit"]);
    let retry_s: u64 = refused.headers["retry-after"].parse().unwrap();
    assert!(limit.starts_with(&format!("\"ns.ratehead.daily\";r=0;t={retry_s}")), "{limit}, {retry_s}");
    let checked = check(world, &tenant, 0, &[export(9)]).json();
    assert_eq!(checked["results"][0]["permit"], false, "{checked}");
    let read_key = Call::post(world.events_url(0).replace("/events", "/check")).key(&tenant.read_key);
    read_key.body("application/json", "{}").send().problem(403);
    tenant.shows(world, 6);
}
