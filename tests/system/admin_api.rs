//! What a tenant's admin reads, tries and writes through the console.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use system_tests::{Answer, Call, TestTenant, World, event, eventually};

pub const TESTS: &[crate::Test] = &[
    ("a_limit_written_through_the_console_is_a_resource_and_is_enforced", written),
    ("what_others_manage_is_answered_with_their_name_and_the_yaml", owned_elsewhere),
    ("the_apiservers_refusals_name_the_field", refused),
    ("an_access_policy_written_through_the_console_refuses", access),
    ("effective_limits_say_who_declared_them", effective),
    ("a_simulation_blocks_what_the_enforced_limit_blocked", simulated),
];

const ADMIN_KEY: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {name: admin, namespace: NAME}
spec: {scopes: [read, admin]}
";

/// A tenant and a key of its admin.
fn tenant(world: &World, name: &str, rules: &str) -> (TestTenant, String) {
    let tenant = world.tenant(name, &format!("{ADMIN_KEY}---{rules}"));
    let key = TestTenant::secret(world, name, "admin-apikey");
    eventually("the admin's key is known to the console", || {
        let answer = Call::get(world.console_url("/v1/admin/usage/limits")).key(&key).try_send()?;
        (answer.status == 200).then_some(()).ok_or(answer.body)
    });
    (tenant, key)
}

fn send(world: &World, method: fn(String) -> Call, path: &str, key: &str, body: &Value) -> Answer {
    let call = method(world.console_url(&format!("/v1/admin/{path}"))).key(key);
    call.body("application/json", body.to_string()).send()
}

fn daily(max: u64) -> Value {
    json!({"per": "User", "match": {"features": ["export.*"]}, "quota": {"max": max, "period": "Day"}})
}

fn written(world: &World) {
    let (tenant, key) = tenant(world, "adminwrites", "");
    let created =
        send(world, Call::post, "usage/limits", &key, &json!({"name": "exports", "spec": daily(2)}));
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.headers["location"], "/v1/admin/usage/limits/adminwrites.exports");
    send(world, Call::post, "usage/limits", &key, &json!({"name": "exports", "spec": daily(9)})).problem(409);
    // The read key of the dashboards writes nothing.
    let change = json!({"spec": daily(4)});
    send(world, Call::put, "usage/limits/adminwrites.exports", &tenant.read_key, &change).problem(403);

    let managers = "--output=jsonpath={.metadata.managedFields[?(@.operation=='Apply')].manager}";
    let name = "usagelimit.meterplane.io/exports";
    let managers =
        world.kubectl(&["get", name, "--namespace", "adminwrites", "--show-managed-fields", managers]);
    assert!(managers.split_whitespace().any(|manager| manager == "meterplane-console"), "{managers}");
    world.ready("adminwrites");
    let statuses: Vec<u16> =
        (0..4).map(|n| tenant.post(world, 0, &event(&format!("a{n}"), "export.pdf", "ann")).status).collect();
    assert_eq!(statuses, [202, 202, 429, 429]);

    let changed = send(world, Call::put, "usage/limits/adminwrites.exports", &key, &change);
    assert_eq!(
        (changed.status, &changed.json()["spec"]["quota"]["max"]),
        (200, &json!(4)),
        "{}",
        changed.body
    );
    let mut n = 10;
    eventually("the raised limit admits more", || {
        n += 1;
        let status = tenant.post(world, 0, &event(&format!("a{n}"), "export.pdf", "ann")).status;
        (status == 202).then_some(()).ok_or_else(|| status.to_string())
    });
    let listed = tenant.read(world, "/v1/admin/usage/limits").json();
    assert_eq!(listed["data"][0]["id"], "adminwrites.exports", "{listed}");

    let delete = |path: &str| Call::delete(world.console_url(path)).key(&key).send();
    assert_eq!(delete("/v1/admin/usage/limits/adminwrites.exports").status, 204);
    delete("/v1/admin/usage/limits/adminwrites.exports").problem(404);
    delete("/v1/admin/usage/limits/kube-system.exports").problem(404);
    send(world, Call::put, "usage/limits/default.exports", &key, &change).problem(404);
    let elsewhere = json!({"name": "x", "namespace": "default", "spec": daily(1)});
    let problem = send(world, Call::post, "usage/limits", &key, &elsewhere).problem(422);
    assert_eq!(problem["field"], "namespace");
}

fn owned_elsewhere(world: &World) {
    let rules = r#"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: mine, namespace: NAME}
spec: {per: User, quota: {max: 50, period: Day}}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata:
  name: argo
  namespace: NAME
  annotations: {argocd.argoproj.io/tracking-id: "shop:meterplane.io/UsageLimit:NAME/argo"}
spec: {per: User, quota: {max: 60, period: Day}}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata:
  name: flux
  namespace: NAME
  labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system}
spec: {per: User, quota: {max: 70, period: Day}}
"#;
    let (_, key) = tenant(world, "adminowned", rules);
    let change = json!({"spec": {"per": "User", "quota": {"max": 5, "period": "Day"}}});
    let put = |name: &str| send(world, Call::put, &format!("usage/limits/adminowned.{name}"), &key, &change);
    for (name, manager, field) in [
        ("mine", "xtask", ".spec.quota.max"),
        ("argo", "argocd-controller", "metadata"),
        ("flux", "kustomize-controller", "metadata"),
    ] {
        let problem = put(name).problem(409);
        assert!(problem["manager"].as_str().unwrap().starts_with(manager), "{problem}");
        assert_eq!(problem["field"], field, "{problem}");
        let yaml = problem["yaml"].as_str().unwrap();
        assert!(yaml.contains(&format!("name: {name}")) && yaml.contains("max: 5"), "{yaml}");
        let delete = world.console_url(&format!("/v1/admin/usage/limits/adminowned.{name}"));
        Call::delete(delete).key(&key).send().problem(409);
        let path = ["--output=jsonpath={.spec.quota.max}", "--namespace", "adminowned"];
        let max = world.kubectl(&[&["get", "usagelimit", name][..], &path].concat());
        assert_ne!(max.trim(), "5", "{name} was written");
    }
}

fn refused(world: &World) {
    let (_, key) = tenant(world, "adminrefused", "");
    let post = |name: &str, spec: Value| {
        send(world, Call::post, "usage/limits", &key, &json!({"name": name, "spec": spec}))
    };
    // Only the apiserver knows these rules: they stand in the resource type.
    let both =
        json!({"per": "User", "quota": {"max": 1, "period": "Day"}, "rate": {"max": 1, "period": "Second"}});
    let problem = post("both", both).problem(422);
    assert!(problem["field"].as_str().unwrap().starts_with("spec"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("exactly one of quota and rate"), "{problem}");
    let open = json!({"per": "User", "quota": {"max": 1, "period": "Day"}, "failureMode": "Open"});
    assert_eq!(post("open", open).problem(422)["field"], "spec.failureMode");
    // And these are immutable.
    assert_eq!(post("fixed", daily(3)).status, 201);
    let mut other = daily(3);
    other["per"] = json!("Tenant");
    let change = send(world, Call::put, "usage/limits/adminrefused.fixed", &key, &json!({"spec": other}));
    assert_eq!(change.problem(422)["field"], "spec.per");
}

fn access(world: &World) {
    let (tenant, key) = tenant(world, "adminaccess", "");
    let rules = json!([{"name": "no-exports", "match": {"features": ["export.*"]}}]);
    let body = json!({"name": "closed", "spec": {"effect": "Deny", "rules": rules}});
    let created = send(world, Call::post, "policies", &key, &body);
    assert_eq!((created.status, &created.json()["kind"]), (201, &json!("AccessPolicy")), "{}", created.body);
    send(world, Call::post, "policies", &key, &body).problem(409);
    let mut n = 0;
    eventually("the policy is in force", || {
        n += 1;
        let answer = tenant.post(world, 0, &event(&format!("e{n}"), "export.pdf", "ann"));
        (answer.status == 403 || answer.status == 429).then_some(()).ok_or(answer.body)
    });
    assert_eq!(tenant.post(world, 0, &event("login", "login", "ann")).status, 202);
    let rule = eventually("the refused attempt is on the dashboard", || {
        let answer = tenant.read(world, "/v1/dashboard/violations").json();
        answer["data"].get(0).cloned().ok_or_else(|| answer.to_string())
    });
    assert_eq!((&rule["kind"], &rule["effect"]), (&json!("Access"), &json!("Refused")), "{rule}");
    let limits = tenant.read(world, "/v1/dashboard/users/exceeded-limits").json();
    assert_eq!(limits["data"], json!([]), "an access policy is no limit");
}

fn effective(world: &World) {
    let (tenant, key) = tenant(world, "admineffective", "");
    assert_eq!(tenant.read(world, "/v1/admin/policies/effective").json()["limits"], json!([]));
    let created =
        send(world, Call::post, "usage/limits", &key, &json!({"name": "exports", "spec": daily(2)}));
    assert_eq!(created.status, 201, "{}", created.body);
    let limit = eventually("the limit is in force", || {
        let answer = tenant.read(world, "/v1/admin/policies/effective").json();
        let limit = answer["limits"].get(0).cloned();
        limit.ok_or_else(|| answer.to_string())
    });
    assert_eq!(
        (&limit["identity"], &limit["max"], &limit["window"], &limit["per"], &limit["looserThan"]),
        (&json!("ns.admineffective.exports"), &json!(2), &json!("Day"), &json!("User"), &Value::Null)
    );
    assert_eq!(
        limit["source"],
        json!({"kind": "UsageLimit", "namespace": "admineffective", "name": "exports", "generation": 1})
    );
}

/// The same events into a tenant without the limit and into one with it: what the simulation says of the first is what the
/// second refused.
fn simulated(world: &World) {
    let rule = |max: u64| {
        format!(
            r#"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {{name: pages, namespace: NAME}}
spec:
  per: User
  match: {{features: ["export.*"], expression: event.data.format == "pdf"}}
  measure: {{type: Sum, field: pages}}
  quota: {{max: {max}, period: Month}}
"#
        )
    };
    let (free, limited) = (world.tenant("simfree", ""), world.tenant("simlimited", &rule(40)));
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    for n in 0..120u64 {
        let (user, format) = (format!("user-{}", n % 7), if n % 5 == 0 { "csv" } else { "pdf" });
        let feature = if n % 11 == 0 { "login" } else { "export.report" };
        // Sizes differ, so that one that does not fit is followed by one that does.
        let data = json!({"format": format, "pages": (n * 7) % 13});
        let event = json!({"id": format!("e{n}"), "type": feature, "subject": user, "data": data});
        assert_eq!(free.post(world, 0, &event).status, 202);
        match limited.post(world, 0, &event).status {
            202 => {}
            429 => *refused.entry(user).or_default() += 1,
            status => panic!("{status}"),
        }
    }
    assert!(refused.len() >= 3, "the case shows something: {refused:?}");
    free.shows(world, 120);
    let spec = json!({
        "per": "User", "match": {"features": ["export.*"], "expression": "event.data.format == \"pdf\""},
        "measure": {"type": "Sum", "field": "pages"}, "quota": {"max": 40, "period": "Month"},
    });
    let simulate = |spec: &Value, days: u64| {
        let body = json!({"spec": spec, "days": days, "worst": 100});
        send(world, Call::post, "policies/simulate", &free.read_key, &body)
    };
    let answer = simulate(&spec, 7);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let outcome = answer.json();
    let blocked: BTreeMap<String, u64> = outcome["worstUsers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["userId"].as_str().unwrap().to_owned(), user["blockedEvents"].as_u64().unwrap()))
        .collect();
    assert_eq!(blocked, refused, "{outcome}");
    assert_eq!(outcome["blockedEvents"], json!(refused.values().sum::<u64>()), "{outcome}");
    assert_eq!(outcome["blockedUsers"], json!(refused.len()), "{outcome}");
    assert!(outcome["firstBlocked"].is_string(), "{outcome}");
    // A generous limit blocks nobody.
    let mut generous = spec.clone();
    generous["quota"]["max"] = json!("1k");
    assert_eq!(simulate(&generous, 7).json()["blockedEvents"], json!(0));
    let mut total = spec;
    total["quota"]["period"] = json!("Total");
    assert_eq!(simulate(&total, 7).problem(422)["field"], "spec.quota.period");
}
