//! Packs that nobody can read: the lane goes on, they are counted, and whoever can read them later stores them.

use std::time::Duration;

use event::Lane;
use event::names::{COUNTS_HEADER, INTENTS_BUCKET};
use jetstream::{Bucket, Publisher};
use serde_json::{Value, json};
use system_tests::{TestTenant, World, event, within};

use crate::counts::{REPAIRED_WITHIN, says};

pub const TESTS: &[crate::Test] =
    &[("a_pack_that_cannot_be_read_is_counted_and_holds_nothing_up", unreadable)];
pub const CRASH_TESTS: &[crate::Test] = &[("a_sink_that_can_read_a_dead_letter_stores_it", read_later)];

const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

fn number(world: &World, tenant: &str) -> String {
    world.clickhouse(&format!("SELECT DISTINCT tenant FROM tenant_{tenant}.events_raw")).concat()
}

fn unreadable(world: &World) {
    let tenant = world.tenant("garbled", "");
    tenant.post_many(world, "a", 3);
    tenant.shows(world, 3);
    let counts = format!("{}=4", number(world, "garbled"));
    let lane = Lane::Dedicated("garbled".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let publisher = Publisher::new(&crate::identity::connect(world, "tool").await);
        let (subject, headers) = (lane.packs_subject(), [(COUNTS_HEADER, counts.as_str())]);
        publisher.publish(&subject, &headers, "garbled", "rubbish".into(), ANSWERS_WITHIN).await.unwrap();
    });
    tenant.post_many(world, "b", 2);
    tenant.shows(world, 5);
    says(world, "garbled", r#""reason":"DeadLetters""#);
    says(world, "garbled", "4 are in packs that the sink cannot read");
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", "tenant/garbled"]);
}

/// What a sink leaves behind that could not read the lane's messages from its present position on: the next position, and a row
/// for each event.
fn give_up_on(world: &World, tenant: &TestTenant, events: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (epoch, seq, intent) = runtime.block_on(async {
        let client = crate::identity::connect(world, "tool").await;
        let bucket = Bucket::open(&client, INTENTS_BUCKET).await.unwrap();
        let entry = bucket.get(&tenant.name).await.unwrap().unwrap();
        let mut record: Value = serde_json::from_slice(&entry.value).unwrap();
        let (seq, intent) = (record["hi"].as_u64().unwrap() + 1, record["intent"].as_u64().unwrap() + 1);
        for (name, value) in [("lo", seq), ("hi", seq), ("intent", intent), ("events", events as u64)] {
            record[name] = json!(value);
        }
        record["state"] = json!("closed");
        bucket.update(&tenant.name, record.to_string().into(), entry.revision).await.unwrap();
        (record["epoch"].as_i64().unwrap(), seq, intent)
    });
    let (name, number) = (&tenant.name, number(world, &tenant.name));
    world.clickhouse(&format!(
        "INSERT INTO tenant_{name}.removed SELECT {number}, '{name}', {epoch}, {seq}, number, {intent}, 'dead', 0, now64(3), 0 \
         FROM numbers({events})"
    ));
}

fn read_later(world: &World) {
    let tenant = world.tenant("misread", "");
    tenant.post_many(world, "a", 5);
    tenant.shows(world, 5);
    says(world, "misread", r#""reason":"Reconciled""#);
    world.platform.kill9("sink").unwrap();
    let events: Vec<Value> = (0..3).map(|n| event(&format!("b{n}"), "login", "ann")).collect();
    assert_eq!(tenant.post(world, 0, &Value::Array(events)).status, 202, "one request, one pack");
    give_up_on(world, &tenant, 3);
    world.platform.start_part("sink").unwrap();
    says(world, "misread", "3 are in packs that the sink cannot read");
    assert_eq!(tenant.events_shown(world), 5);
    within(REPAIRED_WITHIN, "it is stored", || {
        let shown = tenant.events_shown(world);
        (shown == 8).then_some(()).ok_or(format!("{shown} events"))
    });
    says(world, "misread", r#""reason":"Reconciled""#);
}
