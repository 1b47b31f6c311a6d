//! The programs of a bench: what is measured in the release profile, everything around it as usual.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::cargo::{self, Profile};
use crate::run::{Line, run};
use crate::{Cancel, Error, Paths, Progress, Result, tools};

/// Our programs that are measured.
const MEASURED: [&str; 2] = ["ingest", "sink"];
/// Those that only have to be there.
const AROUND: [&str; 2] = ["chdb", "operator"];

/// Where each program is.
#[derive(Debug)]
pub(super) struct Programs {
    /// Load generator and echo.
    pub load: PathBuf,
    /// The Go client of NATS.
    pub publisher: PathBuf,
    /// Our own programs, as a platform wants them: in one folder.
    pub bins: PathBuf,
}

impl Programs {
    /// Builds what is missing.
    pub fn build(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<Self> {
        let task = progress.task("our programs", "cargo build; what is measured in the release profile");
        let around =
            cargo::build(paths, cargo::Programs { packages: &AROUND, ..Default::default() }, &task, cancel)?;
        let measured = cargo::build(
            paths,
            cargo::Programs { packages: &MEASURED, profile: Profile::Release, ..Default::default() },
            &task,
            cancel,
        )?;
        task.done("compiled");
        let bins = paths.dev.join("bench-bin");
        fs::create_dir_all(&bins).map_err(Error::io(format!("cannot create {}", bins.display())))?;
        AROUND.iter().try_for_each(|name| link(&around.join(name), &bins.join(name)))?;
        MEASURED.iter().try_for_each(|name| link(&measured.join(name), &bins.join(name)))?;
        Ok(Self {
            load: own_workspace("bench-load", paths, progress, cancel)?,
            publisher: tools::publisher(paths, progress, cancel)?,
            bins,
        })
    }
}

fn link(program: &Path, at: &Path) -> Result<()> {
    let failed = || Error::io(format!("cannot link {}", at.display()));
    match fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed()(error)),
        _ => {}
    }
    symlink(program, at).map_err(failed())
}

/// Builds a program that is a workspace of its own, in the release profile.
pub(super) fn own_workspace(
    package: &str,
    paths: &Paths,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<PathBuf> {
    // A target folder of its own: its workspace has a lock of its own, and ordinary builds are not thrown away.
    let target = paths.root.join("target").join(package);
    let task = progress.task(package, "cargo build, release profile; some minutes the first time");
    let mut build = Paths::cargo();
    build.current_dir(paths.root.join("xtask").join(package)).env("CARGO_TARGET_DIR", &target).args([
        "build",
        "--release",
        "--locked",
    ]);
    let mut compiled = 0_u32;
    run(&mut build, "cargo build", cancel, |line| {
        if let Line::Err(text) = line
            && text.trim_start().starts_with("Compiling")
        {
            compiled += 1;
            task.comment(&format!("{} ({compiled} crates compiled)", text.trim()));
        }
    })?;
    task.done("compiled");
    Ok(target.join("release").join(package))
}
