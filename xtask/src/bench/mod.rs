//! `cargo xtask bench NAME`: measures its baseline in the same run and prints ratios.

use std::process::ExitCode;

use crate::load::interruptible;
use crate::run::{Line, run as run_program};
use crate::{Error, Paths, Progress, Result};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// What one decision costs in a pod, as a ratio to parsing the event, and against the limitador crate in memory.
    Decide,
}

/// How `bench` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to measure.
    name: Name,
}

/// Builds and runs a benchmark in the release profile.
///
/// # Errors
/// When it cannot be built.
pub fn run(args: &Args) -> Result<ExitCode> {
    let package = match args.name {
        Name::Decide => "bench-decide",
    };
    let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), interruptible()?);
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
    run_program(&mut build, "cargo build", &cancel, |line| {
        if let Line::Err(text) = line
            && text.trim_start().starts_with("Compiling")
        {
            compiled += 1;
            task.comment(&format!("{} ({compiled} crates compiled)", text.trim()));
        }
    })?;
    task.done("compiled");
    let program = target.join("release").join(package);
    let status = std::process::Command::new(&program)
        .status()
        .map_err(Error::io(format!("cannot start {}", program.display())))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
