//! What every Cargo.toml of ours says.

use super::tree::Tree;
use crate::Result;

/// Runs a C library and so needs unsafe code, which the workspace's lints forbid.
const OWN_LINTS: &str = "xtask/chdb/Cargo.toml";

/// Workspaces of their own cannot inherit: their manifests say the same in full.
const OWN_WORKSPACES: [&str; 2] = ["xtask/bench-decide/Cargo.toml", "xtask/bench-load/Cargo.toml"];
/// What it says.
const IN_FULL: [&str; 4] =
    ["license = \"Apache-2.0\"", "edition = \"2024\"", "publish = false", "unsafe_code = \"forbid\""];

/// Every crate shares the workspace's lints, licence and edition.
///
/// # Errors
/// None.
pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let manifests = tree.ending("toml").filter(|file| file.path.ends_with("/Cargo.toml"));
    for manifest in manifests {
        let lines: Vec<&str> = manifest.text.lines().map(str::trim).collect();
        if OWN_WORKSPACES.contains(&manifest.path.as_str()) {
            let missing = IN_FULL.iter().filter(|line| !lines.contains(line));
            found.extend(missing.map(|line| format!("{} does not say `{line}`", manifest.path)));
            continue;
        }
        let has_lints = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
        if !has_lints && manifest.path != OWN_LINTS {
            found.push(format!("{} does not share the workspace's lints", manifest.path));
        }
        for field in ["license.workspace = true", "edition.workspace = true", "publish.workspace = true"] {
            if !lines.contains(&field) {
                found.push(format!("{} does not say `{field}`", manifest.path));
            }
        }
    }
    Ok(found)
}

/// The licence file is the one that the manifests name.
///
/// # Errors
/// None.
pub fn licence(tree: &Tree) -> Result<Vec<String>> {
    let (text, manifest) = (tree.text("LICENSE"), tree.text("Cargo.toml"));
    let whole = ["Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"];
    let mut found: Vec<String> = whole
        .iter()
        .filter(|part| !text.contains(**part))
        .map(|part| format!("LICENSE lacks {part:?}"))
        .collect();
    if !manifest.contains("license = \"Apache-2.0\"") {
        found.push("Cargo.toml does not name Apache-2.0".to_owned());
    }
    Ok(found)
}
