//! nats-server with JetStream: lanes, ledgers, policy. Every acknowledged message is on disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::nats_rights::{self, User};
use super::site::{Part, Ready, Site, args};
use crate::Result;

/// Names of the servers, which are names of parts and ports.
const NODES: [&str; 3] = ["nats", "nats-2", "nats-3"];

/// The servers of a cluster of this size.
pub(super) fn nodes(count: u8) -> impl Iterator<Item = &'static str> {
    NODES.into_iter().take(usize::from(count))
}

/// Where clients connect: all servers, separated by commas.
pub(super) fn url(site: &Site) -> Result<String> {
    let urls = nodes(site.nats_nodes).map(|node| node_url(site, node));
    Ok(urls.collect::<Result<Vec<_>>>()?.join(","))
}

/// Where clients of one server connect.
pub(super) fn node_url(site: &Site, node: &str) -> Result<String> {
    let scheme = if site.tls.is_some() { "tls" } else { "nats" };
    Ok(format!("{scheme}://127.0.0.1:{}", site.ports.get(node)?))
}

/// Where all servers tell about themselves, separated by commas.
pub(super) fn monitor_urls(site: &Site) -> Result<String> {
    let urls = nodes(site.nats_nodes).map(|node| site.url(&format!("{node}-monitor")));
    Ok(urls.collect::<Result<Vec<_>>>()?.join(","))
}

/// The part.
pub(super) fn part(site: &Site, node: &str) -> Result<Part> {
    let (port, monitor) = (site.ports.get(node)?, site.ports.get(&format!("{node}-monitor"))?);
    let store = site.folder(node)?;
    let mut users = Vec::new();
    for user in nats_rights::users() {
        let password = site.password(&password_name(user.name))?;
        users.push((user, password));
    }
    let config = site.secrets.path(&format!("{node}.conf"));
    let mut ports = vec![port, monitor];
    let always = site.nats_syncs_always.load(Ordering::Relaxed);
    let mut text = render(node, port, monitor, &store.display().to_string(), always, &users);
    if site.nats_nodes > 1 {
        let own = site.ports.get(&format!("{node}-cluster"))?;
        let routes = nodes(site.nats_nodes).map(|node| site.ports.get(&format!("{node}-cluster")));
        text.push_str(&render_cluster(own, &routes.collect::<Result<Vec<_>>>()?));
        ports.push(own);
    }
    if let Some(tls) = &site.tls {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        text.push_str(&format!("tls {{\n  cert_file: \"{certificate}\"\n  key_file: \"{key}\"\n}}\n"));
    }
    super::secrets::write(&config, &text)?;
    Ok(Part {
        launch: site.launch(
            node,
            &site.tools.nats_server,
            [args(["--config"]), vec![config.display().to_string()]].concat(),
            vec![],
        )?,
        ports,
        ready: Ready::Http(format!("http://127.0.0.1:{monitor}/healthz")),
        within: Duration::from_secs(120),
        grace: Duration::from_secs(20),
        why: "reads its streams back from disk",
    })
}

/// Name among the secrets of a user's password.
pub(super) fn password_name(user: &str) -> String {
    format!("nats-{user}")
}

/// The configuration file.
fn render(
    node: &str,
    port: u16,
    monitor: u16,
    store: &str,
    sync_always: bool,
    users: &[(User, String)],
) -> String {
    // An acknowledgement means: on disk. With packs this costs next to nothing.
    let sync = if sync_always { "sync_interval: always" } else { "" };
    let mut text = format!(
        r#"server_name: {node}
host: 127.0.0.1
port: {port}
http: "127.0.0.1:{monitor}"
jetstream {{
  store_dir: "{store}"
  # Lanes reserve what they may hold at most. A developer's disk seldom has room for all of that, and need not.
  max_file_store: 1TB
  {sync}
}}
authorization {{
  users: [
"#
    );
    for (user, password) in users {
        text.push_str(&user.render(password));
    }
    text.push_str("  ]\n}\n");
    text
}

/// How one server finds the others.
fn render_cluster(port: u16, routes: &[u16]) -> String {
    let routes: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
    format!(
        "cluster {{\n  name: meterplane\n  listen: 127.0.0.1:{port}\n  routes: [{}]\n}}\n",
        routes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_syncs_always_and_holds_every_user_once() {
        let users: Vec<(User, String)> = nats_rights::users()
            .into_iter()
            .map(|user| (format!("secret-of-{}", user.name), user))
            .map(|(secret, user)| (user, secret))
            .collect();
        let text = render("nats", 4222, 8222, "/d/nats", true, &users);
        assert!(text.contains("sync_interval: always") && text.contains("host: 127.0.0.1"));
        assert!(!render("nats", 4222, 8222, "/d/nats", false, &users).contains("sync_interval"));
        for name in ["operator", "ingest", "sink", "console", "tool"] {
            assert_eq!(text.matches(&format!("user: \"{name}\"")).count(), 1, "{name}");
            assert_eq!(text.matches(&format!("password: \"secret-of-{name}\"")).count(), 1, "{name}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert_eq!(text.matches('[').count(), text.matches(']').count());
    }
}
