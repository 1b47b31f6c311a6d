//! Every process runs with its own rights and no more.

use std::collections::BTreeSet;
use std::time::Duration;

use jetstream::{Client, Publisher, Streams};
use system_tests::{Call, World};

/// How long an answer is waited for that must not come.
const WALL: Duration = Duration::from_millis(300);

pub const TESTS: &[crate::Test] = &[
    ("no_component_writes_what_is_anothers_in_nats", nats),
    ("the_console_reads_tenants_and_nothing_else_in_clickhouse", clickhouse),
    ("the_apiserver_refuses_what_a_component_does_not_need", kubernetes),
];

/// What others may publish, and this component must not: an acknowledgement would come if it were let through.
const WALLS: [(&str, &[&str]); 4] = [
    (
        "ingest",
        &[
            "$KV.policy.wall",
            "$KV.intents.wall",
            "$KV.leases.wall",
            "$KV.audits.wall",
            "usage.rights.fence.wall.0",
        ],
    ),
    ("sink", &["$KV.policy.wall", "$KV.pods.wall", "$KV.ledger-day-0.wall", "usage.rights.fence.wall.0"]),
    ("operator", &["$KV.intents.wall", "$KV.leases.wall", "$KV.audits.wall", "$KV.pods.wall"]),
    (
        "console",
        &[
            "$KV.policy.wall",
            "$KV.intents.wall",
            "$KV.audits.wall",
            "$KV.pods.wall",
            "$KV.ledger-day-0.wall",
            "usage.rights.fence.wall.0",
        ],
    ),
];

fn nats(world: &World) {
    world.tenant("rights", "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (user, subjects) in WALLS {
            let client = connect(world, user).await;
            let publisher = Publisher::new(&client);
            for subject in subjects {
                let answer = publisher.publish(subject, &[], "id", "x".into(), WALL).await;
                assert!(answer.is_err(), "{user} publishes to {subject}: {answer:?}");
            }
            if user != "operator" {
                let delete = "$JS.API.STREAM.DELETE.USAGE_rights";
                assert!(publisher.publish(delete, &[], "id", "".into(), WALL).await.is_err());
            }
        }
        let tool = connect(world, "tool").await;
        assert!(tool.last_sequence("USAGE_rights").await.is_ok(), "the lane is still there");
        // It is for the rights alone that nobody answered.
        let publisher = Publisher::new(&tool);
        let subjects: BTreeSet<&str> =
            WALLS.iter().flat_map(|(_, subjects)| subjects.iter().copied()).collect();
        for subject in subjects {
            let answer = publisher.publish(subject, &[], subject, "x".into(), Duration::from_secs(5)).await;
            assert!(answer.is_ok(), "{subject}: {answer:?}");
        }
    });
}

pub async fn connect(world: &World, user: &str) -> Client {
    Client::connect(world.nats_as(user)).await.unwrap()
}

fn clickhouse(world: &World) {
    let tenant = world.tenant("views", "");
    tenant.post_many(world, "v", 1);
    tenant.shows(world, 1);
    let password = world.platform.secrets().get("clickhouse-console").unwrap();
    let ask = |sql: &str| {
        Call::post(&world.urls.clickhouse)
            .header("X-ClickHouse-User", "console")
            .header("X-ClickHouse-Key", password.trim())
            .bare_body(sql)
            .send()
    };
    assert_eq!(ask("SELECT count() FROM tenant_views.events").body.trim(), "1");
    for sql in [
        "INSERT INTO tenant_views.events_raw (tenant) VALUES (1)",
        "DROP DATABASE tenant_views",
        "TRUNCATE TABLE tenant_views.events_raw",
        "CREATE DATABASE mine",
        // What others do, and what lies outside.
        "SELECT count() FROM system.processes",
        "SELECT name FROM system.users",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1', 'system', 'one')",
        "SELECT 1 SETTINGS readonly = 0",
        "SYSTEM SHUTDOWN",
        "CREATE USER somebody",
    ] {
        let answer = ask(sql);
        assert_ne!(answer.status, 200, "{sql} is refused");
        assert!(
            answer.body.contains("ACCESS_DENIED") || answer.body.contains("READONLY"),
            "{sql}: {}",
            answer.body
        );
    }
}

fn kubernetes(world: &World) {
    let can = |account: &str, verb: &str, what: &str| {
        let account = format!("--as=system:serviceaccount:meterplane-system:{account}");
        world
            .try_kubectl(&["auth", "can-i", verb, what, "--all-namespaces", &account])
            .is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(
        can("operator", "list", "tenants.meterplane.io")
            && can("operator", "patch", "tenants.meterplane.io/status")
    );
    for (account, verb, what) in [
        ("operator", "list", "secrets"),
        ("operator", "get", "secrets"),
        ("operator", "delete", "tenants.meterplane.io"),
        ("operator", "create", "pods"),
        ("ingest", "get", "tenants.meterplane.io"),
        ("sink", "get", "tenants.meterplane.io"),
        ("console", "get", "secrets"),
        ("console", "delete", "tenants.meterplane.io"),
    ] {
        assert!(!can(account, verb, what), "{account} must not {verb} {what}");
    }
}
