//! What a newcomer applies works as written.

use system_tests::World;

pub const TESTS: &[crate::Test] = &[("quickstart_tenants_are_ready_with_lane_database_and_key", ready)];

fn ready(world: &World) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    world.kubectl(&["apply", "--server-side", "--filename", folder]);
    for tenant in ["acme", "wayne-enterprises"] {
        world.ready(tenant);
        let status = world.kubectl(&["get", "tenant", tenant, "--output=jsonpath={.status}"]);
        for name in [
            format!("USAGE_{tenant}"),
            format!("tenant_{}", tenant.replace('-', "_")),
            format!("mp-{tenant}"),
        ] {
            assert!(status.contains(&name), "the status names {name}: {status}");
        }
    }
    // The server says of itself that it writes through.
    world.kubectl(&["wait", "--for=condition=Durable", "--timeout=60s", "tenant/acme"]);
    let table = world.kubectl(&["get", "mpt"]);
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        header,
        ["NAME", "PLAN", "ISOLATION", "READY", "ENFORCED", "COUNTS", "REASON", "AGE"],
        "{table}"
    );
    let acme = table.lines().find(|line| line.starts_with("acme")).unwrap();
    assert_eq!(
        acme.split_whitespace().take(4).collect::<Vec<_>>(),
        ["acme", "pro", "Dedicated", "True"],
        "{table}"
    );
}
