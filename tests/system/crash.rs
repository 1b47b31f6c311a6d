//! kill -9 of any of our processes while events flow: the totals are the same.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use system_tests::{Call, World, event};

pub const TESTS: &[crate::Test] = &[
    ("ingest_killed_while_events_flow", |world| killed(world, "ingest-1")),
    ("sink_killed_while_events_flow", |world| killed(world, "sink")),
    ("operator_killed_while_events_flow", |world| killed(world, "operator")),
    ("console_killed_while_events_flow", |world| killed(world, "console")),
    ("nats_killed_while_events_flow", |world| killed(world, "nats")),
    ("clickhouse_killed_while_events_flow", |world| killed(world, "clickhouse")),
];

/// Counted in memory: what NATS forgets when it is killed must be made anew, or nothing is admitted any more.
const RATE: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: rate, namespace: NAME}
spec: {per: Tenant, rate: {max: 100k, period: Second}}
";

const CLIENTS: usize = 4;
const BATCHES: usize = 60;
const BATCH: usize = 25;

/// Clients post every batch until it is acknowledged, repeating the same ids, while a process is killed twice.
fn killed(world: &World, part: &str) {
    let tenant = world.tenant(&format!("kill-{part}"), RATE);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let tenant = &tenant;
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let id = |n| format!("{client}-{batch}-{n}");
                        let events: Vec<Value> = (0..BATCH).map(|n| event(&id(n), "login", "ann")).collect();
                        let body = Value::Array(events).to_string();
                        let mut pod = client;
                        system_tests::eventually("the batch is acknowledged", || {
                            pod += 1;
                            let call = Call::post(world.events_url(pod)).key(&tenant.ingest_key);
                            let answer = call.body("application/json", body.as_str()).try_send()?;
                            (answer.status == 202).then_some(()).ok_or(answer.body)
                        });
                    }
                })
            })
            .collect();
        let done = &done;
        let killer = scope.spawn(move || {
            let mut kills = 0;
            while kills < 2 || (!done.load(Ordering::Relaxed) && kills < 4) {
                world.platform.kill9(part).unwrap();
                world.platform.start_part(part).unwrap();
                kills += 1;
            }
        });
        for client in clients {
            client.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        killer.join().unwrap();
    });
    tenant.shows(world, (CLIENTS * BATCHES * BATCH) as u64);
    let table = format!("tenant_{}", tenant.name.replace('-', "_"));
    let twice = format!("SELECT count() - uniqExact(event_hash) FROM {table}.events_raw");
    assert_eq!(world.clickhouse(&twice), ["0"], "stored twice");
}
