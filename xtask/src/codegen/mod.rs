//! `cargo xtask codegen`: writes every file that is generated from code. They are committed, so that they are read and reviewed
//! like any other; a test of each crate, and `cargo xtask test`, say when one is not what the code says.

pub mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::{Cancel, Error, Paths, Progress, Result, run};

/// Where the reference of the custom resources lies.
pub const CRDS_REFERENCE: &str = "docs/reference/crds.md";
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
    let (paths, progress) = (Paths::discover()?, Progress::detect());
    let task = progress.task("codegen", "builds what the files are generated from");
    let files = generate(&paths, &Cancel::default())?;
    let mut stale = Vec::new();
    for (name, text) in &files {
        let path = paths.root.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == *text) {
            continue;
        }
        stale.push(name.display().to_string());
        if !args.check {
            let folder = path.parent().unwrap_or(&paths.root);
            std::fs::create_dir_all(folder)
                .map_err(Error::io(format!("cannot create {}", folder.display())))?;
            std::fs::write(&path, text).map_err(Error::io(format!("cannot write {}", path.display())))?;
        }
    }
    let what = if stale.is_empty() { "none".to_owned() } else { stale.join(", ") };
    if args.check && !stale.is_empty() {
        task.done(&format!("not what the code says: {what}; run `cargo xtask codegen`"));
        return Ok(ExitCode::FAILURE);
    }
    task.done(&format!("{} files, changed: {what}", files.len()));
    Ok(ExitCode::SUCCESS)
}

/// Every generated file: its path in the repository, and its text.
fn generate(paths: &Paths, cancel: &Cancel) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let definitions = cargo_run(paths, &["-p", "crds", "--bin", "crds-yaml"], cancel)?;
    let definitions: BTreeMap<String, String> = serde_json::from_str(&definitions)
        .map_err(|e| Error::Format { what: "the answer of crds-yaml".into(), detail: e.to_string() })?;
    files.insert(CRDS_REFERENCE.into(), reference::crds(&definitions)?);
    for (name, text) in definitions {
        files.insert(PathBuf::from("crds/yaml").join(name), text);
    }
    for program in WITH_OPENAPI {
        let document = cargo_run(paths, &["-p", program, "--", "--openapi"], cancel)?;
        files.insert(format!("docs/reference/openapi/{program}.json").into(), document);
    }
    Ok(files)
}

fn cargo_run(paths: &Paths, args: &[&str], cancel: &Cancel) -> Result<String> {
    let mut command = Command::new(Paths::cargo());
    command.current_dir(&paths.root).args(["run", "--quiet"]).args(args);
    run::output(&mut command, &format!("cargo run {}", args.join(" ")), cancel)
}
