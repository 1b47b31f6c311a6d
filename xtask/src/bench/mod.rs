//! `cargo xtask bench NAME`: measures its baseline in the same run and prints ratios.
//!
//! What is measured is built in the release profile. A comparison goes A/B/A: a run stands between two of its baseline, and
//! the median of the rounds' ratios counts.

mod clickhouse;
mod crowd;
mod dashboard;
mod day;
mod decide;
mod figures;
mod freshness;
mod fsyncs;
mod ingest;
mod load;
mod peak;
mod probes;
mod processes;
mod programs;
mod sink;
mod tables;
mod tenant;
mod throughput;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use self::tables::Tables;
use crate::Result;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// What one decision costs in a pod, as a ratio to parsing the event, and against the limitador crate in memory.
    Decide,
    /// What one pod admits, as a ratio to a server that does nothing and a publisher that does nothing else.
    Ingest,
    /// How long the console's usage routes take over 30 days of 12 million rows, as a ratio to the same question put to the rows.
    Dashboard,
    /// How fast a sink drains a lane, as a ratio to a plain insert of the same blocks and a plain read of the same packs.
    Sink,
    /// How soon an event is seen in its tenant's view, with many tenants busy.
    Freshness,
    /// The busiest moment of the design, held: 6,600 events a second.
    Peak,
    /// A part of a day of the capacity model at full speed.
    Day,
}

/// How `bench` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to measure.
    name: Name,
    /// How long `freshness` (each of its parts) and `peak` are measured, instead of 150 and 600 seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// Keep ClickHouse's tables below this folder, on a disk of their own as in a cluster; what a bench left there is emptied.
    #[arg(long, value_name = "FOLDER", env = "MP_BENCH_TABLES")]
    tables: Option<PathBuf>,
    /// How much of a day `day` sends.
    #[arg(long, default_value_t = 0.04, value_parser = fraction)]
    fraction: f64,
}

/// Builds and runs a benchmark in the release profile.
///
/// # Errors
/// When it cannot be built, or what it measures does not work. That a target was missed is in the exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let tables = Tables::new(args.tables.as_deref());
    match args.name {
        Name::Decide => decide::run(),
        Name::Ingest => ingest::run(tables),
        Name::Dashboard => dashboard::run(&tables),
        Name::Sink => sink::run(tables),
        Name::Freshness => freshness::run(tables, args.seconds.unwrap_or(freshness::PROBED_SECONDS)),
        Name::Peak => peak::run(tables, args.seconds.unwrap_or(peak::HELD_SECONDS)),
        Name::Day => day::run(tables, args.fraction),
    }
}

fn fraction(text: &str) -> std::result::Result<f64, String> {
    let fraction = text.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction) && *fraction > 0.0);
    fraction.ok_or_else(|| format!("{text:?} is no part of a day, such as 0.04"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_day_is_above_nothing_and_at_most_all() {
        assert_eq!((fraction("0.04"), fraction("1")), (Ok(0.04), Ok(1.0)));
        assert!(fraction("0").is_err() && fraction("1.1").is_err() && fraction("x").is_err());
    }
}
