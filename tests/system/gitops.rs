//! What GitOps tools make of our objects: kstatus and Argo CD read every state as it is meant, and applying the same manifests again
//! changes nothing.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use system_tests::{World, eventually};
use xtask::{Cancel, Paths, Progress, tools};

pub const TESTS: &[crate::Test] = &[
    ("kstatus_and_argo_cd_read_every_state_as_it_is_meant", states),
    ("the_same_manifests_applied_again_change_nothing", again),
];

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/argocd");
/// All kinds, for one kubectl.
const KINDS: &str = "plans.meterplane.io,tenants.meterplane.io,lanepools.meterplane.io,dataplanes.meterplane.io,\
                     usagelimits.meterplane.io,accesspolicies.meterplane.io,apikeys.meterplane.io";

/// What kstatus and the health script say of an object.
fn verdict(object: &Value) -> (String, String, String) {
    let paths = Paths::discover().unwrap();
    let program = tools::verdict(&paths, &Progress::detect(), &Cancel::default()).unwrap();
    let mut command = Command::new(program);
    command.args(["-health", &format!("{EXAMPLE}/health.lua")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let answer = child.wait_with_output().unwrap();
    assert!(answer.status.success(), "verdict on {object}");
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    (text("kstatus"), text("health"), text("message"))
}

fn object(world: &World, path: &[&str]) -> Value {
    let json = world.kubectl(&[&["get", "--output=json"][..], path].concat());
    serde_json::from_str(&json).unwrap()
}

/// Waits until both say what is expected, and that the message holds `word`.
fn reads(world: &World, path: &[&str], kstatus: &str, health: &str, word: &str) {
    eventually(&format!("{path:?} reads {kstatus} and {health}"), || {
        let said = verdict(&object(world, path));
        let right = said.0 == kstatus && said.1 == health && said.2.contains(word);
        right.then_some(()).ok_or(format!("{said:?}"))
    });
}

fn states(world: &World) {
    files_agree();
    let rules = r#"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: daily, namespace: NAME}
spec: {per: User, quota: {max: 50, period: Day}}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: nonsense, namespace: NAME}
spec: {per: User, match: {expression: "event.data."}, quota: {max: 50, period: Day}}
---
apiVersion: meterplane.io/v1alpha1
kind: AccessPolicy
metadata: {name: night, namespace: NAME}
spec: {effect: Deny, rules: [{name: night, match: {expression: "time.hour > 99"}}]}
"#;
    world.apply_past_the_webhook(&rules_of_states());
    let name = "gitstates";
    world.tenant(name, "");
    world.apply_past_the_webhook(&rules.replace("NAME", name));
    let own = ["--namespace", name];
    let in_own = |kind: &'static str, object: &'static str| [&[kind, object][..], &own].concat();
    reads(world, &["tenant", name], "Current", "Healthy", "Ready");
    reads(world, &["plan", "gitplan"], "Current", "Healthy", "");
    reads(world, &in_own("usagelimit", "daily"), "Current", "Healthy", "");
    reads(world, &in_own("accesspolicy", "night"), "Current", "Healthy", "");
    reads(world, &in_own("apikey", "app"), "Current", "Healthy", "");
    reads(world, &["lanepool", "gitpool"], "Current", "Healthy", "");
    reads(world, &["dataplane", "default"], "Current", "Healthy", "");
    // Somebody has to change something.
    reads(world, &in_own("usagelimit", "nonsense"), "Failed", "Degraded", "spec.match.expression");
    reads(world, &["tenant", "gitrefused"], "Failed", "Degraded", "spec.timeZone");
    reads(world, &["lanepool", "gitpool-too"], "Failed", "Degraded", "shard");
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: taken, namespace: {name}}}\n---\n\
         apiVersion: meterplane.io/v1alpha1\nkind: ApiKey\nmetadata: {{name: taken, namespace: {name}}}\n\
         spec: {{scopes: [ingest], secretName: taken}}"
    ));
    reads(world, &in_own("apikey", "taken"), "Failed", "Degraded", "SecretNotOurs");
    // Something may still come.
    reads(world, &["tenant", "gitwaiting"], "InProgress", "Progressing", "WaitingForPlan");
    reads(
        world,
        &["usagelimit", "early", "--namespace", "gitnobody"],
        "InProgress",
        "Progressing",
        "WaitingForTenant",
    );
    // A spec that nobody has looked at yet, and an object that is going.
    let mut newer = object(world, &["tenant", name]);
    newer["metadata"]["generation"] = json!(newer["metadata"]["generation"].as_i64().unwrap() + 1);
    assert_eq!(verdict(&newer).1, "Progressing");
    let mut unseen = newer.clone();
    unseen["status"] = Value::Null;
    assert_eq!(verdict(&unseen).1, "Progressing");
    world.kubectl(&["delete", "plan", "gitplan", "--wait=false"]);
    reads(world, &["plan", "gitplan"], "Terminating", "Progressing", "InUse");
    // On hold.
    world.kubectl(&["annotate", "tenant", name, "meterplane.io/reconcile=paused"]);
    reads(world, &["tenant", name], "Current", "Suspended", "Paused");
    world.kubectl(&["annotate", "tenant", name, "meterplane.io/reconcile-"]);
    reads(world, &["tenant", name], "Current", "Healthy", "Ready");
}

/// The ConfigMap carries the script, and Application and ApplicationSet point at folders like those that are applied here.
fn files_agree() {
    let read = |file: &str| std::fs::read_to_string(format!("{EXAMPLE}/{file}")).unwrap();
    let config = read("argocd-cm.yaml");
    let script = config.split_once("health.lua: |\n").unwrap().1;
    let script: Vec<&str> =
        script.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    assert_eq!(script, read("health.lua").lines().collect::<Vec<_>>());
    assert!(read("application.yaml").contains("path: tenants "));
    assert!(read("applicationset.yaml").contains("path: tenants/*"));
}

/// What is there beside the tenant: a plan in use, one pool that has its shard and one that names the same, and tenants that are
/// refused or wait.
fn rules_of_states() -> String {
    let object = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: meterplane.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}")
    };
    let documents = [
        object("Plan", "gitplan", "{displayName: Git, isolation: Dedicated}"),
        object("Tenant", "gitinuse", "{planRef: {name: gitplan}}"),
        object("Tenant", "gitrefused", "{planRef: {name: open}, timeZone: Nowhere/Land}"),
        object("Tenant", "gitwaiting", "{planRef: {name: nosuchplan}}"),
        object("LanePool", "gitpool", "{shards: 1, firstShard: 700, storage: 64Mi}"),
        object("LanePool", "gitpool-too", "{shards: 1, firstShard: 700, storage: 64Mi}"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: gitnobody}".to_owned(),
        "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {name: early, namespace: gitnobody}\n\
         spec: {per: User, quota: {max: 1, period: Day}}"
            .to_owned(),
    ];
    documents.join("\n---\n")
}

/// Applies the example as Argo CD does.
fn sync(world: &World, command: &str) -> Result<String, String> {
    let manager = ["--server-side", "--field-manager=argocd-controller", "--recursive", "--filename"];
    world.try_kubectl(&[&[command][..], &manager, &[&format!("{EXAMPLE}/tenants")]].concat())
}

fn generations(world: &World) -> Vec<(String, Value)> {
    let all = object(world, &[KINDS, "--all-namespaces"]);
    let ours = |item: &&Value| {
        let meta = &item["metadata"];
        meta["name"] == "initech" || meta["namespace"] == "initech" || meta["name"] == "gitops"
    };
    let row = |item: &Value| {
        let name = format!("{} {}", item["kind"], item["metadata"]["name"]);
        (
            name,
            json!([item["metadata"]["generation"], item["metadata"]["uid"], item["metadata"]["annotations"]]),
        )
    };
    all["items"].as_array().unwrap().iter().filter(ours).map(row).collect()
}

fn again(world: &World) {
    // Objects come in any order; what refers to something that is not there yet waits for it.
    eventually("the first sync goes through", || sync(world, "apply"));
    world.ready("initech");
    let before = generations(world);
    assert_eq!(before.len(), 5, "{before:?}");
    for _ in 0..3 {
        sync(world, "apply").unwrap();
        assert_eq!(sync(world, "diff").unwrap().trim(), "", "a diff would be shown for ever");
    }
    assert_eq!(generations(world), before);
    // What the operator owns of them is their status and their finalizer, and no field of the spec.
    let tenant = object(world, &["tenant", "initech", "--show-managed-fields"]);
    for fields in tenant["metadata"]["managedFields"].as_array().unwrap() {
        let operators = fields["manager"] == "meterplane-operator";
        assert!(!operators || fields["fieldsV1"]["f:spec"].is_null(), "{fields}");
    }
}
