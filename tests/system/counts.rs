//! Counts add up, are told when they do not, and by whom nobody's word is taken for.

use event::Lane;
use event::audit::Audit;
use event::names::AUDITS_BUCKET;
use jetstream::Bucket;
use std::time::Duration;

use system_tests::{World, event, eventually, within};

pub const TESTS: &[crate::Test] =
    &[("every_event_is_accounted_for_and_a_missing_row_is_told_and_comes_back", audited)];

/// A lane is held for 40 s before anything of it is repaired, and an idle one is looked at every 20 s.
pub const REPAIRED_WITHIN: Duration = Duration::from_secs(90);

/// Part of the condition that says that counts add up; its type alone says nothing.
const RECONCILED: &str = r#""reason":"Reconciled""#;

/// Waits until the condition that counts add up says `what`.
pub fn says(world: &World, tenant: &str, what: &str) {
    within(REPAIRED_WITHIN, &format!("CountsReconciled says {what}"), || {
        let path = "--output=jsonpath={.status.conditions[?(@.type==\"CountsReconciled\")]}";
        let condition = world.try_kubectl(&["get", "tenant", tenant, path])?;
        condition.contains(what).then_some(()).ok_or(condition)
    });
}

/// The lane's audit; with `anew`, it begins anew.
fn audit(world: &World, lane: &str, anew: bool) -> Option<Audit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = crate::identity::connect(world, "tool").await;
        let bucket = Bucket::open(&client, AUDITS_BUCKET).await.unwrap();
        let entry = bucket.get(lane).await.unwrap()?;
        let found = Audit::decode(&entry.value)?;
        if anew {
            // The auditor may write meanwhile; then this is tried again.
            let first = Audit::first(found.epoch).encode().unwrap();
            bucket.update(lane, first.into(), entry.revision).await.ok()?;
        }
        Some(found)
    })
}

fn audited(world: &World) {
    let tenant = world.tenant("counted", "");
    assert_eq!(Lane::Dedicated("counted".parse().unwrap()).to_string(), "counted");
    tenant.post_many(world, "a", 50);
    // Repeats of earlier requests are packed and removed.
    tenant.post_many(world, "a", 20);
    for n in 0..3 {
        assert_eq!(tenant.post(world, n, &event(&format!("b{n}"), "login", "ann")).status, 202);
    }
    tenant.shows(world, 53);
    eventually("73 packed are 53 stored and 20 repeats", || {
        let audit = audit(world, "counted", false).ok_or("no audit yet")?;
        let sums = audit.total;
        let right = (sums.packed, sums.stored, sums.duplicates, sums.dead) == (73, 53, 20, 0);
        (right && audit.open.is_empty()).then_some(()).ok_or(format!("{audit:?}"))
    });
    says(world, "counted", RECONCILED);
    // A row disappears from what was never counted.
    world.clickhouse("CREATE TABLE tenant_counted.aside AS tenant_counted.events_raw");
    world.clickhouse(
        "INSERT INTO tenant_counted.aside SELECT * FROM tenant_counted.events_raw WHERE id = 'b1'",
    );
    world.clickhouse(
        "ALTER TABLE tenant_counted.events_raw DELETE WHERE id = 'b1' SETTINGS mutations_sync = 1",
    );
    eventually("the audit begins anew", || {
        audit(world, "counted", true).map(|_| ()).ok_or("busy".to_owned())
    });
    says(
        world,
        "counted",
        "73 events were packed, 52 are stored, 0 of them twice, 20 were repeats, 0 are dead",
    );
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", "tenant/counted"]);
    // It comes back from the stream, the same in all but its intent, and so does the condition.
    says(world, "counted", RECONCILED);
    tenant.shows(world, 53);
    let columns = "event_hash, time, received, data, lane, epoch, seq, idx, pack, incarnation, charges";
    let of = |table: &str| {
        world.clickhouse(&format!("SELECT {columns} FROM tenant_counted.{table} WHERE id = 'b1' FORMAT TSV"))
    };
    assert_eq!(of("events_raw"), of("aside"));
    // One row too many is told as well.
    world.clickhouse("INSERT INTO tenant_counted.events_raw SELECT * FROM tenant_counted.aside SETTINGS insert_deduplicate = 0");
    eventually("the audit begins anew", || {
        audit(world, "counted", true).map(|_| ()).ok_or("busy".to_owned())
    });
    says(world, "counted", "73 events were packed, 53 are stored, 1 of them twice");
}
