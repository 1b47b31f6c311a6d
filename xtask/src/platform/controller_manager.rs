//! kube-controller-manager: deletes what its owners and namespaces leave behind, and creates service accounts.

use std::time::Duration;

use super::apiserver::{PRIVATE_KEY, admin_kubeconfig};
use super::site::{Part, Ready, Site};
use crate::Result;

/// The controllers that mean something without nodes and containers.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller";

/// Those of pods, when there are nodes; a new node holds a taint until the first of them takes it off.
const WITH_NODES: &str = "node-lifecycle-controller,deployment-controller,replicaset-controller,disruption-controller,\
horizontal-pod-autoscaler-controller,endpointslice-controller,root-ca-certificate-publisher-controller";

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let controllers = match site.nodes {
        None => CONTROLLERS.to_owned(),
        Some(_) => format!("{CONTROLLERS},{WITH_NODES}"),
    };
    let args = vec![
        format!("--kubeconfig={}", admin_kubeconfig(site).display()),
        format!("--service-account-private-key-file={}", site.secrets.path(PRIVATE_KEY).display()),
        format!("--controllers={controllers}"),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
    ];
    Ok(Part {
        launch: site.launch("kube-controller-manager", &site.tools.kube_controller_manager, args, vec![])?,
        ports: vec![],
        ready: Ready::Running,
        within: Duration::from_secs(30),
        grace: Duration::from_secs(5),
        why: "deletes what owners and namespaces leave behind",
    })
}
