//! Our own processes, each with the identity and the configuration it has in a cluster.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::cluster::{NAMESPACE, kubeconfig_of, vault_token};
use super::site::{Part, Ready, Site};
use super::{clickhouse, nats, vault_setup};
use crate::Result;

/// Everything that `up` runs of ours, in the order of their start.
pub const ALL: [&str; 5] = ["operator", "ingest-1", "ingest-2", "sink", "console"];

/// Inserts a second that sinks ask for: one of a few rows costs ClickHouse 5 ms of a core, and here it shares two with everything
/// else.
pub const INSERTS_PER_SECOND: u32 = 80;
/// Most ingest pods of one platform: they have their ports.
pub const PODS_MAX: usize = 8;
/// A second operator, which stands by.
pub const SECOND_OPERATOR: &str = "operator-2";
/// Most sinks of one platform.
pub const SINKS_MAX: usize = 4;

/// Everything of ours, with this many ingest pods and sinks.
pub fn with_replicas(pods: usize, sinks: usize) -> Vec<String> {
    let pods = (1..=pods.min(PODS_MAX)).map(|n| format!("ingest-{n}"));
    let sinks = (0..sinks.min(SINKS_MAX)).map(sink);
    ["operator", "console"].map(str::to_owned).into_iter().chain(sinks).chain(pods).collect()
}

/// The part's name of sink `n`, from 0.
pub fn sink(n: usize) -> String {
    if n == 0 { "sink".to_owned() } else { format!("sink-{}", n + 1) }
}

/// Whether a part is one of ours.
pub(super) fn is_known(name: &str) -> bool {
    ALL.contains(&name)
        || name == SECOND_OPERATOR
        || with_replicas(PODS_MAX, SINKS_MAX).iter().any(|known| known == name)
}

/// The deployable that a workload is a replica of: its program, its service account, its users.
pub(super) fn component(workload: &str) -> &str {
    workload.split('-').next().unwrap_or(workload)
}

/// The part of one workload whose program lies in `bins`.
pub(super) fn part(site: &Site, workload: &str, bins: &Path, extra: &[(String, String)]) -> Result<Part> {
    let component = component(workload);
    let admin_port = format!("{workload}-admin");
    let mut env = Env::default();
    env.set("MP_LOG", "info");
    // Their output is a file.
    env.set("NO_COLOR", "1");
    env.set("MP_ADMIN_LISTEN", format!("127.0.0.1:{}", site.ports.get(&admin_port)?));
    env.set("MP_NATS_URL", nats::url(site)?);
    if let Some(tls) = &site.tls {
        env.set("MP_NATS_CA_FILE", &tls.authority);
    }
    env.set("MP_NATS_USER", component);
    env.set("MP_NATS_PASSWORD_FILE", site.secrets.path(&nats::password_name(component)));
    if component != "ingest" {
        env.set("MP_CLICKHOUSE_URL", site.url("clickhouse")?);
        env.set("MP_CLICKHOUSE_USER", component);
        env.set("MP_CLICKHOUSE_PASSWORD_FILE", site.secrets.path(&clickhouse::password_name(component)));
    }
    if component != "sink" {
        env.set("MP_VAULT_ADDR", site.url("vault")?);
        if let Some(tls) = &site.tls {
            env.set("MP_VAULT_ADDR", format!("https://127.0.0.1:{}", site.ports.get("vault-tls")?));
            env.set("MP_VAULT_CA_FILE", &tls.authority);
        }
        env.set("MP_VAULT_ROLE", component);
        env.set("MP_VAULT_JWT_FILE", site.secrets.path(&vault_token(component)));
    }
    if matches!(component, "operator" | "console") {
        env.set("KUBECONFIG", kubeconfig_of(site, component));
    }
    if matches!(component, "ingest" | "sink" | "operator") {
        env.set("MP_POD_NAME", workload);
    }
    if component == "sink" {
        env.set("MP_INSERTS_PER_SECOND", INSERTS_PER_SECOND.to_string());
    }
    let mut ports = vec![site.ports.get(&admin_port)?];
    if component == "operator" {
        ports.push(operator(site, workload, &mut env)?);
    }
    if matches!(component, "ingest" | "console") {
        let port = site.ports.get(workload)?;
        env.set("MP_LISTEN", format!("127.0.0.1:{port}"));
        env.set("MP_TRUST_FILE", site.secrets.path(vault_setup::TRUST));
        ports.push(port);
    }
    for (name, value) in extra {
        env.set(name, value);
    }
    Ok(Part {
        launch: site.launch(workload, &bins.join(component), vec![], env.0)?,
        ports,
        ready: Ready::Http(format!("{}/readyz", site.url(&admin_port)?)),
        within: Duration::from_secs(60),
        grace: Duration::from_secs(20),
        why: match component {
            "operator" => "connects, then creates buckets and streams that the others need",
            "ingest" => "connects and reads the policy of every tenant",
            "sink" => "connects and recovers its open intents",
            _ => "connects to its stores",
        },
    })
}

/// What only operators are told; gives the port of the webhook.
fn operator(site: &Site, workload: &str, env: &mut Env) -> Result<u16> {
    env.set("MP_NAMESPACE", NAMESPACE);
    env.set("MP_INSTALLATION", &site.installation);
    // NATS reserves what a lane may hold: a developer's disk has room for more than a hundred tenants this way.
    env.set("MP_LANE_MAX_MIB", "256");
    env.set("MP_REPLICAS", site.nats_nodes.to_string());
    env.set("MP_NATS_MONITOR_URLS", nats::monitor_urls(site)?);
    env.set("MP_ENDPOINT", site.url("ingest-1")?);
    let port = site.ports.get(&format!("{workload}-webhook"))?;
    env.set("MP_WEBHOOK_LISTEN", format!("127.0.0.1:{port}"));
    Ok(port)
}

/// An environment in the making.
#[derive(Default)]
struct Env(Vec<(String, OsString)>);

impl Env {
    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_share_their_components_identity() {
        assert_eq!(ALL.map(component), ["operator", "ingest", "ingest", "sink", "console"]);
    }

    #[test]
    fn a_platform_may_have_more_pods_than_usual() {
        let count = |of| with_replicas(8, 2).iter().filter(|name| component(name) == of).count();
        assert_eq!((count("ingest"), count("sink")), (8, 2));
        assert!(is_known("ingest-8") && is_known("sink") && !is_known("ingest-9"));
        assert!(is_known(SECOND_OPERATOR) && component(SECOND_OPERATOR) == "operator");
        assert!(is_known("sink-4") && !is_known("sink-5") && !is_known("sink-1"));
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut env = Env::default();
        env.set("MP_LOG", "info");
        env.set("MP_LOG", "debug");
        assert_eq!(env.0, [("MP_LOG".to_owned(), OsString::from("debug"))]);
    }
}
