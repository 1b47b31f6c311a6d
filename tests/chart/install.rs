//! A release on a real kube-apiserver with kube-controller-manager, kube-scheduler and nodes of kwok: admission, rollouts, budgets and
//! rights are real. Pods are said to run by kwok; that the programs in them start is what the other system tests show.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::Progress;
use xtask::platform::{Options, Platform};

use crate::helm::{self, chart, root, values};

/// Not the namespace that the manifests name: nothing may depend on that one.
const NAMESPACE: &str = "metering";
const PROGRAMS: [&str; 4] = ["operator", "ingest", "sink", "console"];

/// Admits only pods under the restricted profile.
const RESTRICTED: &str = "apiVersion: v1
kind: Namespace
metadata: {name: metering, labels: {pod-security.kubernetes.io/enforce: restricted}}
";
/// What people and the operator have in the cluster, and no release owns.
const DATA: &str = "apiVersion: v1
kind: Secret
metadata: {name: meterplane-nats, namespace: metering}
stringData: {operator: o, ingest: i, sink: s, console: c}
---
apiVersion: v1
kind: Secret
metadata: {name: meterplane-clickhouse, namespace: metering}
stringData: {operator: o, sink: s, console: c}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: meterplane-ledgers, namespace: metering}
data: {a: b}
";

/// A cluster, and helm with it.
struct Cluster {
    platform: Platform,
    dir: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let tools = helm::tools();
        let options = Options::test("chart").unwrap();
        if options.dir.exists() {
            fs::remove_dir_all(&options.dir).unwrap();
        }
        let dir = options.dir.clone();
        let platform = Platform::start(Options {
            nodes: Some(tools.nodes.clone()),
            workloads: vec![],
            // Nothing of ours runs there.
            bins: Some(dir.clone()),
            new_ports: true,
            progress: Progress::detect(),
            ..options
        });
        Self { platform: platform.unwrap(), dir }
    }

    fn helm(&self, args: &[&str]) -> Result<String, String> {
        helm::run(&[args, &["--namespace", NAMESPACE]].concat(), &self.platform.kubeconfig())
    }

    /// Installs or upgrades, and waits until everything is as it says.
    fn release(&self, verb: &str, from: &Path, sets: &[&str]) -> Result<String, String> {
        let (from, least) = (from.display().to_string(), values("least"));
        let mut args = vec![verb, "meterplane", &from, "--values", &least, "--wait", "--timeout=120s"];
        args.extend(sets.iter().flat_map(|set| ["--set", *set]));
        self.helm(&args)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.platform.kubectl().run(args).unwrap()
    }

    fn get(&self, what: &[&str]) -> Value {
        self.platform.kubectl().json(&[&["get", "--namespace", NAMESPACE], what].concat()).unwrap()
    }

    fn exists(&self, what: &[&str]) -> bool {
        !self
            .kubectl(
                &[&["get", "--ignore-not-found", "--output=name", "--namespace", NAMESPACE], what].concat(),
            )
            .is_empty()
    }

    fn apply(&self, name: &str, yaml: &str) -> Result<(), String> {
        let file = self.dir.join(name);
        fs::write(&file, yaml).unwrap();
        self.platform.kubectl().apply(&[file]).map_err(|error| error.to_string())
    }

    /// Generation of each Deployment's pods: another one means that they were replaced.
    fn revisions(&self) -> Vec<u64> {
        let revision = |program: &&str| {
            let deployment = self.get(&["deployment", program]);
            let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
            revision.as_str().unwrap().parse().unwrap()
        };
        PROGRAMS.iter().map(revision).collect()
    }
}

#[test]
fn a_release_is_installed_upgraded_and_removed_and_what_people_declared_stays() {
    let cluster = Cluster::start();
    cluster.apply("namespace.yaml", RESTRICTED).unwrap();
    cluster.apply("data.yaml", DATA).unwrap();
    everything_is_known_to_the_apiserver(&cluster);

    let older = older_chart(&cluster.dir);
    cluster.release("install", &older, &["ingest.autoscaling.enabled=true"]).unwrap();
    pods_run_under_the_restricted_profile(&cluster);
    budgets_policies_and_scaling_are_in_place(&cluster);
    the_operator_holds_no_right_to_spare(&cluster);
    cluster.kubectl(&["apply", "--server-side", "--filename", &quickstart()]);
    another_release_is_refused(&cluster);

    an_upgrade_brings_resource_types_and_restarts_what_changed(&cluster);

    cluster.helm(&["uninstall", "meterplane", "--wait"]).unwrap();
    what_people_declared_is_there(&cluster);
    release_is_gone(&cluster);

    // The types that stayed are taken over by a release of the same name.
    cluster.release("install", &chart(), &[]).unwrap();
    what_people_declared_is_there(&cluster);
    cluster.helm(&["uninstall", "meterplane", "--wait"]).unwrap();
    cluster.kubectl(&[
        "delete",
        "--filename",
        &root().join("crds/yaml").display().to_string(),
        "--timeout=60s",
    ]);
    assert!(!cluster.exists(&["customresourcedefinitions"]), "the purge of docs/install.md leaves no type");
}

/// Objects of every value file but those of the Prometheus operator, whose types are not in this cluster.
fn everything_is_known_to_the_apiserver(cluster: &Cluster) {
    let monitoring = ["--set", "monitoring.podMonitor.enabled=false,monitoring.rules.enabled=false"];
    for file in helm::value_files() {
        let file = file.display().to_string();
        let text = helm::template(&[&["--values", &file], &monitoring[..]].concat()).unwrap();
        let path = cluster.dir.join("rendered.yaml");
        fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let said = cluster.kubectl(&["create", "--dry-run=server", "--validate=strict", "--filename", &path]);
        assert!(said.lines().count() > 25, "{file}: {said}");
    }
}

/// The chart as it might have been: resource types with another text, and an older version.
fn older_chart(dir: &Path) -> PathBuf {
    let older = dir.join("older");
    copy(&chart(), &older);
    let crd = older.join("manifests/crds/tenants.yaml");
    let text = fs::read_to_string(&crd).unwrap();
    assert!(text.contains("    - mpt\n"));
    fs::write(&crd, text.replace("    - mpt\n", "    - mptold\n")).unwrap();
    let description = older.join("Chart.yaml");
    let text = fs::read_to_string(&description).unwrap();
    fs::write(&description, text.replace("\nversion: 0.1.0\n", "\nversion: 0.0.9\n")).unwrap();
    older
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, entry) = (entry.as_ref().unwrap().path(), entry.unwrap());
        let target = to.join(entry.file_name());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn pods_run_under_the_restricted_profile(cluster: &Cluster) {
    // Where nothing says how many pods there are, autoscaling does, some seconds later.
    cluster.kubectl(&[
        "wait",
        "--for=jsonpath={.status.readyReplicas}=2",
        "deployment/ingest",
        "--namespace",
        NAMESPACE,
        "--timeout=60s",
    ]);
    let pods = cluster.get(&["pods"]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 4 * 2, "operator, ingest, sink, console");
    for pod in pods {
        assert_eq!(pod["status"]["phase"], "Running", "{}", pod["metadata"]["name"]);
    }
    let deployments = cluster.get(&["deployments"]);
    for deployment in deployments["items"].as_array().unwrap() {
        assert_eq!(
            deployment["status"]["readyReplicas"], deployment["spec"]["replicas"],
            "{}",
            deployment["metadata"]["name"]
        );
    }
    // The profile is enforced here: a pod of the ordinary kind is refused.
    let ordinary = "apiVersion: v1\nkind: Pod\nmetadata: {name: ordinary, namespace: metering}\n\
        spec: {containers: [{name: a, image: a}]}\n";
    let refusal = cluster.apply("ordinary.yaml", ordinary).unwrap_err();
    assert!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");
}

fn budgets_policies_and_scaling_are_in_place(cluster: &Cluster) {
    for program in PROGRAMS {
        let budget = cluster.get(&["poddisruptionbudget", program]);
        assert_eq!(budget["status"]["expectedPods"], 2, "{program}: {budget}");
        assert_eq!(budget["status"]["disruptionsAllowed"], 1, "{program}: {budget}");
    }
    assert!(
        cluster.exists(&["mutatingadmissionpolicy", "meterplane-changed-by"]),
        "this apiserver knows them"
    );
    let scaler = cluster.get(&["horizontalpodautoscaler", "ingest"]);
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "ingest");
    assert_eq!((&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]), (&2.into(), &10.into()));
    let policies = cluster.get(&["networkpolicies"]);
    let names: Vec<&Value> =
        policies["items"].as_array().unwrap().iter().map(|it| &it["metadata"]["name"]).collect();
    assert_eq!(names, ["console", "ingest", "meterplane-default-deny", "operator", "sink"]);
    for program in ["ingest", "console"] {
        let slices =
            cluster.get(&["endpointslices", &format!("--selector=kubernetes.io/service-name={program}")]);
        assert_eq!(slices["items"][0]["endpoints"].as_array().unwrap().len(), 2, "{program}: {slices}");
    }
}

fn the_operator_holds_no_right_to_spare(cluster: &Cluster) {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:operator");
    let may = |verb: &str, what: &str| {
        let answer =
            cluster.platform.kubectl().run(&["auth", "can-i", verb, what, &account, "--all-namespaces"]);
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may("list", "tenants.meterplane.io") && may("patch", "tenants.meterplane.io/status"));
    for (verb, what) in
        [("list", "secrets"), ("get", "secrets"), ("delete", "tenants.meterplane.io"), ("create", "pods")]
    {
        assert!(!may(verb, what), "{verb} {what}");
    }
    let list = cluster.kubectl(&["auth", "can-i", "--list", "--namespace", NAMESPACE, &account]);
    let ours = list.lines().filter(|line| !line.contains("[/"));
    assert!(ours.clone().count() > 10 && ours.clone().all(|line| !line.contains('*')), "{list}");
}

fn another_release_is_refused(cluster: &Cluster) {
    let refusal = helm::run(
        &[
            "install",
            "second",
            &chart().display().to_string(),
            "--values",
            &values("least"),
            "--namespace",
            "default",
        ],
        &cluster.platform.kubeconfig(),
    )
    .unwrap_err();
    assert!(refusal.contains("cannot be imported into the current release"), "{refusal}");
}

fn an_upgrade_brings_resource_types_and_restarts_what_changed(cluster: &Cluster) {
    let short = || {
        cluster.get(&["customresourcedefinition", "tenants.meterplane.io"])["spec"]["names"]["shortNames"][0]
            .clone()
    };
    assert_eq!(short(), "mptold");
    let before = cluster.revisions();
    // The same values by another version of the chart: no pod is replaced.
    cluster.release("upgrade", &chart(), &["ingest.autoscaling.enabled=true"]).unwrap();
    assert_eq!(short(), "mpt");
    assert_eq!(cluster.revisions(), before);
    cluster
        .release("upgrade", &chart(), &["ingest.autoscaling.enabled=true", "sink.insertsPerSecond=50"])
        .unwrap();
    let after = cluster.revisions();
    assert_eq!(after, [before[0], before[1], before[2] + 1, before[3]]);
    let sink = cluster.get(&["deployment", "sink"]);
    assert_eq!(sink["status"]["updatedReplicas"], 2);
    cluster.kubectl(&["get", "mpt"]);
}

fn what_people_declared_is_there(cluster: &Cluster) {
    for what in [
        ["tenants.meterplane.io", "acme"],
        ["plans.meterplane.io", "pro"],
        ["secret", "meterplane-nats"],
        ["secret", "meterplane-clickhouse"],
        ["configmap", "meterplane-ledgers"],
        ["namespace", NAMESPACE],
    ] {
        assert!(cluster.exists(&what), "{what:?}");
    }
    let types = cluster.kubectl(&["get", "customresourcedefinitions", "--output=name"]);
    assert_eq!(types.lines().count(), 7, "{types}");
}

fn release_is_gone(cluster: &Cluster) {
    for what in [
        ["deployment", "operator"],
        ["serviceaccount", "operator"],
        ["clusterrole", "meterplane-operator"],
        ["clusterrolebinding", "meterplane-console"],
        ["validatingadmissionpolicy", "meterplane-confirm-deletion"],
        ["mutatingadmissionpolicy", "meterplane-changed-by"],
        ["configmap", "meterplane-trust"],
        ["validatingwebhookconfiguration", "meterplane"],
        ["secret", "meterplane-webhook"],
    ] {
        assert!(!cluster.exists(&what), "{what:?}");
    }
}

fn quickstart() -> String {
    root().join("examples/quickstart").display().to_string()
}
