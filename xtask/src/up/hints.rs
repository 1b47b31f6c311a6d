//! What a person can do next.

use super::quickstart::Tenant;
use crate::Result;
use crate::platform::Platform;

/// URLs and command lines of a running platform.
pub(super) fn all(platform: &Platform, tenants: &[Tenant]) -> Result<Vec<String>> {
    let urls = platform.urls()?;
    let kubectl = platform.kubectl();
    let tools = kubectl.program().parent().unwrap_or(kubectl.program());
    let mut lines = vec![
        String::new(),
        format!("Console     {}", urls.console),
        format!("Ingest      {}   {}", urls.ingest[0], urls.ingest[1]),
        format!("ClickHouse  {}   NATS {}   Vault {}", urls.clickhouse, urls.nats, urls.vault),
        format!(
            "Cluster     export KUBECONFIG={} PATH={}:$PATH",
            platform.kubeconfig().display(),
            tools.display()
        ),
    ];
    if let Some(tenant) = tenants.first() {
        let (write, read) = (&tenant.ingest, &tenant.read);
        lines.extend([
            String::new(),
            format!("  KEY=$({})", secret(&write.namespace, &write.secret)),
            format!("  curl -i {}/v1/usage/events -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\", urls.ingest[0]),
            "    -d '{\"id\":\"my-first-event\",\"type\":\"report.export\",\"subject\":\"ann\",\"data\":{\"format\":\"pdf\"}}'".into(),
            format!("  READ=$({})", secret(&read.namespace, &read.secret)),
            format!("  curl -s {}/v1/dashboard/summary -H \"Authorization: Bearer $READ\"", urls.console),
            "  kubectl get tenants,usagelimits,accesspolicies,apikeys -A".into(),
        ]);
    }
    lines.extend([
        String::new(),
        "  cargo xtask status | logs NAME -f | restart NAME | down | reset".into(),
        String::new(),
    ]);
    Ok(lines)
}

fn secret(namespace: &str, name: &str) -> String {
    format!("kubectl -n {namespace} get secret {name} -o jsonpath='{{.data.MP_API_KEY}}' | base64 -d")
}
