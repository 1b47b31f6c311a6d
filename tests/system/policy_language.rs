//! The policy language on the real parts: modes, access policies, ceilings, and what is refused with its field named.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{TestTenant, World, event, eventually, within};

pub const TESTS: &[crate::Test] = &[
    ("policy_modes_warn_observe_and_enforce_the_same_numbers", modes),
    ("policy_rollout_reaches_its_share_of_the_users_and_always_the_same", rollout),
    ("policy_of_access_refuses_warns_and_lets_pass", access),
    ("policy_that_is_wrong_costly_or_unclaimed_names_the_field_and_the_last_form_stays", refused),
    ("policy_status_tells_limits_and_pods", told),
];

/// Reason and message of a condition of an object.
fn condition(world: &World, object: &[&str], kind: &str) -> Result<(String, String), String> {
    let path = format!("--output=jsonpath={{.status.conditions[?(@.type==\"{kind}\")]}}");
    let text = world.try_kubectl(&[&["get"], object, &[&path]].concat())?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{kind}: {error}: {text}"))?;
    let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Ok((word("reason"), word("message")))
}

/// Waits until a condition has a reason, and returns its message.
fn says(world: &World, object: &[&str], kind: &str, reason: &str) -> String {
    eventually(&format!("{object:?} {kind}={reason}"), || {
        let (present, message) = condition(world, object, kind)?;
        (present == reason).then_some(message.clone()).ok_or(format!("{present}: {message}"))
    })
}

fn limit(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn enforced(world: &World, kind: &str, name: &str, namespace: &str, reason: &str) {
    world.kubectl(&[
        "wait",
        "--for=condition=Enforced",
        "--timeout=60s",
        "--namespace",
        namespace,
        &format!("{kind}/{name}"),
    ]);
    says(world, &[kind, name, "--namespace", namespace], "Enforced", reason);
}

fn send(world: &World, tenant: &TestTenant, id: &str, feature: &str) -> (u16, Value) {
    let answer = tenant.post(world, 0, &event(id, feature, "ann"));
    (answer.status, answer.json())
}

fn modes(world: &World) {
    let spec = |mode: &str| {
        format!("per: Tenant, match: {{features: [t]}}, quota: {{max: 3, period: Month}}, mode: {mode}")
    };
    let tenant = world.tenant("modes", &limit("three", "NAME", &spec("Observe")));
    let ns = tenant.name.as_str();
    enforced(world, "usagelimit", "three", ns, "Observing");
    for n in 0..4 {
        let (status, body) = send(world, &tenant, &format!("o{n}"), "t");
        assert_eq!((status, body.get("warnings")), (202, None), "an observed limit says nothing: {body}");
    }
    world.apply(&limit("three", ns, &spec("Warn")));
    enforced(world, "usagelimit", "three", ns, "Warning");
    // The three units that were observed are counted: the next event is beyond the limit, whatever the mode.
    let (status, body) = send(world, &tenant, "w", "t");
    assert_eq!(status, 202, "{body}");
    let warning = &body["warnings"][0];
    assert_eq!(
        (&warning["index"], &warning["limit"], &warning["code"]),
        (&json!(0), &json!("three"), &json!("plan_limit_exceeded")),
        "{body}"
    );
    world.apply(&limit("three", ns, &format!("{}, rolloutPercent: 0", spec("Enforce"))));
    eventually("a rollout to nobody refuses nobody", || {
        let status = condition(world, &["usagelimit", "three", "--namespace", ns], "Enforced")?;
        (status.0 == "Enforcing").then_some(()).ok_or(status.0)
    });
    assert_eq!(send(world, &tenant, "r", "t").0, 202);
    world.apply(&limit("three", ns, &spec("Enforce")));
    eventually("the enforced limit refuses", || {
        let (status, body) =
            send(world, &tenant, &format!("e{}", world.clickhouse("SELECT generateUUIDv4()")[0]), "t");
        (status == 429).then_some(()).ok_or(body.to_string())
    });
}

fn rollout(world: &World) {
    const USERS: usize = 200;
    let spec = |percent: u8| {
        format!("per: User, quota: {{max: 1, period: Month}}, mode: Enforce, rolloutPercent: {percent}")
    };
    let tenant = world.tenant("rollout", &limit("one", "NAME", &spec(30)));
    let ns = tenant.name.as_str();
    // One event of every user at one pod: which of them are refused.
    let refused = |round: &str, pod: usize| -> Vec<u64> {
        let events = (0..USERS).map(|n| event(&format!("{round}-{n}"), "login", &format!("user-{n}")));
        let answer = tenant.post(world, pod, &Value::Array(events.collect()));
        let body = answer.json();
        assert_eq!(answer.status, 202, "{body}");
        let refused = body["rejected"].as_array().unwrap().iter();
        refused.map(|item| item["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(refused("first", 0), [0; 0], "everybody has one unit");
    let at_30 = refused("second", 0);
    // 60 are expected; further away than 30 it comes once in a million times.
    assert!((30..=90).contains(&at_30.len()), "{} of {USERS}", at_30.len());
    assert_eq!(refused("third", 1), at_30, "the same at the other pod");
    assert_eq!(refused("fourth", 0), at_30, "and the next time");
    world.apply(&limit("one", ns, &spec(70)));
    let at_70 = eventually("the rollout goes on", || {
        let id = world.clickhouse("SELECT generateUUIDv4()")[0].clone();
        let now = refused(&id, 0);
        (now != at_30).then_some(now).ok_or("nobody is reached newly".to_owned())
    });
    assert!((110..=170).contains(&at_70.len()), "{} of {USERS}", at_70.len());
    assert!(at_30.iter().all(|user| at_70.contains(user)), "who was reached stays so");
}

fn access(world: &World) {
    let deny = "effect: Deny, rules: [{name: no-reports, match: {features: [report.*], expression: 'time.hour >= 0'}}]";
    let tenant = world.tenant("access", &policy("no-reports", "NAME", deny));
    let ns = tenant.name.as_str();
    enforced(world, "accesspolicy", "no-reports", ns, "Enforcing");
    let (status, body) = send(world, &tenant, "a", "report.export");
    assert_eq!((status, &body["type"]), (403, &json!("urn:meterplane:problem:access-denied")), "{body}");
    assert_eq!(
        (&body["policy"]["name"], &body["policy"]["rule"]),
        (&json!("no-reports"), &json!("no-reports")),
        "{body}"
    );
    assert_eq!(
        (&body["rejected"][0]["code"], &body["rejected"][0]["policy"]),
        (&json!("access_denied"), &json!("no-reports")),
        "{body}"
    );
    assert_eq!(send(world, &tenant, "b", "login").0, 202);
    // An allow policy takes away what it does not name, and gives nothing that is denied.
    world.apply(&policy(
        "only-ann",
        ns,
        "effect: Allow, rules: [{name: ann, match: {expression: \"event.subject == 'ann'\"}}]",
    ));
    enforced(world, "accesspolicy", "only-ann", ns, "Enforcing");
    let bob = tenant.post(world, 0, &event("c", "login", "bob"));
    assert_eq!((bob.status, &bob.json()["policy"]["name"]), (403, &json!("only-ann")), "{}", bob.body);
    assert_eq!((send(world, &tenant, "d", "login").0, send(world, &tenant, "e", "report.x").0), (202, 403));
    let table = world.kubectl(&["get", "mpa", "--namespace", ns]);
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "EFFECT", "RULES", "MODE", "ENFORCED", "READY", "REASON", "AGE"], "{table}");
    world.kubectl(&["delete", "accesspolicy", "only-ann", "--namespace", ns]);
    world.apply(&policy("no-reports", ns, &format!("{deny}, mode: Warn")));
    enforced(world, "accesspolicy", "no-reports", ns, "Warning");
    let (status, body) = send(world, &tenant, "f", "report.export");
    assert_eq!((status, &body["warnings"][0]["policy"]), (202, &json!("no-reports")), "{body}");
    tenant.shows(world, 3);
}

fn refused(world: &World) {
    world.apply("apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {name: bounded}\nspec: {isolation: Dedicated, limits: [{name: all, per: Tenant, quota: {max: 1000, period: Month}}], ceilings: {objects: {usageLimits: 2, accessPolicies: 1}, expressionCost: 4000}}\n");
    let good = "per: Tenant, match: {features: [t]}, quota: {max: 2, period: Month}";
    let tenant = world.tenant("refused", &limit("kept", "NAME", good));
    let ns = tenant.name.as_str();
    world.kubectl(&[
        "patch",
        "tenant",
        ns,
        "--type=merge",
        "--patch={\"spec\":{\"planRef\":{\"name\":\"bounded\"}}}",
    ]);
    let kept = ["usagelimit", "kept", "--namespace", ns];
    let expression = |text: &str| {
        format!(
            "per: Tenant, match: {{features: [t], expression: \"{text}\"}}, quota: {{max: 900, period: Month}}"
        )
    };
    let nested = "event.data.a.exists(x, event.data.b.exists(y, x == y))";
    let two = "event.data.a.exists(x, x == 1) || event.data.a.exists(x, x == 2)";
    for (text, reason, field) in [
        ("event.data.", "InvalidExpression", "spec.match.expression: is not CEL"),
        ("request.x == 1", "InvalidExpression", "spec.match.expression: refers to"),
        (nested, "InvalidExpression", "spec.match.expression: may take"),
        (two, "CeilingExceeded", "spec.match.expression: may take"),
        ("event.type.matches(event.data.p)", "InvalidExpression", "spec.match.expression: matches() needs"),
    ] {
        world.apply_past_the_webhook(&limit("kept", ns, &expression(text)));
        let message = eventually(text, || {
            let (present, message) = condition(world, &kept, "Accepted")?;
            (present == reason && message.starts_with(field))
                .then_some(message.clone())
                .ok_or(format!("{present}: {message}"))
        });
        assert!(message.starts_with(field), "{message}");
        assert!(says(world, &kept, "Programmed", reason).contains("stays in force"));
    }
    refused_at_once(world, ns);
    // The last accepted form is in force: two units, not nine hundred.
    assert_eq!(
        (0..4).map(|n| send(world, &tenant, &format!("k{n}"), "t").0).collect::<Vec<_>>(),
        [202, 202, 429, 429]
    );
    // Newest first, beyond the ceiling.
    world.apply(&limit("second", ns, good));
    says(world, &["usagelimit", "second", "--namespace", ns], "Accepted", "Accepted");
    within(Duration::from_secs(5), "the clock has moved on a second", || {
        let created = world.try_kubectl(&[
            "get",
            "usagelimit",
            "second",
            "--namespace",
            ns,
            "--output=jsonpath={.metadata.creationTimestamp}",
        ])?;
        let now = world.clickhouse("SELECT formatDateTime(now('UTC'), '%Y-%m-%dT%H:%i:%SZ')")[0].clone();
        (now > created).then_some(()).ok_or(now)
    });
    world.apply(&limit("a-third", ns, good));
    let message = says(world, &["usagelimit", "a-third", "--namespace", ns], "Accepted", "CeilingExceeded");
    assert!(message.contains("spec.ceilings.objects.usageLimits is 2"), "{message}");
    world.apply_past_the_webhook(&policy(
        "wrong",
        ns,
        "effect: Deny, rules: [{name: a, match: {expression: 'now > 1'}}]",
    ));
    let message = says(world, &["accesspolicy", "wrong", "--namespace", ns], "Accepted", "InvalidExpression");
    assert!(message.starts_with("spec.rules[0].match.expression: refers to"), "{message}");
    unclaimed(world, good);
}

/// In a namespace of nobody, a rule waits, and says for what.
fn unclaimed(world: &World, good: &str) {
    world.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: nobodys}\n");
    world.apply(&limit("idle", "nobodys", good));
    world.apply(&policy("idle", "nobodys", "effect: Deny, rules: [{name: all}]"));
    for kind in ["usagelimit", "accesspolicy"] {
        let message = says(world, &[kind, "idle", "--namespace", "nobodys"], "Ready", "WaitingForTenant");
        assert!(message.contains("namespace nobodys does not belong to a tenant"), "{message}");
    }
}

fn told(world: &World) {
    world.apply("apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {name: told}\nspec: {isolation: Dedicated, limits: [{name: all, per: Tenant, quota: {max: 1000, period: Month}}]}\n");
    let tenant =
        world.tenant("told", &limit("own", "NAME", "per: Tenant, quota: {max: 2000, period: Month}"));
    let ns = tenant.name.as_str();
    let patch = "--patch={\"spec\":{\"planRef\":{\"name\":\"told\"},\"overrides\":[{\"name\":\"all\",\"max\":1500,\"until\":\"2099-01-01T00:00:00Z\"}]}}";
    world.kubectl(&["patch", "tenant", ns, "--type=merge", patch]);
    let limits = eventually("the tenant's status lists its limits", || {
        let text = world.try_kubectl(&["get", "tenant", ns, "--output=jsonpath={.status.limits}"])?;
        let limits: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        (limits[0]["overriddenBy"] == "tenant/told").then_some(limits.clone()).ok_or(limits.to_string())
    });
    assert_eq!(
        (&limits[0]["max"], &limits[0]["source"], &limits[0]["until"]),
        (&json!(1500), &json!("plan/told"), &json!("2099-01-01T00:00:00Z")),
        "{limits}"
    );
    assert_eq!(
        (&limits[1]["max"], &limits[1]["source"]),
        (&json!(2000), &json!("usagelimit/told/own")),
        "{limits}"
    );
    says(world, &["usagelimit", "own", "--namespace", ns], "Effective", "LooserThanPlan");
    world.kubectl(&["wait", "--for=condition=Enforced", "--timeout=60s", "tenant/told"]);
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "dataplane/default"]);
    let table = world.kubectl(&["get", "mpdp"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PODS", "CURRENT", "LAGGING", "FENCED", "REVISION", "AGE"], "{table}");
    assert_eq!(rows[1][..2], ["default", "2"], "{table}");
}

/// The apiserver itself refuses what one object tells.
fn refused_at_once(world: &World, ns: &str) {
    for (spec, words) in [
        ("per: Tenant", "exactly one of quota and rate"),
        ("per: Tenant, quota: {max: 1, period: Day}, failureMode: Open", "failureMode"),
        ("per: Tenant, quota: {max: 1, period: Day}, rolloutPercent: 101", "rolloutPercent"),
    ] {
        let error = world.try_apply(&limit("other", ns, spec)).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
