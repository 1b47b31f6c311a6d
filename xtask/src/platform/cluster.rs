//! What the cluster must hold before our processes start: resource types, namespace, service accounts, roles, and a token a
//! process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::apiserver::{kubectl, write_kubeconfig};
use super::kubectl::Kubectl;
use super::site::Site;
use crate::{Error, Result};

/// The namespace of our own processes.
pub(super) const NAMESPACE: &str = "meterplane-system";
/// Tokens are renewed at every start, so this is how long one `up` may last.
const TOKENS_LAST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Who talks to the apiserver.
const WITH_API: [&str; 2] = ["operator", "console"];
/// Who logs in to Vault.
pub(super) const WITH_VAULT: [&str; 3] = ["operator", "ingest", "console"];

/// Applies resource types and manifests, then issues the tokens.
pub(super) fn prepare(site: &Site) -> Result<()> {
    let task = site.progress.task("cluster", "applies resource types, namespace, accounts and roles");
    let kubectl = kubectl(site);
    let types = yaml_files(&site.paths.root.join("crds/yaml"))?;
    let manifests = manifests(site)?;
    kubectl.apply(&[types.clone(), manifests].concat())?;
    if !types.is_empty() {
        task.note("waits until the apiserver serves the resource types");
        let files: Vec<String> = types.iter().map(|file| format!("--filename={}", file.display())).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        kubectl.wait("condition=Established", &files, Duration::from_secs(60))?;
        await_writable(site, &kubectl)?;
    }
    task.note("issues service account tokens");
    std::thread::scope(|scope| {
        let mut jobs = Vec::new();
        for account in WITH_API {
            jobs.push(scope.spawn(move || issue(site, account, None)));
        }
        for account in WITH_VAULT {
            jobs.push(scope.spawn(move || issue(site, account, Some("vault"))));
        }
        jobs.into_iter().try_for_each(|job| job.join().unwrap_or(Err(Error::Interrupted)))
    })?;
    for account in WITH_API {
        write_kubeconfig(site, account, &api_token(account), &kubeconfig_of(site, account))?;
    }
    task.done("resource types, roles and tokens are in place");
    Ok(())
}

/// Annotation that the apiserver writes once it is complete.
const STAMP: &str = "meterplane.io/changed-by";

/// Waits until objects can be written: mutating policies are seen a moment after they are there, learn of new types every five seconds,
/// and in between the apiserver refuses what they would look at.
fn await_writable(site: &Site, kubectl: &Kubectl) -> Result<()> {
    let plans = format!("--filename={}", site.paths.root.join("examples/quickstart/plans.yaml").display());
    let mut said = String::new();
    let writable = site.cancel.until(Duration::from_secs(60), Duration::from_millis(300), || {
        let dry =
            ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--output=yaml", &plans];
        match kubectl.run(&dry) {
            Ok(written) if written.contains(STAMP) => Ok(Some(())),
            Ok(_) => Ok(None),
            Err(error) => {
                said = error.to_string();
                Ok(None)
            }
        }
    })?;
    writable.ok_or_else(|| Error::Program { program: "writing a Plan".into(), detail: said })
}

/// Name among the secrets of a process's token for the apiserver.
fn api_token(account: &str) -> String {
    format!("kube-{account}.token")
}

/// Name among the secrets of a process's token for Vault.
pub(super) fn vault_token(account: &str) -> String {
    format!("vault-{account}.jwt")
}

/// The kubeconfig with a process's own rights.
pub(super) fn kubeconfig_of(site: &Site, account: &str) -> PathBuf {
    site.dir.join(format!("kubeconfig-{account}"))
}

fn issue(site: &Site, account: &str, audience: Option<&str>) -> Result<()> {
    let token = kubectl(site).token(NAMESPACE, account, audience, TOKENS_LAST)?;
    let name = if audience.is_some() { vault_token(account) } else { api_token(account) };
    site.secrets.put(&name, &token)
}

/// The manifest that says where the webhook is.
const WEBHOOK: &str = "webhook.yaml";

/// The manifests of the chart, those first that the others live in.
fn manifests(site: &Site) -> Result<Vec<PathBuf>> {
    let mut files = yaml_files(&site.paths.root.join("charts/meterplane/manifests"))?;
    for file in files.iter_mut().filter(|file| file.ends_with(WEBHOOK)) {
        *file = reached_by_url(site, file)?;
    }
    let rank = |file: &PathBuf| match file.file_name().and_then(|name| name.to_str()) {
        Some("namespace.yaml") => 0,
        Some("serviceaccounts.yaml") => 1,
        _ => 2,
    };
    files.sort_by_key(|file| (rank(file), file.clone()));
    Ok(files)
}

/// The same manifest for a webhook that no Service leads to.
fn reached_by_url(site: &Site, manifest: &Path) -> Result<PathBuf> {
    let text =
        fs::read_to_string(manifest).map_err(Error::io(format!("cannot read {}", manifest.display())))?;
    let url = format!("https://127.0.0.1:{}", site.ports.get("operator-webhook")?);
    let to = site.folder("manifests")?.join(WEBHOOK);
    let wrong = |detail: String| Error::Format { what: manifest.display().to_string(), detail };
    let by_url = with_url(&text, &url).map_err(|error| wrong(error.to_string()))?;
    fs::write(&to, by_url).map_err(Error::io(format!("cannot write {}", to.display())))?;
    Ok(to)
}

fn with_url(manifests: &str, server: &str) -> serde_yaml_ng::Result<String> {
    let mut all = String::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifests) {
        let mut object = Value::deserialize(document)?;
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            let config = &mut webhook["clientConfig"];
            let path = config["service"]["path"].as_str().unwrap_or_default();
            *config = json!({"url": format!("{server}{path}")});
        }
        all.push_str("---\n");
        all.push_str(&serde_yaml_ng::to_string(&object)?);
    }
    Ok(all)
}

/// The `*.yaml` files of a folder by name; none when there is no such folder.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::io(format!("cannot read {}", folder.display()))(error)),
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_called_by_url_and_all_else_stays() {
        let manifests = "# why\nkind: A\nwebhooks:\n- name: x\n  clientConfig: {service: {name: operator, path: /validate}}\n\
            ---\nkind: B\nrules: [{verbs: [get]}]\n";
        let text = with_url(manifests, "https://127.0.0.1:7").unwrap();
        let objects: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let webhook = json!({"name": "x", "clientConfig": {"url": "https://127.0.0.1:7/validate"}});
        assert_eq!(
            objects,
            [
                json!({"kind": "A", "webhooks": [webhook]}),
                json!({"kind": "B", "rules": [{"verbs": ["get"]}]})
            ]
        );
    }
}
