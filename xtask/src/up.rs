//! `cargo xtask up`: starts everything and shows a person what it does.

use std::process::ExitCode;
use std::time::Duration;

use crate::platform::{Options, Platform};
use crate::{Cancel, Error, Progress, Result, control};

/// How `up` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Start the real parts alone, without our own processes.
    #[arg(long, hide = true)]
    only_parts: bool,
    /// Stop by itself after this time (`90s`, `5m`) and tell by the exit code whether all went through.
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    lasting: Option<Duration>,
    /// Choose other ports than last time.
    #[arg(long)]
    new_ports: bool,
}

/// Runs until Ctrl-C, SIGTERM or the end of `--for`.
///
/// # Errors
/// Why it could not start.
pub fn run(args: Args) -> Result<ExitCode> {
    let cancel = Cancel::default();
    let on_signal = cancel.clone();
    ctrlc::set_handler(move || on_signal.set())
        .map_err(|e| Error::Missing { what: "the handler of Ctrl-C".into(), remedy: e.to_string() })?;
    let mut options = Options { cancel: cancel.clone(), new_ports: args.new_ports, ..Options::dev()? };
    if args.only_parts {
        options.workloads.clear();
    }
    let (dir, progress) = (options.dir.clone(), options.progress.clone());
    let platform = match Platform::start(options) {
        Err(Error::Interrupted) => return Ok(ExitCode::FAILURE),
        started => started?,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| control::serve(&platform, &dir, &cancel));
        let end = watch(&platform, &progress, &cancel, args.lasting);
        cancel.set();
        end
    })
}

fn watch(
    platform: &Platform,
    progress: &Progress,
    cancel: &Cancel,
    lasting: Option<Duration>,
) -> Result<ExitCode> {
    let seconds = lasting.map_or(u64::MAX, |lasting| lasting.as_secs());
    let mut crashed = false;
    for _ in 0..seconds {
        for crash in platform.crashes() {
            crashed = true;
            progress.say(&crash.to_string());
        }
        if cancel.pause(Duration::from_secs(1)).is_err() {
            break;
        }
    }
    Ok(if crashed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads `90s`, `5m`, `1h`, or a number of seconds.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time: write 90s, 5m or 1h"))?;
    Ok(Duration::from_secs(number * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h", 3600), ("7", 7)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        assert!(span("soon").is_err() && span("").is_err() && span("s").is_err());
    }
}
