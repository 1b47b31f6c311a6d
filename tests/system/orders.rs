//! What annotations ask of the operator: to keep its hands off, only to look, to look now; and who changed what.

use serde_json::Value;
use system_tests::{World, event, eventually};

pub const TESTS: &[crate::Test] = &[
    ("a_paused_tenant_is_not_repaired_and_its_limits_hold", paused),
    ("an_observed_tenant_tells_what_differs", observed),
    ("orders_that_mean_nothing_are_refused", refused),
    ("every_change_says_who_made_it", attributed),
];

fn condition(world: &World, kind: &str, name: &str, of: &str) -> Value {
    let json = world.kubectl(&["get", kind, name, "--output=json"]);
    let object: Value = serde_json::from_str(&json).unwrap();
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == of).unwrap_or_default()
}

/// Changes a tenant's view behind the operator's back, and says how one sees that it was put right.
fn break_view(world: &World, name: &str) {
    world.clickhouse(&format!("DROP VIEW tenant_{name}.violations"));
}

fn has_view(world: &World, name: &str) -> bool {
    let sql =
        format!("SELECT count() FROM system.tables WHERE database = 'tenant_{name}' AND name = 'violations'");
    world.clickhouse(&sql) == ["1"]
}

fn annotate(world: &World, name: &str, what: &str) {
    world.kubectl(&["annotate", "--overwrite", "tenant", name, &format!("meterplane.io/{what}")]);
}

/// Asks for a look now, and waits for the answer in the status.
fn look_now(world: &World, name: &str, token: &str) {
    annotate(world, name, &format!("reconcile-at={token}"));
    eventually("the look is answered", || {
        let path = "--output=jsonpath={.status.lastHandledReconcileAt}";
        let said = world.try_kubectl(&["get", "tenant", name, path])?;
        (said.trim() == token).then_some(()).ok_or(said)
    });
}

fn paused(world: &World) {
    let name = "orderpaused";
    let tenant = world.tenant(name, "");
    annotate(world, name, "reconcile=paused");
    eventually("it is paused", || {
        let paused = condition(world, "tenant", name, "Paused");
        (paused["status"] == "True").then_some(()).ok_or(paused.to_string())
    });
    break_view(world, name);
    look_now(world, name, "1");
    assert!(!has_view(world, name), "nobody looked");
    assert_eq!(condition(world, "tenant", name, "Ready")["status"], "True");
    let limit = "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {name: one, namespace: NAME}\n\
                 spec: {per: User, quota: {max: 1, period: Day}, countFrom: Creation}";
    world.apply(&limit.replace("NAME", name));
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "--namespace", name, "usagelimit/one"]);
    assert_eq!(tenant.post(world, 0, &event("a", "login", "ann")).status, 202);
    assert_eq!(tenant.post(world, 0, &event("b", "login", "ann")).status, 429, "limits go on");
    let key = [
        "patch",
        "apikey",
        "app",
        "--namespace",
        name,
        "--type=merge",
        "--patch",
        r#"{"spec":{"suspend":true}}"#,
    ];
    world.kubectl(&key);
    eventually("a revocation is not delayed", || {
        let answer = tenant.post(world, 0, &event("c", "login", "bob"));
        (answer.status == 401).then_some(()).ok_or(answer.body)
    });
    annotate(world, name, "reconcile-");
    eventually("it is repaired", || has_view(world, name).then_some(()).ok_or("the view is gone".to_owned()));
    assert_eq!(condition(world, "tenant", name, "Paused"), Value::Null);
}

fn observed(world: &World) {
    let name = "orderobserved";
    world.tenant(name, "");
    annotate(world, name, "reconcile=observe");
    break_view(world, name);
    look_now(world, name, "1");
    let drifted = condition(world, "tenant", name, "Drifted");
    assert_eq!(drifted["status"], "True", "{drifted}");
    assert!(drifted["message"].as_str().unwrap().contains("Violations"), "{drifted}");
    assert!(!has_view(world, name), "it was only looked at");
    eventually("an Event tells it", || {
        let fields = format!("--field-selector=involvedObject.name={name},reason=Drifted");
        let events =
            world.try_kubectl(&["get", "events", "--namespace=default", &fields, "--output=name"])?;
        (events.lines().count() == 1).then_some(()).ok_or(events)
    });
    annotate(world, name, "reconcile-");
    eventually("it is repaired", || has_view(world, name).then_some(()).ok_or("the view is gone".to_owned()));
    eventually("and says so", || {
        let drifted = condition(world, "tenant", name, "Drifted");
        (drifted["status"] == "False").then_some(()).ok_or(drifted.to_string())
    });
    // What a person breaks is put right within the resync period, or at once when somebody asks.
    break_view(world, name);
    look_now(world, name, "2");
    assert!(has_view(world, name), "it is repaired before the look is answered");
}

fn refused(world: &World) {
    let name = "orderrefused";
    world.tenant(name, "");
    let annotate = |kind: &str, object: &str, what: &str| {
        world
            .try_kubectl(&["annotate", kind, object, "--namespace", name, &format!("meterplane.io/{what}")])
            .unwrap_err()
    };
    assert!(annotate("tenant", name, "reconcile=stop").contains("paused"), "it names the values");
    assert!(annotate("apikey", "app", "reconcile=paused").contains("Tenants and LanePools"));
    assert!(annotate("tenant", name, &format!("reconcile-at={}", "x".repeat(65))).contains("64"));
}

fn attributed(world: &World) {
    let name = "orderwho";
    world.tenant(name, "");
    let who = || {
        let path = r"--output=jsonpath={.metadata.annotations.meterplane\.io/changed-by}";
        world.kubectl(&["get", "tenant", name, path]).trim().to_owned()
    };
    assert_eq!(who(), "admin", "whoever made it, not the operator that wrote its finalizer since");
    let forged = world
        .try_kubectl(&["annotate", "--overwrite", "tenant", name, "meterplane.io/changed-by=somebody"])
        .map(|_| who());
    assert_ne!(forged.as_deref(), Ok("somebody"), "nobody speaks for another");
}
