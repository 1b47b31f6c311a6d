//! Reservations are exact across pods: what is reserved is there at the commit, and nothing is spent twice.

use serde_json::{Value, json};
use system_tests::{Answer, Call, TestTenant, World, eventually};

pub const TESTS: &[crate::Test] = &[
    ("a_reservation_and_plain_events_share_a_limit_to_the_unit", exact),
    ("a_reservation_that_is_too_small_is_committed_whole_or_left_as_it_is", too_small),
    ("a_released_or_committed_reservation_covers_nothing_more", once),
    ("an_ended_reservation_is_gone", ended),
    ("a_reservation_of_another_tenant_or_of_nobody_is_unknown", forged),
    ("a_reservation_is_refused_like_its_event", refused),
];

const TOKENS: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: tokens, namespace: NAME}
spec: {per: Tenant, measure: {type: Sum, field: tokens}, quota: {max: 100, period: Month}}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: trial, namespace: NAME}
spec: {per: Tenant, quota: {max: 1, period: Month}, mode: Warn}
---
apiVersion: meterplane.io/v1alpha1
kind: AccessPolicy
metadata: {name: closed, namespace: NAME}
spec: {effect: Deny, rules: [{name: none, match: {features: [secret]}}]}
";

fn job(id: &str, tokens: u64) -> Value {
    json!({"id": id, "type": "job", "data": {"tokens": tokens}})
}

fn url(world: &World, pod: usize, path: &str) -> String {
    format!("{}/v1/usage/reservations{path}", world.urls.ingest[pod % 2])
}

fn send(tenant: &TestTenant, call: Call, event: &Value) -> Answer {
    call.key(&tenant.ingest_key).body("application/json", event.to_string()).send()
}

fn reserve(world: &World, tenant: &TestTenant, pod: usize, tokens: u64) -> Answer {
    send(tenant, Call::post(url(world, pod, "")), &job("later", tokens))
}

/// Reserves and returns the id.
fn held(world: &World, tenant: &TestTenant, pod: usize, tokens: u64) -> String {
    let answer = reserve(world, tenant, pod, tokens);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let body = answer.json();
    assert_eq!(body["held"], json!([{"limit": "tokens", "units": tokens}]), "only what enforces is held");
    let id = body["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.headers["location"], format!("/v1/usage/reservations/{id}"));
    id
}

fn commit(world: &World, tenant: &TestTenant, pod: usize, id: &str, event: &Value) -> Answer {
    send(tenant, Call::post(url(world, pod, &format!("/{id}/commit"))), event)
}

fn release(world: &World, tenant: &TestTenant, pod: usize, id: &str) -> Answer {
    Call::delete(url(world, pod, &format!("/{id}"))).key(&tenant.ingest_key).send()
}

/// Posts events of one token until one is refused; how many were accepted, and the refusal.
fn fill(world: &World, tenant: &TestTenant, pod: usize, prefix: &str) -> (u64, Answer) {
    for n in 0..=100 {
        let answer = tenant.post(world, pod, &job(&format!("{prefix}{n}"), 1));
        if answer.status != 202 {
            return (n, answer);
        }
    }
    panic!("101 events of one token were accepted");
}

fn charged(world: &World, tenant: &TestTenant) -> u64 {
    let sql = format!(
        "SELECT sum(mapValues(mapFilter((k, v) -> endsWith(k, '.tokens'), charges))[1]) FROM tenant_{}.events_raw",
        tenant.name
    );
    world.clickhouse(&sql)[0].parse().unwrap()
}

fn exact(world: &World) {
    let tenant = world.tenant("rsvexact", TOKENS);
    let id = held(world, &tenant, 0, 60);
    let (accepted, refusal) = fill(world, &tenant, 1, "plain");
    assert_eq!(accepted, 40);
    let problem = refusal.problem(429);
    assert_eq!(
        (&problem["limit"]["name"], &problem["retryAfterMs"]),
        (&json!("tokens"), &json!(1_000)),
        "not final"
    );
    for pod in 0..2 {
        assert_eq!(tenant.post(world, pod, &job("x", 1)).status, 429, "pod {pod}");
        let answer = reserve(world, &tenant, pod, 1);
        assert_eq!(answer.problem(429)["limit"]["name"], "tokens");
        assert!(answer.headers["ratelimit"].contains("ns.rsvexact.tokens"), "{:?}", answer.headers);
    }
    // At another pod than the one that reserved, and ten fewer than were reserved.
    let answer = commit(world, &tenant, 1, &id, &job("later", 50));
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(1)), "{}", answer.body);
    let mut accepted = 0;
    eventually("ten come back", || {
        accepted += fill(world, &tenant, 0, &format!("rest{accepted}-")).0;
        (accepted == 10).then_some(()).ok_or(format!("{accepted} were accepted"))
    });
    let (more, refusal) = fill(world, &tenant, 1, "over");
    assert_eq!(more, 0);
    assert_eq!(refusal.problem(429)["limit"]["used"], 100);
    tenant.shows(world, 51);
    assert_eq!(charged(world, &tenant), 100, "packs carry what was committed");
}

fn too_small(world: &World) {
    let tenant = world.tenant("rsvsmall", TOKENS);
    let id = held(world, &tenant, 0, 60);
    assert_eq!(tenant.post(world, 1, &job("plain", 30)).status, 202);
    let answer = commit(world, &tenant, 1, &id, &job("later", 71));
    assert_eq!(answer.problem(429)["limit"]["name"], "tokens", "10 are free, 11 were missing");
    assert_eq!(commit(world, &tenant, 1, &id, &json!({"id": "later", "type": "secret"})).status, 403);
    assert_eq!(commit(world, &tenant, 1, &id, &json!({"id": "later"})).status, 422);
    let answer = commit(world, &tenant, 0, &id, &job("later", 70));
    assert_eq!(answer.status, 202, "it was left as it was: {}", answer.body);
    assert_eq!(tenant.post(world, 1, &job("over", 1)).status, 429);
    tenant.shows(world, 2);
    assert_eq!(charged(world, &tenant), 100);
}

fn once(world: &World) {
    let tenant = world.tenant("rsvonce", TOKENS);
    let released = held(world, &tenant, 0, 100);
    assert_eq!(reserve(world, &tenant, 1, 1).status, 429);
    for pod in [1, 0, 1] {
        assert_eq!(release(world, &tenant, pod, &released).status, 204, "also when repeated");
    }
    let id = eventually("a hundred come back", || {
        let answer = reserve(world, &tenant, 1, 60);
        (answer.status == 201).then(|| answer.json()["id"].as_str().unwrap().to_owned()).ok_or(answer.body)
    });
    assert_eq!(commit(world, &tenant, 0, &id, &job("later", 60)).status, 202);
    // A client that lost the answer commits again: an event like any other, stored once.
    assert_eq!(commit(world, &tenant, 1, &id, &job("later", 40)).status, 202);
    assert_eq!(commit(world, &tenant, 0, &id, &job("later", 60)).problem(429)["limit"]["name"], "tokens");
    assert_eq!(
        commit(world, &tenant, 0, &released, &job("other", 1)).status,
        429,
        "what was released is gone"
    );
    assert_eq!(release(world, &tenant, 0, &id).status, 204, "and takes nothing from what was committed");
    assert_eq!(reserve(world, &tenant, 1, 1).status, 429);
    tenant.shows(world, 1);
}

fn ended(world: &World) {
    let tenant = world.tenant("rsvended", TOKENS);
    let answer = send(&tenant, Call::post(url(world, 0, "?ttlSeconds=1")), &job("later", 60));
    assert_eq!(answer.status, 201, "{}", answer.body);
    let body = answer.json();
    let (id, end) = (body["id"].as_str().unwrap(), body["expiresAt"].as_str().unwrap());
    let end: jiff::Timestamp = end.parse().unwrap();
    eventually("the reservation ends", || {
        let now: i64 = world.clickhouse("SELECT toUnixTimestamp64Milli(now64(3))")[0].parse().unwrap();
        (now > end.as_millisecond() + 100).then_some(()).ok_or_else(|| format!("it is {now}"))
    });
    let problem = commit(world, &tenant, 1, id, &job("later", 60)).problem(410);
    assert_eq!(problem["code"], "reservation_ended");
    assert_eq!(
        reserve(world, &tenant, 1, 41).status,
        429,
        "a commit that began in time may still be on its way"
    );
    for _ in 0..2 {
        assert_eq!(release(world, &tenant, 1, id).status, 204);
    }
    eventually("all come back", || {
        let answer = reserve(world, &tenant, 1, 100);
        (answer.status == 201).then_some(()).ok_or(answer.body)
    });
    tenant.shows(world, 0);
}

fn forged(world: &World) {
    let (tenant, other) = (world.tenant("rsvmine", TOKENS), world.tenant("rsvother", TOKENS));
    let (mine, others) = (held(world, &tenant, 0, 1), held(world, &other, 0, 1));
    let (first, last) = mine.split_at(20);
    let changed = format!("{first}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
    let long = format!("rsv_{}", "A".repeat(9_000));
    let mut bodies = Vec::new();
    for id in [others.as_str(), &changed, first, "rsv_", "x", &long, "%FF", "%00", "a%2Fb"] {
        bodies.push(commit(world, &tenant, 0, id, &job("later", 1)).problem(404));
        bodies.push(release(world, &tenant, 1, id).problem(404));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "nothing tells them apart: {bodies:?}");
    assert_eq!(commit(world, &other, 1, &others, &job("later", 1)).status, 202);
    let call = Call::post(url(world, 0, "")).key(&tenant.read_key).body("application/json", "{}");
    assert_eq!(call.send().status, 403, "a read key");
    assert_eq!(Call::delete(url(world, 0, &format!("/{mine}"))).send().status, 401);
}

fn refused(world: &World) {
    let tenant = world.tenant("rsvbad", TOKENS);
    let post = |query: &str, body: String| {
        Call::post(url(world, 0, query)).key(&tenant.ingest_key).body("application/json", body).send()
    };
    let good = job("later", 1).to_string();
    let two = json!([job("a", 1), job("b", 1)]).to_string();
    let table = [
        ("no seconds", post("?ttlSeconds=0", good.clone()), 400, "ttlSeconds"),
        ("two days", post("?ttlSeconds=172800", good.clone()), 400, "ttlSeconds"),
        ("words", post("?ttlSeconds=soon", good.clone()), 400, "ttlSeconds"),
        ("twice", post("?ttlSeconds=5&ttlSeconds=5", good.clone()), 400, "ttlSeconds"),
        ("a typo", post("?ttlSecond=5", good.clone()), 400, "ttlSecond"),
        ("two events", post("", two), 400, "events"),
        ("no events", post("", "[]".into()), 400, "events"),
        ("not JSON", post("", "{".into()), 400, "body"),
        ("no id", post("", json!({"type": "job"}).to_string()), 422, "id"),
        ("a negative sum", post("", good.replace(":1}", ":-1}")), 422, "data.tokens"),
        ("an event that is denied", post("", json!({"id": "x", "type": "secret"}).to_string()), 403, ""),
        ("more than there is", post("", job("later", 101).to_string()), 429, ""),
    ];
    for (what, answer, status, field) in table {
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert_eq!(
            answer.problem(status)["field"].as_str().unwrap_or_default(),
            field,
            "{what}: {}",
            answer.body
        );
    }
    let get = Call::get(url(world, 0, "")).key(&tenant.ingest_key).send();
    assert_eq!((get.status, get.headers["allow"].as_str()), (405, "POST"));
    // An event that no quota counts is reserved and committed all the same.
    let free = json!({"id": "free", "type": "job"}).to_string();
    let answer = post("?ttlSeconds=86400", free.clone());
    assert_eq!((answer.status, &answer.json()["held"]), (201, &json!([])), "{}", answer.body);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(commit(world, &tenant, 1, &id, &serde_json::from_str(&free).unwrap()).status, 202);
    tenant.shows(world, 1);
}
