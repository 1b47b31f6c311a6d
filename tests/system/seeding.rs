//! A new quota counts what was used of its period before it was there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{TestTenant, World, event, eventually};

pub const TESTS: &[crate::Test] = &[
    ("a_new_limit_counts_what_is_stored_already", from_history),
    ("a_limit_that_was_away_counts_what_came_meanwhile_and_nothing_twice", recreated),
    ("a_limit_that_is_created_under_load_is_exact", under_load),
    ("a_new_limit_counts_each_users_past_by_its_expression", by_user),
    ("a_limit_may_count_from_its_creation", from_creation),
    ("a_limit_that_was_on_trial_counts_what_it_admitted_beyond_itself", after_trial),
    ("a_client_that_sends_slowly_keeps_no_limit_from_being_enforced", slow_client),
];

fn daily(max: u64, more: &str) -> String {
    format!(
        "
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {{name: daily, namespace: NAME}}
spec: {{per: Tenant, quota: {{max: {max}, period: Day}}{more}}}
"
    )
}

/// Applies rules and waits until the limit `daily` is enforced.
fn enforce(world: &World, tenant: &TestTenant, rules: &str) {
    world.apply(&rules.replace("NAME", &tenant.name));
    let wait = ["wait", "--for=condition=Enforced", "--timeout=60s", "usagelimit/daily", "--namespace"];
    world.kubectl(&[&wait[..], &[&tenant.name]].concat());
}

/// Posts single events at both pods until they are limited; how many were admitted.
fn pour(world: &World, tenant: &TestTenant, prefix: &str, feature: &str, user: &str) -> u64 {
    let mut admitted = 0;
    for n in 0.. {
        match tenant.post(world, n, &event(&format!("{prefix}{n}"), feature, user)) {
            answer if answer.status == 202 => admitted += 1,
            // What the other pod holds may still come back.
            answer if answer.status == 429 && is_final(&answer.json()) => return admitted,
            answer if answer.status == 429 => {}
            answer => panic!("{}: {}", answer.status, answer.body),
        }
    }
    admitted
}

fn is_final(problem: &Value) -> bool {
    problem["retryAfterMs"].as_u64().unwrap() > 1_000
}

fn from_history(world: &World) {
    let tenant = world.tenant("seeded", "");
    tenant.post_many(world, "before", 300);
    enforce(world, &tenant, &daily(500, ""));
    assert_eq!(pour(world, &tenant, "after", "login", "ann"), 200);
    tenant.shows(world, 500);
}

fn recreated(world: &World) {
    let tenant = world.tenant("recreated", "");
    tenant.post_many(world, "before", 300);
    enforce(world, &tenant, &daily(600, ""));
    tenant.post_many(world, "charged", 100);
    world.kubectl(&["delete", "usagelimit", "daily", "--namespace", &tenant.name]);
    let mut probes = 0;
    for pod in 0..2 {
        eventually("the limit is out of force", || {
            probes += 1;
            let answer = tenant.post(world, pod, &event(&format!("probe-{probes}"), "login", "ann"));
            assert_eq!(answer.status, 202, "{}", answer.body);
            (!answer.headers.contains_key("ratelimit")).then_some(()).ok_or("it counts".to_owned())
        });
    }
    tenant.post_many(world, "meanwhile", 50);
    enforce(world, &tenant, &daily(600, ""));
    let admitted = pour(world, &tenant, "after", "login", "ann");
    // The probes count, whether they were charged or not.
    assert_eq!(admitted, 600 - 300 - 100 - probes - 50);
    tenant.shows(world, 600);
}

fn under_load(world: &World) {
    const MAX: u64 = 2_000;
    let tenant = world.tenant("seededload", "");
    tenant.post_many(world, "before", 300);
    let (stop, admitted) = (AtomicBool::new(false), AtomicU64::new(300));
    std::thread::scope(|scope| {
        for pod in 0..2_usize {
            let (tenant, stop, admitted) = (&tenant, &stop, &admitted);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = tenant.post(world, pod, &event(&format!("load-{pod}-{n}"), "login", "ann"));
                    assert_eq!(answer.status, 202, "nothing is refused meanwhile: {}", answer.body);
                    admitted.fetch_add(1, Ordering::Relaxed);
                    if admitted.load(Ordering::Relaxed) > MAX * 3 / 4 {
                        break;
                    }
                }
            });
        }
        enforce(world, &tenant, &daily(MAX, ""));
        stop.store(true, Ordering::Relaxed);
    });
    let before = admitted.into_inner();
    assert!(before < MAX, "{before} were admitted before the limit was enforced");
    assert_eq!(before + pour(world, &tenant, "after", "login", "ann"), MAX);
    tenant.shows(world, MAX);
}

fn by_user(world: &World) {
    let rule = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: daily, namespace: NAME}
spec:
  per: User
  match: {features: [export.*], expression: event.data.format == 'pdf'}
  measure: {type: Sum, field: pages}
  quota: {max: 10, period: Month}
";
    let tenant = world.tenant("seededuser", "");
    let export = |id: &str, user: &str, format: &str, pages: u64| {
        let data = json!({"format": format, "pages": pages});
        tenant.post(world, 0, &json!({"id": id, "type": "export.doc", "subject": user, "data": data})).status
    };
    let before =
        [("a", "ann", "pdf", 6), ("b", "ann", "txt", 9), ("c", "bob", "pdf", 1), ("d", "ann", "pdf", 3)];
    assert!(before.iter().all(|(id, user, format, pages)| export(id, user, format, *pages) == 202));
    enforce(world, &tenant, rule);
    assert_eq!(export("e", "ann", "pdf", 2), 429, "9 of 10 were used before");
    assert_eq!(export("f", "ann", "txt", 50), 202);
    assert_eq!([export("g", "ann", "pdf", 1), export("h", "bob", "pdf", 9)], [202, 202]);
    assert_eq!([export("i", "ann", "pdf", 1), export("j", "bob", "pdf", 1)], [429, 429]);
}

fn from_creation(world: &World) {
    let tenant = world.tenant("unseeded", "");
    tenant.post_many(world, "before", 30);
    enforce(world, &tenant, &daily(50, ", countFrom: Creation"));
    assert_eq!(pour(world, &tenant, "after", "login", "ann"), 50);
    let rule = "
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: perkey, namespace: unseeded}
spec: {per: ApiKey, quota: {max: 5, period: Day}, countFrom: Period}
";
    world.apply_past_the_webhook(rule);
    eventually("a start that cannot be known is refused", || {
        let path = "--output=jsonpath={.status.conditions[?(@.type=='Accepted')].message}";
        let said = world.kubectl(&["get", "usagelimit", "perkey", "--namespace", "unseeded", path]);
        said.contains("spec.countFrom").then_some(()).ok_or(said)
    });
}

fn after_trial(world: &World) {
    let tenant = world.tenant("trial", &daily(5, ", mode: Warn"));
    tenant.post_many(world, "warned", 8);
    enforce(world, &tenant, &daily(10, ""));
    assert_eq!(pour(world, &tenant, "after", "login", "ann"), 2, "8 of 10 were admitted before");
    tenant.shows(world, 10);
}

fn slow_client(world: &World) {
    let tenant = world.tenant("slowclient", "");
    tenant.post_many(world, "before", 3);
    let url = world.events_url(0);
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let body = event("slow", "login", "ann").to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /v1/usage/events HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-API-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{first}",
        tenant.ingest_key,
        body.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    // The pod has found the caller before it gets the rest.
    assert_eq!(tenant.post(world, 0, &event("between", "login", "ann")).status, 202);
    enforce(world, &tenant, &daily(4, ""));
    client.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "judged by the limit that is enforced now: {answer}");
    tenant.shows(world, 4);
}
