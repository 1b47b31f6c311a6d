//! Builds our own programs with the cargo that runs us.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::progress::Task;
use crate::run::{Line, run};
use crate::{Cancel, Error, Paths, Result};

/// How programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Soon, for everything but measurements.
    #[default]
    Dev,
    /// As they are deployed.
    Release,
}

/// What is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs<'a> {
    /// Packages that hold one program each.
    pub packages: &'a [&'a str],
    /// Features named `package/feature`.
    pub features: &'a [String],
    /// How.
    pub profile: Profile,
    /// Where to, if not where cargo puts it.
    pub target: Option<&'a Path>,
}

/// Builds programs and returns the folder that they are in.
///
/// # Errors
/// [`Error::Program`] with the compiler's words.
pub fn build(paths: &Paths, programs: Programs<'_>, task: &Task, cancel: &Cancel) -> Result<PathBuf> {
    let Programs { packages, features, profile, target } = programs;
    let mut command = Paths::cargo();
    command.current_dir(&paths.root).args(["build", "--bins", "--message-format=json-render-diagnostics"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    for package in packages {
        command.args(["-p", package]);
    }
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    let (mut compiled, mut folder, mut diagnostics) = (0_u32, None, Vec::new());
    let built = run(&mut command, "cargo build", cancel, |line| match line {
        Line::Out(text) => {
            folder = executable_folder(text).or(folder.take());
        }
        Line::Err(text) if text.trim_start().starts_with("Compiling") => {
            compiled += 1;
            task.comment(&format!("{} ({compiled} crates compiled)", text.trim()));
        }
        Line::Err(text) if text.trim_start().starts_with("Blocking") => {
            task.note("another cargo holds the build folder");
        }
        Line::Err(text) => diagnostics.push(text.clone()),
    });
    match built {
        // The compiler's whole message, not only its last lines: the first error is the one that counts.
        Err(Error::Program { program, .. }) => {
            Err(Error::Program { program, detail: diagnostics.join("\n") })
        }
        Err(other) => Err(other),
        Ok(()) => folder.ok_or_else(|| Error::Format {
            what: "cargo's answer".into(),
            detail: format!("it names no program for {}", packages.join(", ")),
        }),
    }
}

/// The folder of the program that a `compiler-artifact` message tells of.
fn executable_folder(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let program = message.get("executable")?.as_str()?;
    Some(PathBuf::from(program).parent()?.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_comes_from_cargos_own_messages() {
        let message = r#"{"reason":"compiler-artifact","executable":"/t/debug/sink"}"#;
        assert_eq!(executable_folder(message), Some("/t/debug".into()));
        assert_eq!(executable_folder(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable_folder("warning: x"), None);
    }
}
