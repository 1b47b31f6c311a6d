//! `cargo xtask <command>`: what a developer runs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{Result, commands, up};

/// Developer commands of Meterplane.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole of Meterplane on this machine, send it a minute of traffic and show what it does.
    Up(up::Args),
    /// Stop what `up` started; its data stay.
    Down,
    /// Show parts, processes, ports and health.
    Status,
    /// Print the log of a part.
    Logs {
        /// The part, as `status` calls it.
        name: String,
        /// Go on printing what is written from now on.
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines to begin with.
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// Stop a part and start it again.
    Restart {
        /// The part, as `status` calls it.
        name: String,
    },
    /// Stop everything and delete its data.
    Reset,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Up(args) => up::run(args),
        Command::Down => commands::down().map(done),
        Command::Status => commands::status().map(done),
        Command::Logs { name, follow, lines } => commands::logs(&name, lines, follow).map(done),
        Command::Restart { name } => commands::restart(&name).map(done),
        Command::Reset => commands::reset().map(done),
    }
}
