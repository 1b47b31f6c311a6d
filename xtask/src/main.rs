//! `cargo xtask <command>`: what a developer runs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{Result, bench, codegen, commands, prove, replay, simulate, simulate_limit, test, tidy, up};

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
    /// Run everything that CI checks: format, lints, unit and system tests.
    Test(test::Args),
    /// Send the events of a file through the running platform and say what became of them.
    Replay(replay::Args),
    /// Send a simulated day of enterprises through the running platform.
    Simulate(simulate::Args),
    /// Measure, with a baseline in the same run.
    Bench(bench::Args),
    /// Prove a promise on the real parts, with the seed, the commit and the numbers in a file.
    Prove(prove::Args),
    /// Say who a proposed limit would have blocked in the last days, from the stored events of the running platform.
    SimulateLimit(simulate_limit::Args),
    /// Write the files that are generated from code.
    Codegen(codegen::Args),
    /// Check what the repository promises about itself.
    Tidy,
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
        Command::Up(args) => up::run(&args),
        Command::Down => commands::down().map(done),
        Command::Status => commands::status().map(done),
        Command::Logs { name, follow, lines } => commands::logs(&name, lines, follow).map(done),
        Command::Restart { name } => commands::restart(&name).map(done),
        Command::Reset => commands::reset().map(done),
        Command::Test(args) => test::run(&args),
        Command::Replay(args) => replay::run(args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::SimulateLimit(args) => simulate_limit::run(&args).map(done),
        Command::Codegen(args) => codegen::run(&args),
        Command::Tidy => tidy::run(),
    }
}

#[cfg(test)]
mod tests {
    use xtask::Paths;
    use xtask::tidy::{docs, tree::Tree};

    use super::*;

    #[test]
    fn every_command_that_the_documents_show_is_one() {
        let tree = Tree::read(&Paths::discover().unwrap().root).unwrap();
        for document in ["README.md", "CONTRIBUTING.md"] {
            let commands = docs::commands(&tree, document).unwrap();
            assert!(!commands.is_empty(), "{document}");
            for command in commands {
                let words = [vec!["cargo xtask".to_owned()], command].concat();
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{document} shows {words:?}: {error}");
                }
            }
        }
    }
}
