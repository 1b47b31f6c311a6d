//! Everything over TLS, with an authority of one's own, and passwords that change while everybody works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clickhouse::ClickHouseError;
use clickhouse::error::code::AUTHENTICATION_FAILED;
use system_tests::encrypted::{Encrypted, authority};
use system_tests::{World, eventually, within};
use xtask::platform::workloads::ALL;

pub const TESTS: &[crate::Test] = &[
    ("nats_clickhouse_and_vault_over_tls_with_an_authority_of_ones_own", |_| encrypted()),
    ("authorities_that_nobody_would_ask_are_refused_in_a_sentence", |_| unasked()),
    ("changed_passwords_are_taken_without_a_restart", |world| passwords(world)),
];

fn encrypted() {
    let platform = Encrypted::start("tls");
    let world = &platform.world;
    let tenant = world.tenant("sealed", "");
    tenant.post_many(world, "first", 20);
    tenant.shows(world, 20);

    let wrong = platform.authority.with_file_name("wrong.pem");
    fs::write(&wrong, authority("nobody").pem()).unwrap();
    block_on(refused_by_name(&platform, &wrong));

    // The same for processes that run: their next connection is judged by the file as it stands then.
    let right = fs::read(&platform.authority).unwrap();
    let pids = pids(world);
    replace(&platform.authority, &fs::read(&wrong).unwrap());
    world.platform.restart("nats").unwrap();
    for part in ALL {
        let said =
            format!("not good by the authorities of MP_NATS_CA_FILE ({})", platform.authority.display());
        within(Duration::from_secs(30), &format!("{part} says whom it does not believe"), || {
            let log = fs::read_to_string(world.platform.log(part)).unwrap();
            log.contains(&said).then_some(()).ok_or("it does not say so".to_owned())
        });
    }
    assert_ne!(tenant.post(world, 0, &system_tests::event("lost", "login", "ann")).status, 202);
    replace(&platform.authority, &right);
    posts_again(world, &tenant, "second");
    assert_eq!(self::pids(world), pids, "nobody was restarted");
    assert_eq!(world.platform.crashes().len(), 0);
}

/// Clients that believe another authority say which setting names it; those that believe the right one go through.
async fn refused_by_name(platform: &Encrypted, wrong: &Path) {
    let secrets = platform.world.platform.secrets();
    let key = secrets.path("clickhouse-operator");
    let ping = async |ca_file: &Path| {
        let server = clickhouse::Server::new(&platform.clickhouse, Some(ca_file)).unwrap();
        clickhouse::Client::new(server.endpoint_of("operator", &key).unwrap()).ping().await
    };
    assert_eq!(ping(&platform.authority).await, Ok(()));
    let error = ping(wrong).await.unwrap_err();
    assert!(matches!(&error, ClickHouseError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains(&format!("MP_CLICKHOUSE_CA_FILE ({})", wrong.display())), "{error}");

    let check = async |ca_file: &Path| {
        let config = vault::Config {
            addr: platform.vault.clone(),
            ca_file: Some(ca_file.to_owned()),
            role: "operator".to_owned(),
            jwt_file: secrets.path("vault-operator.jwt"),
            mount: "jwt".to_owned(),
        };
        vault::Client::new(config).unwrap().check().await
    };
    assert_eq!(check(&platform.authority).await, Ok(()));
    let error = check(wrong).await.unwrap_err().to_string();
    assert!(error.contains(&format!("MP_VAULT_CA_FILE ({})", wrong.display())), "{error}");
}

/// At a plain address nobody shows a certificate: whoever names authorities believes that the way is encrypted.
fn unasked() {
    let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug");
    for program in ["sink", "ingest"] {
        let mut command = Command::new(bins.join(program));
        for name in ["LISTEN", "ADMIN_LISTEN"] {
            command.env(format!("MP_{name}"), "127.0.0.1:0");
        }
        for name in ["NATS_USER", "CLICKHOUSE_USER", "VAULT_ROLE"] {
            command.env(format!("MP_{name}"), program);
        }
        for name in ["NATS_PASSWORD_FILE", "CLICKHOUSE_PASSWORD_FILE", "VAULT_JWT_FILE", "TRUST_FILE"] {
            command.env(format!("MP_{name}"), "/dev/null");
        }
        command.env("MP_CLICKHOUSE_URL", "http://127.0.0.1:1").env("MP_VAULT_ADDR", "http://127.0.0.1:1");
        command.env("MP_NATS_URL", "nats://127.0.0.1:1").env("MP_NATS_CA_FILE", "/ca.pem");
        let ended = command.env("NO_COLOR", "1").output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{program}: {said}");
        let sentence = "MP_NATS_CA_FILE is set, but MP_NATS_URL is a plain address: write tls:// there";
        assert!(said.contains(sentence), "{program}: {said}");
    }
}

fn passwords(world: &World) {
    let tenant = world.tenant("rotated", "");
    tenant.post_many(world, "before", 5);
    tenant.shows(world, 5);
    let pids = pids(world);
    let secrets = world.platform.secrets();
    let old = secrets.path("old-clickhouse-password");
    fs::copy(secrets.path("clickhouse-sink"), &old).unwrap();
    for user in ["operator", "ingest", "sink", "console"] {
        secrets.put(&format!("nats-{user}"), &format!("another-{user}")).unwrap();
    }
    for user in ["operator", "sink", "console"] {
        secrets.put(&format!("clickhouse-{user}"), &format!("another-{user}")).unwrap();
    }
    // Both read their users when they start.
    world.platform.restart("nats").unwrap();
    world.platform.restart("clickhouse").unwrap();
    let endpoint = clickhouse::Server::new(&world.urls.clickhouse, None).unwrap().endpoint_of("sink", &old);
    let refused = block_on(clickhouse::Client::new(endpoint.unwrap()).ping()).unwrap_err();
    assert_eq!(
        refused.code(),
        Some(AUTHENTICATION_FAILED),
        "the old password is good for nothing: {refused}"
    );
    posts_again(world, &tenant, "after");
    // The operator too: a tenant asks it for a stream and a database.
    world.tenant("rotated-next", "").post_many(world, "next", 1);
    assert_eq!(self::pids(world), pids, "nobody was restarted");
}

/// Five events get through to the dashboard, whatever was shown before.
fn posts_again(world: &World, tenant: &system_tests::TestTenant, prefix: &str) {
    let before = eventually("the dashboard answers", || {
        let answer = tenant.read(world, "/v1/dashboard/summary");
        (answer.status == 200).then(|| answer.json()["events"].as_u64().unwrap()).ok_or(answer.body)
    });
    for n in 0..5 {
        let event = system_tests::event(&format!("{prefix}-{n}"), "login", "ann");
        eventually("an event is accepted", || {
            let answer = tenant.post(world, n, &event);
            (answer.status == 202).then_some(()).ok_or(answer.body)
        });
    }
    tenant.shows(world, before + 5);
}

fn pids(world: &World) -> Vec<u32> {
    ALL.iter().map(|part| world.platform.pid(part).unwrap()).collect()
}

/// As the kubelet does: the old content or the new one, never a part.
fn replace(path: &Path, content: &[u8]) {
    let next: PathBuf = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(next, path).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
