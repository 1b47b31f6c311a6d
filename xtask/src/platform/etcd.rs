//! etcd: what the apiserver keeps its objects in.

use std::time::Duration;

use super::site::{Part, Ready, Site};
use crate::Result;

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let (client, peer) = (site.url("etcd")?, site.url("etcd-peer")?);
    let data = site.folder("etcd")?;
    let args = vec![
        format!("--data-dir={}", data.display()),
        "--name=dev".into(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=dev={peer}"),
        "--log-level=warn".into(),
        // What is lost here by a power cut is applied again from YAML, and an fsync a write costs seconds at every start.
        "--unsafe-no-fsync".into(),
    ];
    Ok(Part {
        launch: site.launch("etcd", &site.tools.etcd, args, vec![])?,
        ports: vec![site.ports.get("etcd")?, site.ports.get("etcd-peer")?],
        ready: Ready::Http(format!("{client}/health")),
        within: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        why: "elects itself; the apiserver keeps its objects in it",
    })
}
