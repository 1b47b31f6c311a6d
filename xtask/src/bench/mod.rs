//! `cargo xtask bench NAME`: measures its baseline in the same run and prints ratios.
//!
//! What is measured is built in the release profile. A comparison goes A/B/A: a run stands between two of its baseline, and
//! the median of the rounds' ratios counts.

mod clickhouse;
mod decide;
mod figures;
mod fsyncs;
mod ingest;
mod load;
mod processes;
mod programs;
mod sink;
mod tenant;
mod world;

use std::process::ExitCode;

use crate::Result;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// What one decision costs in a pod, as a ratio to parsing the event, and against the limitador crate in memory.
    Decide,
    /// What one pod admits, as a ratio to a server that does nothing and a publisher that does nothing else.
    Ingest,
    /// How fast a sink drains a lane, as a ratio to a plain insert of the same blocks and a plain read of the same packs.
    Sink,
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
/// When it cannot be built, or what it measures does not work. That a target was missed is in the exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    match args.name {
        Name::Decide => decide::run(),
        Name::Ingest => ingest::run(),
        Name::Sink => sink::run(),
    }
}
