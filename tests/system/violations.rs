//! Refused attempts reach the dashboards, each once, whatever is killed on the way.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use system_tests::{TestTenant, World, event, eventually};

pub const TESTS: &[crate::Test] =
    &[("refused_attempts_are_on_the_dashboards_by_rule_and_by_user", dashboards)];

/// Kills a process: not side by side with others.
pub const CRASH_TESTS: &[crate::Test] = &[("sink_killed_while_violations_flow", sink_killed)];

const RULE: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: exports, namespace: NAME}
spec: {per: User, match: {features: [export.*]}, quota: {max: 3, period: Day}}
";

/// Attempts of the tenant that are stored, waited for until there are at least `expected`.
fn stored(world: &World, tenant: &TestTenant, expected: u64) -> u64 {
    let sql = format!("SELECT sum(count) FROM tenant_{}.violations", tenant.name.replace('-', "_"));
    eventually("the refused attempts are stored", || {
        let count: u64 = world.clickhouse(&sql)[0].parse().unwrap();
        (count >= expected).then_some(count).ok_or_else(|| format!("{count} of {expected}"))
    })
}

fn dashboards(world: &World) {
    let tenant = world.tenant("violated", RULE);
    for (user, attempts) in [("ann", 10), ("bob", 5), ("eve", 3)] {
        let statuses = (0..attempts)
            .map(|n| tenant.post(world, n, &event(&format!("{user}-{n}"), "export.pdf", user)).status);
        assert_eq!(statuses.filter(|status| *status == 429).count(), attempts - 3, "{user}");
    }
    assert_eq!(stored(world, &tenant, 9), 9);
    tenant.shows(world, 9);

    let rules = tenant.read(world, "/v1/dashboard/violations").json();
    let entry = &rules["data"][0];
    assert_eq!(rules["data"].as_array().unwrap().len(), 1, "{rules}");
    assert_eq!(
        (&entry["rule"], &entry["kind"], &entry["effect"], &entry["attempts"], &entry["users"]),
        (&json!("ns.violated.exports"), &json!("Limit"), &json!("Refused"), &json!(9), &json!(2))
    );
    assert!(entry["first"].as_str().unwrap() <= entry["last"].as_str().unwrap(), "{entry}");

    // By user, a page of one at a time.
    let first = tenant.read(world, "/v1/dashboard/users/exceeded-limits?limit=1").json();
    let cursor = first["page"]["nextCursor"].as_str().unwrap_or_else(|| panic!("{first}"));
    let path = format!("/v1/dashboard/users/exceeded-limits?limit=1&cursor={cursor}");
    let second = tenant.read(world, &path).json();
    assert_eq!(second["page"], json!({"hasMore": false, "nextCursor": null}), "{second}");
    for (page, user, attempts) in [(&first, "ann", 7), (&second, "bob", 2)] {
        let found = &page["data"][0];
        assert_eq!((&found["userId"], &found["attempts"]), (&json!(user), &json!(attempts)), "{page}");
        let limit = &found["limits"][0];
        assert_eq!(
            (&limit["rule"], &limit["max"], &limit["per"], &limit["window"], &limit["attempts"]),
            (&json!("ns.violated.exports"), &json!(3), &json!("User"), &json!("Day"), &json!(attempts))
        );
    }
    let before = tenant.read(world, "/v1/dashboard/violations?from=now-3d&to=now-2d").json();
    assert_eq!(before["data"], json!([]));
    // A cursor belongs to its route.
    tenant.read(world, &format!("/v1/dashboard/violations?cursor={cursor}")).problem(400);
}

fn sink_killed(world: &World) {
    let tenant = world.tenant("kill-violations", RULE);
    for n in 0..3 {
        assert_eq!(tenant.post(world, n, &event(&format!("ok-{n}"), "export.pdf", "ann")).status, 202);
    }
    let done = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut refused = 0;
            for batch in 0.. {
                let events: Vec<Value> =
                    (0..20).map(|n| event(&format!("{batch}-{n}"), "export.pdf", "ann")).collect();
                let answer = tenant.post(world, batch, &Value::Array(events));
                assert_eq!(answer.status, 429, "{}", answer.body);
                refused += 20;
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            refused
        });
        for _ in 0..3 {
            world.platform.kill9("sink").unwrap();
            world.platform.start_part("sink").unwrap();
            // A part of the stream is stored by this sink before it is killed as well.
            let before = stored(world, &tenant, 0);
            stored(world, &tenant, before + 1);
        }
        done.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    assert_eq!(stored(world, &tenant, refused), refused);
    let twice = "SELECT count() - uniqExact(epoch, seq) FROM tenant_kill_violations.violations_raw";
    assert_eq!(world.clickhouse(twice), ["0"], "stored twice");
    let shown = tenant.read(world, "/v1/dashboard/violations").json();
    assert_eq!(shown["data"][0]["attempts"], json!(refused), "{shown}");
}
