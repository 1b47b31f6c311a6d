//! Nodes without machines: kube-scheduler gives pods a node, kwok says that they run there. Deployments roll out, evictions wait for
//! budgets, admission judges every pod; no container is started, no probe is asked.

use std::path::Path;
use std::time::Duration;

use super::apiserver::{admin_kubeconfig, kubectl};
use super::secrets;
use super::site::{Part, Ready, Site};
use crate::tools::Nodes;
use crate::{Error, Result};

/// The parts of a cluster with nodes, in the order of their start.
pub(super) const PARTS: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"];

/// The node. The annotation makes it kwok's.
const NODE: &str = "apiVersion: v1
kind: Node
metadata:
  name: node-1
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: node-1, kubernetes.io/os: linux, topology.kubernetes.io/zone: zone-1}
status:
  allocatable: {cpu: \"32\", memory: 256Gi, pods: \"110\"}
  capacity: {cpu: \"32\", memory: 256Gi, pods: \"110\"}
";

/// What becomes of nodes and pods: they are ready at once, and gone when they are deleted.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat/node-heartbeat.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
];

/// kube-scheduler.
pub(super) fn scheduler(site: &Site) -> Result<Part> {
    let args = vec![
        format!("--kubeconfig={}", admin_kubeconfig(site).display()),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
    ];
    part(site, "kube-scheduler", &tools(site)?.kube_scheduler, args, "gives pods a node")
}

/// kwok.
pub(super) fn kwok(site: &Site) -> Result<Part> {
    let tools = tools(site)?;
    let mut args =
        vec![format!("--kubeconfig={}", admin_kubeconfig(site).display()), "--manage-all-nodes=true".into()];
    args.extend(STAGES.iter().map(|stage| format!("--config={}", tools.stages.join(stage).display())));
    part(site, "kwok", &tools.kwok, args, "says of nodes and pods that they run")
}

/// Makes the node and waits until it is ready.
pub(super) fn register(site: &Site) -> Result<()> {
    let file = site.dir.join("node.yaml");
    secrets::write(&file, NODE)?;
    let kubectl = kubectl(site);
    kubectl.run(&["create", "--filename", &file.display().to_string()])?;
    kubectl.wait("condition=Ready", &["node/node-1"], Duration::from_secs(60))
}

fn part(site: &Site, name: &str, program: &Path, args: Vec<String>, why: &'static str) -> Result<Part> {
    Ok(Part {
        launch: site.launch(name, program, args, vec![])?,
        ports: vec![],
        ready: Ready::Running,
        within: Duration::from_secs(30),
        grace: Duration::from_secs(5),
        why,
    })
}

fn tools(site: &Site) -> Result<&Nodes> {
    site.nodes.as_ref().ok_or_else(|| Error::Missing {
        what: "a cluster with nodes".into(),
        remedy: "start the platform with Options::nodes".into(),
    })
}
