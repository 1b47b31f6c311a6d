//! Which crate may use which.

use serde_json::Value;

use super::tree::Tree;
use crate::{Cancel, Error, Paths, Result, run};

/// Crates of ours, and those of ours that each may use.
const OURS: [(&str, &[&str]); 15] = [
    ("event", &[]),
    ("policy", &["event"]),
    ("crds", &[]),
    ("credentials", &[]),
    ("jetstream", &["event", "credentials"]),
    ("clickhouse", &["event", "credentials", "crash-points"]),
    ("vault", &["event", "credentials"]),
    ("operator", &["event", "policy", "crds", "jetstream", "clickhouse", "vault", "crash-points"]),
    ("ingest", &["event", "policy", "jetstream", "vault", "crash-points"]),
    ("sink", &["event", "jetstream", "clickhouse", "crash-points"]),
    ("console", &["event", "policy", "crds", "jetstream", "clickhouse", "vault"]),
    ("system-tests", &["event", "policy", "crds", "jetstream", "clickhouse", "vault", "xtask"]),
    ("xtask", &["event", "crash-points"]),
    ("chdb", &[]),
    // Optional, and off: see its documentation.
    ("crash-points", &[]),
];
/// Crates of others that only some of ours may use.
const THEIRS: [(&str, &[&str]); 12] = [
    ("kube", &["crds", "operator", "console", "system-tests"]),
    ("k8s-openapi", &["crds", "operator", "console", "system-tests"]),
    ("async-nats", &["jetstream"]),
    ("vaultrs", &["vault"]),
    ("reqwest", &["vault"]),
    ("rustls", &["credentials", "vault", "operator"]),
    ("hyper", &["jetstream", "clickhouse", "ingest", "console", "sink", "operator", "system-tests"]),
    ("tokio", &["jetstream", "clickhouse", "vault", "operator", "ingest", "sink", "console", "system-tests"]),
    ("axum", &["operator", "ingest", "sink", "console", "jetstream", "clickhouse", "vault"]),
    ("ureq", &["xtask", "system-tests"]),
    ("cel", &["policy"]),
    ("libloading", &["chdb"]),
];

/// Compares every crate's dependencies, those of tests among them, with the drawing.
///
/// # Errors
/// When cargo does not answer.
pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut command = Paths::cargo();
    command.current_dir(&tree.root).args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let answer = run::output(&mut command, "cargo metadata", &Cancel::default())?;
    let wrong = |e: serde_json::Error| Error::Format { what: "cargo's answer".into(), detail: e.to_string() };
    let metadata: Value = serde_json::from_str(&answer).map_err(wrong)?;
    Ok(violations(&metadata))
}

fn violations(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, may_use)) = OURS.iter().find(|(ours, _)| *ours == name) else {
            found.push(format!(
                "crate {name} is not in the drawing: say in xtask/src/tidy/arrows.rs what it may use"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_ours = OURS.iter().any(|(ours, _)| *ours == used);
            let allowed = THEIRS.iter().find(|(theirs, _)| *theirs == used);
            if is_ours && !may_use.contains(&used) || allowed.is_some_and(|(_, users)| !users.contains(&name))
            {
                found.push(format!("{name} may not depend on {used}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arrows_against_the_drawing_are_found() {
        let package = |name: &str, uses: &[&str]| {
            let dependencies: Vec<Value> = uses.iter().map(|name| json!({"name": name})).collect();
            json!({"name": name, "dependencies": dependencies})
        };
        let metadata = json!({"packages": [
            package("ingest", &["policy", "tokio", "serde", "kube", "clickhouse"]),
            package("policy", &["event", "tokio", "cel"]),
            package("sink", &["ingest"]),
            package("newcomer", &[]),
        ]});
        let found = violations(&metadata);
        assert_eq!(
            found[..4],
            [
                "ingest may not depend on kube",
                "ingest may not depend on clickhouse",
                "policy may not depend on tokio",
                "sink may not depend on ingest",
            ]
        );
        assert!(found[4].starts_with("crate newcomer") && found.len() == 5);
    }
}
