//! Deleting a tenant never loses data unless it was asked for twice, and what was kept can come back.

use std::time::Duration;

use system_tests::{TestTenant, World, event, eventually, within};

pub const TESTS: &[crate::Test] = &[
    ("retained_data_come_back_when_asked_for", retain),
    ("deleting_for_good_needs_confirmation_and_removes_all", delete),
];

fn exists(world: &World, name: &str) -> bool {
    world.clickhouse(&format!("SELECT count() FROM system.databases WHERE name = 'tenant_{name}'")) == ["1"]
}

fn tenant(name: &str, more: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{displayName: Test {name}, planRef: {{name: open}}, namespaces: [{name}]{more}}}"
    )
}

fn gone(world: &World, name: &str) {
    within(Duration::from_secs(60), "the tenant is gone", || {
        match world.try_kubectl(&["get", "tenant", name]) {
            Err(error) if error.contains("NotFound") || error.contains("not found") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn retain(world: &World) {
    let name = "retained";
    let first = world.tenant(name, "");
    first.post_many(world, "a", 10);
    first.shows(world, 10);
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    gone(world, name);
    assert!(exists(world, name), "the data stay");
    eventually("its keys are revoked", || {
        let answer = first.post(world, 0, &event("late", "login", "ann"));
        (answer.status == 401).then_some(()).ok_or(answer.body)
    });
    // A new tenant of that name finds the data and stops, with the way out in its message.
    world.apply(&tenant(name, ""));
    let message = eventually("the new tenant is stopped", || {
        let accepted = "--output=jsonpath={.status.conditions[?(@.type==\"Accepted\")]}";
        let condition = world.try_kubectl(&["get", "tenant", name, accepted])?;
        condition.contains("RetainedDataExists").then_some(condition.clone()).ok_or(condition)
    });
    assert!(message.contains("adoption"), "{message}");
    world.apply(&tenant(name, ", adoption: Released"));
    world.ready(name);
    let again = eventually("the tenant's keys work again", || {
        let tenant =
            TestTenant { ingest_key: TestTenant::secret(world, name, "app-apikey"), ..first.clone() };
        let tenant = TestTenant { read_key: TestTenant::secret(world, name, "dashboard-apikey"), ..tenant };
        let answer = tenant.read(world, "/v1/dashboard/summary");
        (answer.status == 200).then_some(tenant).ok_or(answer.body)
    });
    again.shows(world, 10);
    eventually("new events are accepted", || {
        let answer = again.post(world, 0, &event("new", "login", "ann"));
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    // The lineage is the same, so ids are too.
    again.post_many(world, "a", 10);
    again.shows(world, 11);
}

fn delete(world: &World) {
    let name = "deleted";
    let first = world.tenant(name, "");
    world.apply(&tenant(name, ", deletionPolicy: Delete, deletionGrace: 2s"));
    first.post_many(world, "a", 10);
    first.shows(world, 10);
    let refused = world.try_kubectl(&["delete", "tenant", name, "--wait=false"]).unwrap_err();
    assert!(refused.contains("confirm-deletion"), "{refused}");
    assert!(exists(world, name));
    world.kubectl(&["annotate", "tenant", name, &format!("meterplane.io/confirm-deletion={name}")]);
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    gone(world, name);
    assert!(!exists(world, name), "database, stream and key are gone");
    // The name is free for another tenant, which sees nothing of the old one.
    world.apply(&tenant(name, ""));
    world.ready(name);
    let fresh = eventually("the new tenant's keys work", || {
        let tenant =
            TestTenant { ingest_key: TestTenant::secret(world, name, "app-apikey"), ..first.clone() };
        let tenant = TestTenant { read_key: TestTenant::secret(world, name, "dashboard-apikey"), ..tenant };
        let answer = tenant.read(world, "/v1/dashboard/summary");
        (answer.status == 200).then_some(tenant).ok_or(answer.body)
    });
    assert_eq!(fresh.events_shown(world), 0);
    eventually("its events are accepted", || {
        let answer = fresh.post(world, 1, &event("a-0", "login", "ann"));
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    fresh.shows(world, 1);
}
