//! A quota ledger that is gone: its limits refuse until it is rebuilt from what is stored, and count on where they were.

use jetstream::{BucketSpec, Streams};
use system_tests::{TestTenant, World, event, eventually, within};

pub const CRASH_TESTS: &[crate::Test] = &[
    ("a_lost_ledger_is_rebuilt_to_the_unit", |world| rebuilt(world, "ledgerlost", false)),
    ("a_lost_ledger_is_rebuilt_by_an_operator_that_was_killed", |world| rebuilt(world, "ledgerlost2", true)),
];

const MAX: usize = 1_000;
const DAILY: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: daily, namespace: NAME}
spec: {per: Tenant, quota: {max: 1000, period: Day}}
";

/// What one event came to.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Admitted,
    Limited,
    Unavailable,
}

fn post(world: &World, tenant: &TestTenant, n: usize) -> Fate {
    let answer = tenant.post(world, n, &event(&format!("e{n}"), "login", "ann"));
    match answer.status {
        202 => Fate::Admitted,
        429 => Fate::Limited,
        503 => {
            let detail = answer.problem(503)["detail"].as_str().unwrap_or_default().to_owned();
            assert!(detail.contains("ledger"), "{detail}");
            Fate::Unavailable
        }
        other => panic!("{other}: {}", answer.body),
    }
}

/// Deletes every ledger of days by hand.
fn delete_ledgers(world: &World) {
    let config = world.nats_as("operator");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = jetstream::Client::connect(config).await.unwrap();
        for shard in 0..event::names::LEDGER_SHARDS {
            let stream = BucketSpec::stream_name(&event::names::ledger_bucket("day", shard));
            let state = client.observe(&stream).await;
            let stamp = state.present().and_then(|state| state.stamp.clone()).unwrap();
            client.delete(&stream, &stamp).await.unwrap();
        }
    });
}

fn enforced(world: &World, tenant: &TestTenant) -> String {
    let path = "--output=jsonpath={.status.conditions[?(@.type=='Enforced')].reason}";
    world.kubectl(&["get", "usagelimit", "daily", "--namespace", &tenant.name, path]).trim().to_owned()
}

fn rebuilt(world: &World, name: &str, kill: bool) {
    let tenant = world.tenant(name, "");
    // Some before the limit, some after: both are used.
    tenant.post_many(world, "before", 100);
    world.apply(&DAILY.replace("NAME", &tenant.name));
    eventually("the limit is enforced", || {
        let reason = enforced(world, &tenant);
        (reason == "Enforcing").then_some(()).ok_or(reason)
    });
    let admitted = (0..500).filter(|n| post(world, &tenant, *n) == Fate::Admitted).count();
    assert_eq!(admitted, 500);
    delete_ledgers(world);
    let (mut more, mut next, mut refused) = (0, 1_000, 0);
    within(std::time::Duration::from_secs(90), "the ledger is rebuilt", || {
        next += 1;
        match post(world, &tenant, next) {
            // Slices that pods held are good until policy stops naming their ledger.
            Fate::Admitted => {
                more += 1;
                (refused > 0 && enforced(world, &tenant) == "Enforcing")
                    .then_some(())
                    .ok_or("admitted".to_owned())
            }
            Fate::Unavailable => {
                refused += 1;
                if kill && refused == 1 {
                    world.platform.kill9("operator").unwrap();
                    world.platform.start_part("operator").unwrap();
                }
                Err(enforced(world, &tenant))
            }
            Fate::Limited => panic!("nothing says that it is used up: {admitted} + {more}"),
        }
    });
    assert!(refused > 0);
    eventually("the ledgers are remembered", || {
        let map = ["get", "configmap", "meterplane-ledgers", "--namespace", "meterplane-system"];
        let said = world.try_kubectl(&[&map[..], &["--output=jsonpath={.data.ledger-day-0}"]].concat())?;
        (said.trim().split(' ').count() == 2).then_some(()).ok_or(said)
    });
    for n in 2_000.. {
        match post(world, &tenant, n) {
            Fate::Admitted => more += 1,
            Fate::Limited if admitted + more + 100 >= MAX => break,
            other => panic!("{other:?} after {admitted} + {more}"),
        }
    }
    assert_eq!(admitted + more + 100, MAX, "neither one more nor one less");
    tenant.shows(world, MAX as u64);
}
