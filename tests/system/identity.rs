//! Every process runs with its own rights and no more.

use std::time::Duration;

use jetstream::{Bucket, Client, Config, Publisher};
use system_tests::{Call, World};

pub const TESTS: &[crate::Test] = &[
    ("ingest_can_neither_write_policy_nor_fences_nor_streams", nats),
    ("the_console_reads_only_views_in_clickhouse", clickhouse),
    ("the_apiserver_refuses_what_a_component_does_not_need", kubernetes),
];

fn nats(world: &World) {
    world.tenant("rights", "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect(world, "ingest").await;
        let publisher = Publisher::new(&client);
        let mut outcomes = Vec::new();
        for subject in [
            "$KV.policy.tenant.rights",
            "usage.rights.fence.x.0",
            "$KV.intents.rights",
            "$JS.API.STREAM.DELETE.USAGE_rights",
        ] {
            let answer = publisher.publish(subject, &[], "id", "x".into(), Duration::from_millis(500)).await;
            outcomes.push((subject, answer.is_err()));
        }
        assert!(outcomes.iter().all(|(_, refused)| *refused), "{outcomes:?}");
        let tool = connect(world, "tool").await;
        let policy =
            Bucket::open(&tool, "policy").await.unwrap().get("tenant.rights").await.unwrap().unwrap();
        assert_ne!(&policy.value[..], b"x", "the snapshot is untouched");
    });
}

pub async fn connect(world: &World, user: &str) -> Client {
    let password = world.platform.secrets().get(&format!("nats-{user}")).unwrap();
    let (url, name) = (world.urls.nats.clone(), "system-tests".to_owned());
    Client::connect(Config { url, user: user.into(), password: password.trim().into(), name }).await.unwrap()
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
