//! What users of good operators take for granted, kind by kind: docs/operator-checks.md lists it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::{Call, TestTenant, World, event, eventually, holds_for, within};

pub const TESTS: &[crate::Test] = &[
    ("a_changed_spec_is_observed_by_status_and_every_condition", observed),
    ("what_is_wrong_is_said_within_seconds", wrong),
    ("a_tenant_that_was_never_placed_goes_at_once", never_placed),
    ("nothing_is_made_anew_for_what_is_going", going),
    ("kubectl_lists_explains_and_shows_every_kind", kubectl),
    ("a_key_is_replaced_when_its_serial_is_raised", rotated),
    ("metrics_have_the_names_that_dashboards_know", metrics),
    ("every_program_tells_what_it_holds_and_waits_for", debug_state),
    ("people_may_do_what_their_role_says_and_no_more", personas),
];
pub const ALONE: &[crate::Test] = &[
    ("a_restored_tenant_takes_its_data_over_when_asked", restored),
    ("a_tenant_that_keeps_its_data_goes_without_clickhouse", gone_without),
    ("an_object_that_cannot_be_read_stops_nobody_else", unreadable),
];
/// Run after all others, whose logs and objects it searches.
pub const LAST_TESTS: &[crate::Test] = &[("no_secret_stands_in_a_log_a_status_or_a_metric", secrets)];

const KINDS: [&str; 7] =
    ["plans", "tenants", "lanepools", "dataplanes", "usagelimits", "accesspolicies", "apikeys"];

fn get(world: &World, path: &[&str]) -> Value {
    let json = world.kubectl(&[&["get", "--output=json"][..], path].concat());
    serde_json::from_str(&json).unwrap()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

fn is_gone(world: &World, path: &[&str], limit: Duration) {
    within(limit, &format!("{path:?} is gone"), || match world.try_kubectl(&[&["get"][..], path].concat()) {
        Err(error) if error.contains("NotFound") || error.contains("not found") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn tenant_yaml(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn observed(world: &World) {
    let name = "confgen";
    let rules = "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {name: daily, namespace: NAME}\n\
                 spec: {per: User, quota: {max: 50, period: Day}}\n---\n\
                 apiVersion: meterplane.io/v1alpha1\nkind: AccessPolicy\nmetadata: {name: night, namespace: NAME}\n\
                 spec: {effect: Deny, rules: [{name: night, match: {features: [night]}}]}";
    let plan = "apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {name: confplan}\nspec: {isolation: Dedicated}";
    world.apply(plan);
    world.tenant_on("confplan", name, rules);
    let changes: [(&[&str], Value); 5] = [
        (&["tenant", name], json!({"displayName": "Other"})),
        (&["plan", "confplan"], json!({"displayName": "Other"})),
        (&["usagelimit", "daily", "--namespace", name], json!({"warnAt": [50]})),
        (&["accesspolicy", "night", "--namespace", name], json!({"mode": "Observe"})),
        (&["apikey", "app", "--namespace", name], json!({"scopes": ["ingest", "read"]})),
    ];
    for (path, spec) in changes {
        let patch = json!({"spec": spec}).to_string();
        world.kubectl(&[&["patch", "--type=merge", "--patch", &patch][..], path].concat());
        eventually(&format!("{path:?} is observed"), || {
            let object = get(world, path);
            let generation = &object["metadata"]["generation"];
            assert_ne!(generation, &json!(1), "the change is one");
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let old: Vec<&Value> =
                conditions.iter().filter(|c| &c["observedGeneration"] != generation).collect();
            let current = &object["status"]["observedGeneration"] == generation;
            let ready = condition(&object, "Ready")["status"] == "True";
            (current && old.is_empty() && ready).then_some(()).ok_or(format!("{}", object["status"]))
        });
    }
}

fn wrong(world: &World) {
    let name = "confwrong";
    world.tenant(name, "");
    let limit = "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {name: bad, namespace: NAME}\n\
                 spec: {per: User, match: {expression: \"event.data.\"}, quota: {max: 50, period: Day}}";
    world.apply_past_the_webhook(&limit.replace("NAME", name));
    let began = Instant::now();
    world.kubectl(&[
        "wait",
        "--for=condition=Stalled",
        "--timeout=5s",
        "--namespace",
        name,
        "usagelimit/bad",
    ]);
    assert!(began.elapsed() < Duration::from_secs(6));
    let stalled = get(world, &["usagelimit", "bad", "--namespace", name]);
    assert_eq!(condition(&stalled, "Accepted")["status"], "False");
    assert!(condition(&stalled, "Stalled")["message"].as_str().unwrap().contains("spec.match.expression"));
    // Whoever is wrong waits for a change: nobody looks again and again.
    let written = &stalled["metadata"]["resourceVersion"];
    holds_for(Duration::from_secs(5), "it is left alone", || {
        let later = get(world, &["usagelimit", "bad", "--namespace", name]);
        (later["metadata"]["resourceVersion"] == *written).then_some(()).ok_or(later["status"].to_string())
    });
}

fn never_placed(world: &World) {
    let name = "confnever";
    world.apply(&tenant_yaml(name, "planRef: {name: there-is-no-such-plan}"));
    eventually("it waits", || {
        let tenant = get(world, &["tenant", name]);
        (condition(&tenant, "Reconciling")["status"] == "True")
            .then_some(())
            .ok_or(tenant["status"].to_string())
    });
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    is_gone(world, &["tenant", name], Duration::from_secs(10));
}

fn going(world: &World) {
    let name = "confgoing";
    world.tenant(name, "");
    let own = ["--namespace", name];
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    world.kubectl(&[&["patch", "apikey", "app", "--type=merge", "--patch", hold][..], &own].concat());
    world.kubectl(&[&["delete", "apikey", "app", "--wait=false"][..], &own].concat());
    world.kubectl(&[&["delete", "secret", "app-apikey"][..], &own].concat());
    // Whatever makes it look again, it does not mint a key for an object that is going.
    world.kubectl(&[&["annotate", "apikey", "app", "meterplane.io/reconcile-at=1"][..], &own].concat());
    holds_for(Duration::from_secs(4), "no key is minted", || {
        let secrets = world.kubectl(&[&["get", "secrets", "--output=name"][..], &own].concat());
        (!secrets.contains("app-apikey")).then_some(()).ok_or(secrets)
    });
    let free = r#"{"metadata":{"finalizers":null}}"#;
    world.kubectl(&[&["patch", "apikey", "app", "--type=merge", "--patch", free][..], &own].concat());
    is_gone(world, &[&["apikey", "app"][..], &own].concat(), Duration::from_secs(20));
}

fn kubectl(world: &World) {
    let name = "confkubectl";
    world.tenant(name, "");
    let listed = world.kubectl(&["api-resources", "--categories=meterplane", "--output=name"]);
    let listed: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.strip_suffix(".meterplane.io")).collect();
    assert_eq!(listed, KINDS.into_iter().collect());
    world.kubectl(&["get", "meterplane", "--all-namespaces"]);
    let names: Vec<String> = KINDS
        .iter()
        .map(|kind| {
            let crd = get(world, &["crd", &format!("{kind}.meterplane.io")]);
            crd["spec"]["names"]["shortNames"][0].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), KINDS.len(), "{names:?}");
    for kind in KINDS {
        let explained = world.kubectl(&["explain", &format!("{kind}.meterplane.io"), "--recursive"]);
        assert!(
            !explained.contains("<no description>") && !explained.contains("<empty>"),
            "{kind}: {explained}"
        );
        if kind != "dataplanes" {
            let wide = world.kubectl(&["get", kind, "--all-namespaces", "--output=wide"]);
            let header = wide.lines().next().unwrap_or_default().to_owned();
            for column in ["READY", "AGE", "MESSAGE"] {
                assert!(wide.is_empty() || header.contains(column), "{kind} lacks {column}: {header}");
            }
        }
    }
}

fn rotated(world: &World) {
    let name = "confrotated";
    let tenant = world.tenant(name, "");
    let spec =
        json!({"spec": {"rotation": {"every": "90d", "overlap": "7d"}, "rotationSerial": 1}}).to_string();
    world.kubectl(&["patch", "apikey", "app", "--namespace", name, "--type=merge", "--patch", &spec]);
    let key = eventually("the Secret holds another key", || {
        let key = TestTenant::secret(world, name, "app-apikey");
        (key != tenant.ingest_key).then_some(key).ok_or("it holds the old one".to_owned())
    });
    let renewed = TestTenant { ingest_key: key, ..tenant.clone() };
    eventually("the new key is accepted", || {
        let answer = renewed.post(world, 0, &event("new", "login", "ann"));
        (answer.status == 202).then_some(()).ok_or(answer.body)
    });
    assert_eq!(
        tenant.post(world, 0, &event("old", "login", "ann")).status,
        202,
        "the old one for as long as they overlap"
    );
}

fn metrics(world: &World) {
    let text = Call::get(format!("{}/metrics", world.platform.url("operator-admin").unwrap())).send().body;
    for name in [
        "controller_runtime_reconcile_total",
        "controller_runtime_reconcile_time_seconds_bucket",
        "controller_runtime_active_workers",
        "controller_runtime_max_concurrent_reconciles",
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_retries_total",
        "meterplane_resources_paused",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
    }
}

fn personas(world: &World) {
    let (own, other) = ("confpersona", "confother");
    world.tenant(own, "");
    world.tenant(other, "");
    for role in ["tenant-admin", "developer", "viewer"] {
        let role_ref = format!("--clusterrole=meterplane-{role}");
        let user = format!("--user={role}");
        world.kubectl(&["create", "rolebinding", role, &role_ref, &user, "--namespace", own]);
    }
    world.kubectl(&[
        "create",
        "clusterrolebinding",
        "confpersonas",
        "--clusterrole=meterplane-platform-admin",
        "--user=platform-admin",
    ]);
    let can = |who: &str, verb: &str, what: &str, namespace: &str| {
        let kind = format!("{what}.meterplane.io");
        let ask = ["auth", "can-i", verb, &kind, "--namespace", namespace, &format!("--as={who}")];
        world.try_kubectl(&ask).is_ok_and(|answer| answer.trim() == "yes")
    };
    for (who, writes) in [
        ("tenant-admin", &["usagelimits", "accesspolicies", "apikeys"][..]),
        ("developer", &["apikeys"]),
        ("viewer", &[]),
    ] {
        for kind in ["usagelimits", "accesspolicies", "apikeys"] {
            assert!(can(who, "list", kind, own), "{who} reads {kind}");
            for verb in ["create", "patch", "delete"] {
                assert_eq!(can(who, verb, kind, own), writes.contains(&kind), "{who} {verb} {kind}");
                assert!(!can(who, verb, kind, other), "{who} must not {verb} {kind} of another tenant");
            }
            assert!(!can(who, "list", kind, other), "{who} must not read {kind} of another tenant");
        }
        for kind in ["plans", "tenants", "lanepools", "dataplanes"] {
            assert!(!can(who, "patch", kind, own) && !can(who, "create", kind, own), "{who} {kind}");
        }
        assert_eq!(can(who, "grant", "apikeys", own), who == "tenant-admin");
    }
    assert!(
        can("platform-admin", "create", "tenants", own)
            && !can("platform-admin", "create", "dataplanes", own)
    );
    // A developer makes keys that post events, and cannot give one more rights than that, nor take the right to.
    let key = |name: &str, scopes: &str| {
        format!(
            "apiVersion: meterplane.io/v1alpha1\nkind: ApiKey\nmetadata: {{name: {name}, namespace: {own}}}\nspec: {{scopes: [{scopes}]}}"
        )
    };
    let applies = |yaml: &str| world.try_apply_as("developer", yaml);
    applies(&key("posts", "ingest")).unwrap();
    let refused = applies(&key("reads", "ingest, read")).unwrap_err();
    assert!(refused.contains("verb grant"), "{refused}");
    let widened = applies(&key("posts", "ingest, admin")).unwrap_err();
    assert!(widened.contains("verb grant"), "{widened}");
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: more, namespace: {own}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: meterplane-tenant-admin}}\n\
         subjects: [{{kind: User, name: developer, apiGroup: rbac.authorization.k8s.io}}]"
    );
    assert!(applies(&role).is_err(), "nobody gives themselves a role");
}

fn restored(world: &World) {
    let name = "confrestored";
    let first = world.tenant(name, "");
    first.post_many(world, "a", 20);
    first.shows(world, 20);
    let uid = get(world, &["tenant", name])["metadata"]["uid"].clone();
    // As a backup tool does after a loss of the cluster's objects: the same names, new UIDs, and nobody gave anything back.
    let free = r#"{"metadata":{"finalizers":null}}"#;
    world.platform.kill9("operator").unwrap();
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    world.kubectl(&["patch", "tenant", name, "--type=merge", "--patch", free]);
    is_gone(world, &["tenant", name], Duration::from_secs(30));
    let spec = format!("displayName: Back, planRef: {{name: open}}, namespaces: [{name}]");
    world.apply(&tenant_yaml(name, &spec));
    world.platform.start_part("operator").unwrap();
    let refused = eventually("it does not take what nobody gave back", || {
        let tenant = get(world, &["tenant", name]);
        let reason = condition(&tenant, "Accepted")["reason"].as_str().unwrap_or_default().to_owned();
        (reason == "OrphanedDataExists").then(|| condition(&tenant, "Accepted").clone()).ok_or(reason)
    });
    assert!(refused["message"].as_str().unwrap().contains("kubectl patch tenant"), "{refused}");
    world.apply(&tenant_yaml(name, &format!("{spec}, adoption: Force")));
    world.ready(name);
    assert_ne!(get(world, &["tenant", name])["metadata"]["uid"], uid);
    let again = eventually("its keys work", || {
        let tenant = TestTenant {
            name: name.to_owned(),
            ingest_key: TestTenant::secret(world, name, "app-apikey"),
            read_key: TestTenant::secret(world, name, "dashboard-apikey"),
        };
        let answer = tenant.read(world, "/v1/dashboard/summary");
        (answer.status == 200).then_some(tenant).ok_or(answer.body)
    });
    again.shows(world, 20);
    again.post_many(world, "a", 20);
    again.post_many(world, "b", 5);
    again.shows(world, 25);
}

fn gone_without(world: &World) {
    let name = "confstranded";
    let tenant = world.tenant(name, "");
    tenant.post_many(world, "a", 5);
    tenant.shows(world, 5);
    world.platform.kill9("clickhouse").unwrap();
    world.kubectl(&["delete", "tenant", name, "--wait=false"]);
    eventually("it says what it waits for, and for how long", || {
        let tenant = get(world, &["tenant", name]);
        let message = condition(&tenant, "Reconciling")["message"].as_str().unwrap_or_default().to_owned();
        message.contains("the tenant goes").then_some(()).ok_or(message)
    });
    is_gone(world, &["tenant", name], Duration::from_secs(90));
    eventually("its keys are revoked", || {
        let answer = tenant.post(world, 0, &event("late", "login", "ann"));
        (answer.status == 401).then_some(()).ok_or(answer.body)
    });
    world.platform.start_part("clickhouse").unwrap();
    let count = format!("SELECT count() FROM tenant_{name}.events");
    eventually("its data are there", || {
        let rows = world.clickhouse(&count);
        (rows == ["5"]).then_some(()).ok_or(format!("{rows:?}"))
    });
}

fn unreadable(world: &World) {
    let name = "confunreadable";
    world.tenant(name, "");
    // As after a downgrade: the apiserver holds an object that this build cannot read.
    let loosen = |preserve: bool| {
        let crd = get(world, &["crd", "usagelimits.meterplane.io"]);
        let mut version = crd["spec"]["versions"][0].clone();
        let saved = version.clone();
        version["schema"]["openAPIV3Schema"] =
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": preserve});
        let patch = |version: &Value| {
            let patch = json!({"spec": {"versions": [version]}}).to_string();
            world.kubectl(&["patch", "crd", "usagelimits.meterplane.io", "--type=merge", "--patch", &patch]);
        };
        patch(&version);
        move || patch(&saved)
    };
    let restore = loosen(true);
    let bad = format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {{name: alien, namespace: {name}}}\nspec: {{per: [Nobody], quota: all}}"
    );
    eventually("it is stored", || world.try_apply(&bad));
    restore();
    let unreadable = || {
        let text =
            Call::get(format!("{}/metrics", world.platform.url("operator-admin").unwrap())).send().body;
        text.lines().any(|line| line == r#"meterplane_unreadable_objects{name="UsageLimit"} 1"#)
    };
    eventually("it is counted", || unreadable().then_some(()).ok_or("not yet".to_owned()));
    let good = format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {{name: good, namespace: {name}}}\nspec: {{per: User, quota: {{max: 5, period: Day}}}}"
    );
    eventually("others are accepted again", || world.try_apply(&good));
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "--namespace",
        name,
        "usagelimit/good",
    ]);
    world.kubectl(&["delete", "usagelimit", "alien", "--namespace", name]);
    eventually("it is forgotten", || (!unreadable()).then_some(()).ok_or("still counted".to_owned()));
}

fn debug_state(world: &World) {
    let name = "debugstate";
    let tenant = world.tenant(name, "");
    tenant.post_many(world, "a", 3);
    tenant.shows(world, 3);
    let state = |part: &str| {
        let url = world.platform.url(&format!("{part}-admin")).unwrap();
        Call::get(format!("{url}/debug/state")).send().json()
    };
    let (operator, ingest, sink, console) =
        (state("operator"), state("ingest-1"), state("sink"), state("console"));
    assert_eq!(operator["election"]["role"], "leader", "{operator}");
    assert_eq!(operator["watches"].as_array().map(Vec::len), Some(6), "{operator}");
    let revision = operator["snapshots"]["newestRevision"].as_u64();
    eventually("the pod has what the operator wrote last", || {
        let ingest = state("ingest-1");
        (ingest["policies"]["revision"].as_u64() >= revision).then_some(()).ok_or(ingest.to_string())
    });
    assert!(ingest["pod"]["lastBeatAgeMs"].as_u64().is_some_and(|age| age < 10_000), "{ingest}");
    assert_eq!(sink["shared"]["lanes"]["known"], true, "{sink}");
    assert!(sink["shared"]["lanes"]["held"].as_array().is_some_and(|lanes| !lanes.is_empty()), "{sink}");
    assert_eq!(console["policies"]["synced"], true, "{console}");
    for (state, wanted) in [(&ingest, "ok"), (&sink, "ok"), (&console, "ok")] {
        assert_eq!(state["readiness"], wanted, "{state}");
    }
    for state in [&operator, &ingest, &console] {
        assert!(!state.to_string().contains(name), "{state}");
    }
}

fn secrets(world: &World) {
    let credentials = world.platform.secrets().path("any").parent().unwrap().to_path_buf();
    let mut canaries: Vec<(String, String)> = std::fs::read_dir(credentials)
        .unwrap()
        .filter_map(|file| {
            let path = file.unwrap().path();
            let value = std::fs::read_to_string(&path).ok()?.trim().to_owned();
            let is_one = value.len() >= 16 && !value.contains('\n');
            is_one.then(|| (path.display().to_string(), value))
        })
        .collect();
    let keys = get(world, &["secrets", "--all-namespaces", "--field-selector=type=meterplane.io/api-key"]);
    for secret in keys["items"].as_array().unwrap() {
        let name = format!("{}/{}", secret["metadata"]["namespace"], secret["metadata"]["name"]);
        let key = world.kubectl(&[
            "get",
            "secret",
            secret["metadata"]["name"].as_str().unwrap(),
            "--namespace",
            secret["metadata"]["namespace"].as_str().unwrap(),
            "--output=go-template={{.data.MP_API_KEY | base64decode}}",
        ]);
        canaries.push((name, key.trim().to_owned()));
        if canaries.len() > 40 {
            break;
        }
    }
    assert!(canaries.len() > 10, "there is something to look for");
    let mut places: Vec<(String, String)> = Vec::new();
    for part in ["operator", "ingest-1", "ingest-2", "sink", "console"] {
        places.push((
            format!("the log of {part}"),
            std::fs::read_to_string(world.platform.log(part)).unwrap_or_default(),
        ));
    }
    for admin in ["operator-admin", "sink-admin", "ingest-1-admin", "console-admin"] {
        if let Ok(url) = world.platform.url(admin) {
            places.push((format!("metrics of {admin}"), Call::get(format!("{url}/metrics")).send().body));
            places.push((format!("state of {admin}"), Call::get(format!("{url}/debug/state")).send().body));
        }
    }
    for kind in KINDS {
        let kind = format!("{kind}.meterplane.io");
        places.push((kind.clone(), world.kubectl(&["get", &kind, "--all-namespaces", "--output=json"])));
    }
    places
        .push(("events".to_owned(), world.kubectl(&["get", "events", "--all-namespaces", "--output=json"])));
    for (place, text) in &places {
        for (name, value) in &canaries {
            assert!(!text.contains(value.as_str()), "{name} stands in {place}");
        }
    }
}
