//! The contract suites of the backends, which pass on the fakes, pass on the live parts, with rights of its own where one process does all of it.

use clickhouse::databases::contract::Drift;
use clickhouse::query_users::contract::Ability;
use system_tests::World;

pub const TESTS: &[crate::Test] = &[
    ("the_stream_contract_holds_on_nats", streams),
    ("the_fence_contract_holds_on_nats", fences),
    ("the_database_contract_holds_on_clickhouse", databases),
    ("the_query_user_contract_holds_on_clickhouse", query_users),
    ("the_key_contract_holds_on_vault", keys),
];

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

fn streams(world: &World) {
    let config = world.nats_as("operator");
    block_on(async {
        let client = jetstream::Client::connect(config).await.unwrap();
        jetstream::streams::contract::run(&client).await;
    });
}

/// With all rights: packs are a pod's, tombstones the operator's, streams too.
fn fences(world: &World) {
    let config = world.nats_as("tool");
    block_on(async {
        let client = jetstream::Client::connect(config).await.unwrap();
        jetstream::fence::contract::run(&client, 1).await;
    });
}

fn databases(world: &World) {
    let password = world.platform.secrets().get("clickhouse-operator").unwrap();
    let endpoint = clickhouse::Endpoint::new(&world.urls.clickhouse, "operator", password.trim()).unwrap();
    block_on(async {
        let live = clickhouse::databases::LiveDatabases::new(clickhouse::Client::new(endpoint));
        let drift = async |database: &str, drift: Drift| {
            world.clickhouse(&drift.sql(database));
        };
        clickhouse::databases::contract::run(&live, drift).await;
    });
}

/// As far as the server stores users: the library does not, and says so.
fn query_users(world: &World) {
    let password = world.platform.secrets().get("clickhouse-operator").unwrap();
    let endpoint = clickhouse::Endpoint::new(&world.urls.clickhouse, "operator", password.trim()).unwrap();
    block_on(async {
        let live = clickhouse::query_users::LiveQueryUsers::new(clickhouse::Client::new(endpoint));
        let ability = clickhouse::query_users::contract::run(&live).await;
        let stored =
            world.clickhouse("SELECT count() FROM system.user_directories WHERE type != 'users_xml'");
        let expected = if stored == ["0"] { Ability::NoStorage } else { Ability::Stores };
        assert_eq!(ability, expected);
    });
}

fn keys(world: &World) {
    let config = vault::Config {
        addr: world.urls.vault.clone(),
        ca_file: None,
        role: "operator".to_owned(),
        jwt_file: world.platform.secrets().path("vault-operator.jwt"),
        mount: "jwt".to_owned(),
    };
    block_on(async {
        vault::keys::contract::run(&vault::Client::new(config).unwrap()).await;
    });
}
