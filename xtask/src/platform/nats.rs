//! nats-server with JetStream: lanes, ledgers, policy. Every acknowledged message is on disk.

use std::time::Duration;

use super::nats_rights::{self, User};
use super::site::{Part, Ready, Site, args};
use crate::Result;

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let (port, monitor) = (site.ports.get("nats")?, site.ports.get("nats-monitor")?);
    let store = site.folder("nats")?;
    let mut users = Vec::new();
    for user in nats_rights::users() {
        let password = site.password(&password_name(user.name))?;
        users.push((user, password));
    }
    let config = site.secrets.path("nats.conf");
    super::secrets::write(&config, &render(port, monitor, &store.display().to_string(), &users))?;
    Ok(Part {
        launch: site.launch(
            "nats",
            &site.tools.nats_server,
            [args(["--config"]), vec![config.display().to_string()]].concat(),
            vec![],
        )?,
        ports: vec![port, monitor],
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
fn render(port: u16, monitor: u16, store: &str, users: &[(User, String)]) -> String {
    let mut text = format!(
        r#"server_name: dev
host: 127.0.0.1
port: {port}
http: "127.0.0.1:{monitor}"
jetstream {{
  store_dir: "{store}"
  # An acknowledgement means: on disk. With packs this costs next to nothing.
  sync_interval: always
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
        let text = render(4222, 8222, "/d/nats", &users);
        assert!(text.contains("sync_interval: always") && text.contains("host: 127.0.0.1"));
        for name in ["operator", "ingest", "sink", "console", "tool"] {
            assert_eq!(text.matches(&format!("user: \"{name}\"")).count(), 1, "{name}");
            assert_eq!(text.matches(&format!("password: \"secret-of-{name}\"")).count(), 1, "{name}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert_eq!(text.matches('[').count(), text.matches(']').count());
    }
}
