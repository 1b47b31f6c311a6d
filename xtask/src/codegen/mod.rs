//! `cargo xtask codegen`: writes every file that is generated from code. They are committed, so that they are read and reviewed
//! like any other; a unit test of the crate that a file comes from says when it is not what the code says.

pub mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Cancel, Error, Paths, Progress, Result, run};

/// Where the reference of the custom resources lies.
pub const CRDS_REFERENCE: &str = "docs/reference/crds.md";
/// Where the chart keeps the definitions.
pub const CHART_CRDS: &str = "charts/meterplane/manifests/crds";
/// Programs that print their OpenAPI document.
const WITH_OPENAPI: [&str; 2] = ["console", "ingest"];

/// How `codegen` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Write nothing; fail when a file is not what the code says.
    #[arg(long)]
    check: bool,
}

/// Writes the generated files, or compares them.
///
/// # Errors
/// When a program that generates does not compile, or a file cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (paths, cancel) = (Paths::discover()?, Cancel::default());
    let task = Progress::detect().task("codegen", "builds what the files are generated from");
    if args.check {
        check(&paths, &cancel)?;
        task.done("every file is what the code says");
        return Ok(ExitCode::SUCCESS);
    }
    let files = generate(&paths, &cancel)?;
    let stale = stale(&paths, &files);
    for name in &stale {
        let path = paths.root.join(name);
        let folder = path.parent().unwrap_or(&paths.root);
        std::fs::create_dir_all(folder).map_err(Error::io(format!("cannot create {}", folder.display())))?;
        std::fs::write(&path, &files[name]).map_err(Error::io(format!("cannot write {}", path.display())))?;
    }
    task.done(&format!("{} files, changed: {}", files.len(), listed(&stale)));
    Ok(ExitCode::SUCCESS)
}

/// Compares the generated files with what the code says.
///
/// # Errors
/// [`Error::Format`] naming the files that differ, or what kept them from being generated.
pub fn check(paths: &Paths, cancel: &Cancel) -> Result<()> {
    let stale = stale(paths, &generate(paths, cancel)?);
    if stale.is_empty() {
        return Ok(());
    }
    let detail = "it is not what the code says: run `cargo xtask codegen`".to_owned();
    Err(Error::Format { what: listed(&stale), detail })
}

fn stale(paths: &Paths, files: &BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let is_current = |(name, text): &(&PathBuf, &String)| {
        std::fs::read_to_string(paths.root.join(name)).is_ok_and(|present| present == **text)
    };
    files.iter().filter(|file| !is_current(file)).map(|(name, _)| name.clone()).collect()
}

fn listed(names: &[PathBuf]) -> String {
    let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Every generated file: its path in the repository, and its text.
fn generate(paths: &Paths, cancel: &Cancel) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let definitions = cargo_run(paths, &["-p", "crds", "--bin", "crds-yaml"], cancel)?;
    let definitions: BTreeMap<String, String> = serde_json::from_str(&definitions)
        .map_err(|e| Error::Format { what: "the answer of crds-yaml".into(), detail: e.to_string() })?;
    files.insert(CRDS_REFERENCE.into(), reference::crds(&definitions)?);
    for (name, text) in definitions {
        // A chart is packed from its own folder and cannot reach into another.
        files.insert(PathBuf::from(CHART_CRDS).join(&name), text.clone());
        files.insert(PathBuf::from("crds/yaml").join(name), text);
    }
    for program in WITH_OPENAPI {
        let document = cargo_run(paths, &["-p", program, "--", "--openapi"], cancel)?;
        files.insert(format!("docs/reference/openapi/{program}.json").into(), document);
    }
    Ok(files)
}

fn cargo_run(paths: &Paths, args: &[&str], cancel: &Cancel) -> Result<String> {
    let mut command = Paths::cargo();
    command.current_dir(&paths.root).args(["run", "--quiet"]).args(args);
    run::output(&mut command, &format!("cargo run {}", args.join(" ")), cancel)
}
