//! Bad input gets a 4xx problem, or a rejected item, that names the field; the pod goes on.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use system_tests::{Answer, Call, TestTenant, World, event};

pub const TESTS: &[crate::Test] =
    &[("bad_requests_are_problems_that_name_the_field", requests), ("bad_events_are_rejected_items", events)];

const SUM: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: tokens, namespace: NAME}
spec: {per: Tenant, measure: {type: Sum, field: tokens}, quota: {max: 1M, period: Month}}
";

fn goes_on(world: &World, tenant: &TestTenant, id: &str) {
    assert_eq!(tenant.post(world, 0, &event(id, "login", "ann")).status, 202, "the pod goes on");
}

fn requests(world: &World) {
    let tenant = world.tenant("badreq", "");
    let call = || Call::post(world.events_url(0)).key(&tenant.ingest_key);
    let json = |body: Vec<u8>| call().body("application/json", body).send();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let thousand_and_one: Vec<Value> = (0..1_001).map(|n| event(&n.to_string(), "login", "ann")).collect();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 256 * 1024 * 1024]).unwrap();
    let bomb = call().header("Content-Encoding", "gzip").body("application/json", bomb.finish().unwrap());
    let unknown_key = format!("mp_live_{}", "a".repeat(58));
    let other = |key: &str| Call::post(world.events_url(0)).key(key).body("application/json", "{}").send();
    let table: Vec<(&str, Answer, u16, &str)> = vec![
        ("malformed JSON", json(b"{\"id\":".to_vec()), 400, "body"),
        ("nothing", json(vec![]), 400, "body"),
        ("not UTF-8", json(vec![0xff, 0xfe]), 400, "body"),
        ("nested arrays", json(nested.into_bytes()), 422, ""),
        ("2 MiB", json(vec![b' '; 2 * 1024 * 1024]), 413, "body"),
        ("1,001 events", json(Value::Array(thousand_and_one).to_string().into_bytes()), 400, "events"),
        ("an empty batch", json(b"[]".to_vec()), 400, "events"),
        ("a gzip bomb", bomb.send(), 413, "body"),
        (
            "not gzip",
            call().header("Content-Encoding", "gzip").body("application/json", "{}").send(),
            400,
            "Content-Encoding",
        ),
        (
            "brotli",
            call().header("Content-Encoding", "br").body("application/json", "{}").send(),
            415,
            "Content-Encoding",
        ),
        ("no content type", call().bare_body("{}").send(), 415, "Content-Type"),
        ("text", call().body("text/plain", "{}").send(), 415, "Content-Type"),
        ("two keys", call().header("X-API-Key", "x").body("application/json", "{}").send(), 400, "X-API-Key"),
        ("a malformed key", other(&unknown_key), 401, ""),
        ("a read key", other(&tenant.read_key), 403, ""),
    ];
    for (what, answer, status, field) in table {
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        let problem = answer.problem(status);
        if !field.is_empty() {
            assert_eq!(problem["field"], field, "{what}: {problem}");
        }
    }
    // Well-formed, and nobody's: a digit of a real key is never a way in.
    let none = Call::post(world.events_url(0)).body("application/json", "{}").send();
    assert_eq!(none.problem(401)["title"], "Unauthorized");
    assert_eq!(Call::get(world.events_url(0)).send().status, 405);
    goes_on(world, &tenant, "after");
    tenant.shows(world, 1);
}

fn events(world: &World) {
    let tenant = world.tenant("badevent", SUM);
    let at = |seconds: i64| {
        let now: i64 = world.clickhouse("SELECT toUnixTimestamp(now())")[0].parse().unwrap();
        jiff::Timestamp::from_second(now + seconds).unwrap().to_string()
    };
    let (year_ago, day_ahead) = (at(-365 * 86_400), at(86_400));
    let table = [
        (json!({"type": "t"}).to_string(), "missing", "id"),
        (json!({"id": "x"}).to_string(), "missing", "type"),
        (json!({"id": "x", "type": "t", "data": {"tokens": -1}}).to_string(), "bad_measure", "data.tokens"),
        (r#"{"id":"x","type":"t","data":{"tokens":1e300}}"#.to_owned(), "bad_measure", "data.tokens"),
        (r#"{"id":"x","type":"t","data":{"value":1e308}}"#.to_owned(), "bad_number", "data.value"),
        (json!({"id": "a\0b", "type": "t"}).to_string(), "nul_character", ""),
        (r#"{"id":"x","type":"t","data":{"n":"\ud800"}}"#.to_owned(), "lone_surrogate", ""),
        (json!({"id": "x", "type": "t", "time": year_ago}).to_string(), "time_too_old", "time"),
        (json!({"id": "x", "type": "t", "time": day_ahead}).to_string(), "time_ahead", "time"),
        (json!({"id": "x", "type": "t", "tim": "x"}).to_string(), "unknown_member", "tim"),
        (
            json!({"id": "x", "type": "t", "data": {"n": "y".repeat(70_000)}}).to_string(),
            "event_too_large",
            "",
        ),
    ];
    for (body, code, field) in &table {
        let call =
            Call::post(world.events_url(1)).key(&tenant.ingest_key).body("application/json", body.as_str());
        let problem = call.send().problem(422);
        let item = &problem["rejected"][0];
        assert_eq!((&item["index"], &item["code"]), (&json!(0), &json!(code)), "{problem}");
        assert_eq!(item["field"].as_str().unwrap_or_default(), *field, "{problem}");
    }
    // In a batch, the good ones are accepted and each bad one is named by its place.
    let good: Vec<String> = (0..2).map(|n| event(&format!("good{n}"), "login", "ann").to_string()).collect();
    let bad: Vec<&str> = table.iter().map(|(body, _, _)| body.as_str()).collect();
    let batch = format!("[{},{},{}]", good[0], bad.join(","), good[1]);
    let answer =
        Call::post(world.events_url(1)).key(&tenant.ingest_key).body("application/json", batch).send();
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(2)), "{}", answer.body);
    let places: Vec<u64> = answer.json()["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["index"].as_u64().unwrap())
        .collect();
    assert_eq!(places, (1..=table.len() as u64).collect::<Vec<_>>());
    tenant.shows(world, 2);
}
