//! Our programs as they were at an earlier commit, built once.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Job;
use crate::cargo::{self, Programs};
use crate::{Error, Result, run};

/// Digits of a commit that its folder is named by.
const DIGITS: usize = 12;

/// Programs of an earlier commit.
#[derive(Debug, Clone)]
pub struct Old {
    /// The whole name of the commit.
    pub commit: String,
    /// Where its programs lie.
    pub bins: PathBuf,
}

/// Builds these programs of `commit` below `.dev/versions`, sources and all; what is there is used again.
///
/// # Errors
/// When git does not know the commit, or it does not compile.
pub fn build(job: &Job<'_>, commit: &str, packages: &[&str]) -> Result<Old> {
    let commit = resolved(job, commit)?;
    let dir = job.paths.dev.join("versions").join(&commit[..DIGITS]);
    let task = job.progress.task("older programs", &format!("cargo build of {}", &commit[..DIGITS]));
    let sources = dir.join("src");
    if !sources.is_dir() {
        task.note("its sources");
        extract(job, &commit, &dir, &sources)?;
    }
    let (paths, target) = (crate::Paths { root: sources, ..job.paths.clone() }, dir.join("target"));
    let programs = Programs { packages, target: Some(&target), ..Programs::default() };
    let bins = cargo::build(&paths, programs, &task, job.cancel)?;
    task.done(&format!("compiled into {}", bins.display()));
    Ok(Old { commit, bins })
}

fn resolved(job: &Job<'_>, commit: &str) -> Result<String> {
    let mut git = git(&job.paths.root);
    git.args(["rev-parse", "--verify", "--end-of-options", &format!("{commit}^{{commit}}")]);
    let name = run::output(&mut git, "git", job.cancel)?.trim().to_owned();
    let whole = name.len() >= DIGITS && name.chars().all(|c| c.is_ascii_hexdigit());
    whole.then_some(name).ok_or_else(|| Error::Format {
        what: format!("commit {commit}"),
        detail: "git does not name it".into(),
    })
}

/// All of it or nothing: a folder that is there is taken to be whole.
fn extract(job: &Job<'_>, commit: &str, dir: &Path, sources: &Path) -> Result<()> {
    let (half, archive) = (dir.join("half"), dir.join("sources.tar"));
    let failed = |path: &Path| Error::io(format!("cannot write {}", path.display()));
    if half.exists() {
        std::fs::remove_dir_all(&half).map_err(failed(&half))?;
    }
    std::fs::create_dir_all(&half).map_err(failed(&half))?;
    let mut pack = git(&job.paths.root);
    pack.args(["archive", "--format=tar", "-o"]).arg(&archive).arg(commit);
    run::run(&mut pack, "git archive", job.cancel, |_| {})?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&half);
    run::run(&mut unpack, "tar", job.cancel, |_| {})?;
    std::fs::rename(&half, sources).map_err(failed(sources))?;
    std::fs::remove_file(&archive).map_err(failed(&archive))
}

fn git(root: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(root);
    command
}
