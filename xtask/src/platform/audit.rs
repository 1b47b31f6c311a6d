//! What our processes asked the kube-apiserver for, by its own audit log: which rights they use, and how much they write.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cluster::NAMESPACE;
use super::site::Site;
use crate::{Error, Result};

/// A call of one of our processes that was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditedCall {
    /// Whose: the name of its service account.
    pub account: String,
    /// What was wanted, as roles name it.
    pub verb: String,
    /// Group of the resource; empty for the oldest.
    pub group: String,
    /// Resource, with its subresource after a slash.
    pub resource: String,
    /// Object, where one was named.
    pub name: String,
    /// HTTP status.
    pub code: u16,
}

impl AuditedCall {
    /// Whether it was to change something, and did.
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str()) && self.code < 300
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

/// Where the log is.
pub(super) fn log(site: &Site) -> PathBuf {
    site.dir.join("apiserver/audit.log")
}

/// Flags that have the apiserver write down who of ours asked for what, and nothing that was said.
pub(super) fn flags(site: &Site) -> Result<Vec<String>> {
    let policy = site.folder("apiserver")?.join("audit-policy.yaml");
    let text = format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - {{level: Metadata, userGroups: [\"system:serviceaccounts:{NAMESPACE}\"]}}\n- {{level: None}}\n"
    );
    fs::write(&policy, text).map_err(Error::io(format!("cannot write {}", policy.display())))?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log(site).display()),
        "--audit-log-maxsize=200".into(),
        "--audit-log-maxbackup=1".into(),
    ])
}

/// The calls so far, in order. A watch shows when it begins.
pub(super) fn read(log: &Path) -> Result<Vec<AuditedCall>> {
    let text = fs::read_to_string(log).map_err(Error::io(format!("cannot read {}", log.display())))?;
    let prefix = format!("system:serviceaccount:{NAMESPACE}:");
    let call = |line: &str| {
        // The last line may be half written.
        let line: Line = serde_json::from_str(line).ok()?;
        let object = line.object_ref.unwrap_or_default();
        let parts = [object.resource, object.subresource];
        let resource: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        Some(AuditedCall {
            account: line.user.username.strip_prefix(&prefix)?.to_owned(),
            verb: line.verb,
            group: object.api_group,
            resource: resource.join("/"),
            name: object.name,
            code: line.response_status.unwrap_or_default().code,
        })
    };
    Ok(text.lines().filter_map(call).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_as_roles_name_it() {
        let folder = std::env::temp_dir().join(format!("audit-{}", std::process::id()));
        let line = r#"{"verb":"patch","user":{"username":"system:serviceaccount:meterplane-system:operator"},"objectRef":{"resource":"tenants","subresource":"status","apiGroup":"meterplane.io","name":"acme"},"responseStatus":{"code":200}}"#;
        let other = r#"{"verb":"get","user":{"username":"admin"}}"#;
        fs::write(&folder, format!("{line}\n{other}\n{{\"verb\":")).unwrap();
        let calls = read(&folder).unwrap();
        fs::remove_file(&folder).unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!((calls[0].resource.as_str(), calls[0].is_write()), ("tenants/status", true));
    }
}
