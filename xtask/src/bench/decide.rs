//! `bench decide`: a program of its own, because it is compiled with what it compares with.

use std::process::ExitCode;

use super::programs;
use crate::load::interruptible;
use crate::{Error, Paths, Progress, Result};

/// Builds and runs it.
///
/// # Errors
/// When it cannot be built.
pub(super) fn run() -> Result<ExitCode> {
    let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), interruptible()?);
    let program = programs::own_workspace("bench-decide", &paths, &progress, &cancel)?;
    let status = std::process::Command::new(&program)
        .status()
        .map_err(Error::io(format!("cannot start {}", program.display())))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
