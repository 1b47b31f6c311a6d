//! kube-apiserver with RBAC on: the API that operator, console and people use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::audit;
use super::kubectl::{Kubectl, kubeconfig};
use super::site::{Part, Ready, Site};
use crate::{Result, random};

/// Who issues service account tokens; Vault checks it.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Names of the service account keys among the secrets.
pub(super) const PRIVATE_KEY: &str = "service-account.key";
/// The public half; Vault verifies tokens with it.
pub(super) const PUBLIC_KEY: &str = "service-account.pub";
/// Name of the administrator's token among the secrets.
const ADMIN_TOKEN: &str = "kube-admin.token";

/// Makes the keys, the administrator's token and kubeconfig. Needs nothing that runs.
pub(super) fn prepare(site: &Site) -> Result<()> {
    if site.secrets.find(PRIVATE_KEY)?.is_none() || site.secrets.find(PUBLIC_KEY)?.is_none() {
        let (private, public) = random::signing_key()?;
        site.secrets.put(PUBLIC_KEY, &public)?;
        site.secrets.put(PRIVATE_KEY, &private)?;
    }
    let token = site.password(ADMIN_TOKEN)?;
    site.secrets.put("kube-tokens.csv", &format!("{token},admin,admin,\"system:masters\"\n"))?;
    write_kubeconfig(site, "admin", ADMIN_TOKEN, &admin_kubeconfig(site))
}

/// The administrator's kubeconfig: what a person exports as KUBECONFIG.
pub(super) fn admin_kubeconfig(site: &Site) -> PathBuf {
    site.dir.join("kubeconfig")
}

/// Writes a kubeconfig for the holder of this token.
pub(super) fn write_kubeconfig(site: &Site, user: &str, token: &str, to: &Path) -> Result<()> {
    let ca = site.dir.join("apiserver/apiserver.crt");
    let text = kubeconfig(site.ports.get("kube-apiserver")?, &ca, user, &site.secrets.path(token));
    super::secrets::write(to, &text)
}

/// kubectl as the administrator.
pub(super) fn kubectl(site: &Site) -> Kubectl {
    Kubectl::new(&site.tools.kubectl, &admin_kubeconfig(site), &site.cancel)
}

/// The part.
pub(super) fn part(site: &Site) -> Result<Part> {
    let port = site.ports.get("kube-apiserver")?;
    let secret = |name: &str| site.secrets.path(name).display().to_string();
    let mut args = vec![
        format!("--etcd-servers={}", site.url("etcd")?),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        // The server makes itself a certificate in this folder, and the kubeconfigs trust it.
        format!("--cert-dir={}", site.folder("apiserver")?.display()),
        format!("--service-account-key-file={}", secret(PUBLIC_KEY)),
        format!("--service-account-signing-key-file={}", secret(PRIVATE_KEY)),
        format!("--service-account-issuer={ISSUER}"),
        format!("--token-auth-file={}", secret("kube-tokens.csv")),
        "--authorization-mode=RBAC".into(),
        "--anonymous-auth=false".into(),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        // There is one apiserver, and no pod that would look for it by its Service.
        "--endpoint-reconciler-type=none".into(),
        "--profiling=false".into(),
    ];
    args.extend(audit::flags(site)?);
    Ok(Part {
        launch: site.launch("kube-apiserver", &site.tools.kube_apiserver, args, vec![])?,
        ports: vec![port],
        ready: Ready::Apiserver,
        within: Duration::from_secs(120),
        grace: Duration::from_secs(8),
        why: "creates its own roles and priority levels, about 8 s",
    })
}
