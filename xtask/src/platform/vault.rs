//! Vault with its own storage (raft, one node): initialised at the first start, unsealed at every one. The one unseal key lies among the secrets,
//! which is right on a developer's machine and nowhere else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::secrets;
use super::site::{Part, Ready, Site};
use super::tls::Tls;
use crate::{Error, Result};

/// Name among the secrets of what initialisation yields.
const INIT: &str = "vault.json";

/// What initialisation yields.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Init {
    keys_base64: Vec<String>,
    /// The administrator's token.
    pub root_token: String,
}

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let (port, cluster) = (site.ports.get("vault")?, site.ports.get("vault-cluster")?);
    let (folder, data) = (site.folder("vault")?, site.folder("vault/data")?);
    let config = folder.join("vault.hcl");
    let mut ports = vec![port, cluster];
    let mut text = render(port, cluster, &data.display().to_string());
    if let Some(tls) = &site.tls {
        let port = site.ports.get("vault-tls")?;
        text.push_str(&render_tls(port, tls));
        ports.push(port);
    }
    secrets::write(&config, &text)?;
    let args = vec!["server".into(), format!("-config={}", config.display())];
    Ok(Part {
        launch: site.launch("vault", &site.tools.vault, args, vec![])?,
        ports,
        // Answers before it is initialised and unsealed, which `unseal` does then.
        ready: Ready::Http(format!("http://127.0.0.1:{port}/v1/sys/health?uninitcode=200&sealedcode=200")),
        within: Duration::from_secs(60),
        grace: Duration::from_secs(15),
        why: "opens its storage",
    })
}

fn render(port: u16, cluster: u16, data: &str) -> String {
    format!(
        r#"storage "raft" {{
  path                   = "{data}"
  node_id                = "dev"
  # It elects itself as fast as it can.
  performance_multiplier = 1
}}
listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_disable     = true
}}
api_addr      = "http://127.0.0.1:{port}"
cluster_addr  = "https://127.0.0.1:{cluster}"
disable_mlock = true
ui            = false
log_level     = "warn"
"#
    )
}

/// A second listener: what sets Vault up here speaks no TLS.
fn render_tls(port: u16, tls: &Tls) -> String {
    let (certificate, key) = (tls.certificate.display(), tls.key.display());
    format!(
        r#"listener "tcp" {{
  address       = "127.0.0.1:{port}"
  tls_cert_file = "{certificate}"
  tls_key_file  = "{key}"
}}
"#
    )
}

/// Initialises and unseals a running Vault as needed.
pub(super) fn unseal(site: &Site) -> Result<Init> {
    let url = site.url("vault")?;
    let status =
        site.http.get(&format!("{url}/v1/sys/seal-status"), &[])?.accepted("vault seal-status")?.json();
    if status["initialized"] != true {
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let answer = site.http.send_json("PUT", &format!("{url}/v1/sys/init"), &[], &shares)?;
        site.secrets.put(INIT, &answer.accepted("initialising vault")?.body)?;
    }
    let init = site.secrets.find(INIT)?.ok_or_else(|| Error::Missing {
        what: "vault's unseal key".into(),
        remedy: "its storage cannot be opened again; `cargo xtask reset` begins anew, without the data"
            .into(),
    })?;
    let init: Init = serde_json::from_str(&init).map_err(|e| Error::Format {
        what: site.secrets.path(INIT).display().to_string(),
        detail: e.to_string(),
    })?;
    if status["sealed"] != false {
        for key in &init.keys_base64 {
            site.http
                .send_json("PUT", &format!("{url}/v1/sys/unseal"), &[], &json!({"key": key}))?
                .accepted("unsealing vault")?;
        }
    }
    await_active(site, &url)?;
    Ok(init)
}

/// An unsealed Vault takes a moment to elect itself, and answers errors until then.
fn await_active(site: &Site, url: &str) -> Result<()> {
    let (within, every) = (Duration::from_secs(60), Duration::from_millis(100));
    let mut last = String::new();
    let active = site.cancel.until(within, every, || {
        let answer = site.http.get(&format!("{url}/v1/sys/health"), &[])?;
        last = answer.summary();
        Ok(answer.ok().then_some(()))
    })?;
    active.ok_or_else(|| Error::NotReady {
        part: "vault".into(),
        seconds: within.as_secs(),
        last,
        log: site.log("vault"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vault_listens_on_this_machine_only_and_keeps_its_data() {
        let text = render(8200, 8201, "/d/vault/data");
        assert!(text.contains(r#" = "127.0.0.1:8200""#) && text.contains(r#" = "/d/vault/data""#));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
