//! `cargo xtask test`: everything that CI checks, in the order in which it is cheapest to fail. Generated files are compared by
//! the unit tests of the crates that they are generated from.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::load::interruptible;
use crate::platform::process::stop_recorded;
use crate::platform::state::State;
use crate::run::{Line, run as run_program};
use crate::{Cancel, Error, Paths, Result};

/// How long a process that a test left behind may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// How `test` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// System tests that run side by side.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    test_threads: u16,
    /// Only what needs no server: format, lints, unit tests.
    #[arg(long)]
    quick: bool,
}

/// What became of one step.
#[derive(Debug)]
struct Done {
    name: &'static str,
    took: Duration,
    passed: u64,
    failed: u64,
    /// Why it failed, if it did.
    failure: Option<Error>,
}

/// Runs all steps, whatever becomes of the ones before, and says what failed.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn run(args: &Args) -> Result<ExitCode> {
    let (paths, cancel) = (Paths::discover()?, interruptible()?);
    let threads = format!("--test-threads={}", args.test_threads);
    let mut steps: Vec<(&'static str, Vec<&str>)> = vec![
        ("format", vec!["fmt", "--all", "--check"]),
        ("lints", vec!["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ("unit tests", vec!["test", "--workspace", "--exclude", "system-tests"]),
    ];
    if !args.quick {
        steps.push(("system tests", vec!["test", "-p", "system-tests", "--", &threads]));
    }
    let mut all = Vec::new();
    for (name, command) in steps {
        println!("== {name}");
        let done = step(name, &command, &paths, &cancel);
        let verdict = if done.failure.is_none() { "ok" } else { "FAILED" };
        println!("== {name}: {verdict} in {:.0} s\n", done.took.as_secs_f64());
        all.push(done);
        if cancel.is_set() {
            break;
        }
    }
    let left = stop_leftovers(&paths)?;
    cancel.pause(Duration::ZERO)?;
    Ok(conclude(&all, &left))
}

fn step(name: &'static str, command: &[&str], paths: &Paths, cancel: &Cancel) -> Done {
    let (began, mut passed, mut failed) = (Instant::now(), 0, 0);
    let mut cargo = Paths::cargo();
    cargo.current_dir(&paths.root).args(command);
    let result =
        run_program(&mut cargo, &format!("cargo {}", command.join(" ")), cancel, |line| match line {
            Line::Out(text) => {
                let (more_passed, more_failed) = counts(text);
                passed += more_passed;
                failed += more_failed;
                println!("{text}");
            }
            Line::Err(text) => eprintln!("{text}"),
        });
    Done { name, took: began.elapsed(), passed, failed, failure: result.err() }
}

/// Passed and failed tests of a line `test result: ok. 3 passed; 0 failed; …`.
fn counts(line: &str) -> (u64, u64) {
    let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
        return (0, 0);
    };
    let of = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.trim().strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    (of("passed"), of("failed"))
}

/// Stops the processes of test platforms that outlived their tests, and names them. The platform of `up` is nobody's leftover.
fn stop_leftovers(paths: &Paths) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let Ok(entries) = fs::read_dir(&paths.dev) else { return Ok(left) };
    for folder in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()) {
        for (name, part) in State::load(&folder)?.parts {
            if part.process.alive() {
                stop_recorded(part.process, GRACE);
                left.push(format!("{name} (pid {}) of {}", part.process.pid, folder.display()));
            }
        }
    }
    Ok(left)
}

/// Prints the summary, the totals last.
fn conclude(all: &[Done], left: &[String]) -> ExitCode {
    for done in all {
        let verdict = match &done.failure {
            None => "ok".to_owned(),
            // The step's own output said the rest.
            Some(failure) => format!("FAILED: {}", failure.to_string().lines().next().unwrap_or_default()),
        };
        println!(
            "{:<16} {:>6.0} s  {:>5} passed  {:>3} failed  {verdict}",
            done.name,
            done.took.as_secs_f64(),
            done.passed,
            done.failed
        );
    }
    for name in left {
        println!("left running, stopped now: {name}");
    }
    let (passed, failed) = all.iter().fold((0, 0), |(p, f), done| (p + done.passed, f + done.failed));
    println!("{passed} passed, {failed} failed");
    let success = left.is_empty() && failed == 0 && all.iter().all(|done| done.failure.is_none());
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_test_programs_are_added_up() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s";
        assert_eq!(counts(ok), (12, 0));
        assert_eq!(
            counts("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"),
            (1, 2)
        );
        assert_eq!(counts("test load::a ... ok"), (0, 0));
        assert_eq!(counts("test result: ok"), (0, 0));
    }
}
