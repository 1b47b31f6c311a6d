//! `cargo xtask up`: starts everything and shows a person what it does.
//!
//! ```text
//! platform -> quickstart (tenants, keys) -> traffic, probe -> live (the table) -> verdict (the exit code)
//! ```

mod detach;
mod hints;
mod live;
mod metrics;
mod probe;
mod quickstart;
mod session;
mod traffic;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::load::interruptible;
use crate::platform::{Options, Platform};
use crate::{Cancel, Error, Progress, Result, control};

/// How `up` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Start in the background and return when everything is ready; `down` stops it.
    #[arg(long, conflicts_with = "lasting")]
    detach: bool,
    /// Stop by itself after this time (`90s`, `5m`) and tell by the exit code whether all went through.
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    lasting: Option<Duration>,
    /// How long the simulated traffic goes on.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "60s")]
    traffic: Duration,
    /// Choose other ports than last time.
    #[arg(long)]
    new_ports: bool,
    /// Use programs that are compiled already, in this folder, instead of compiling them.
    #[arg(long, value_name = "FOLDER")]
    bins: Option<PathBuf>,
    /// Start the real parts alone, without our own processes.
    #[arg(long, hide = true)]
    only_parts: bool,
}

/// Runs until Ctrl-C, SIGTERM or the end of `--for`.
///
/// # Errors
/// Why it could not start.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.detach {
        return detach::launch(args);
    }
    let cancel = interruptible()?;
    let mut options = Options::dev()?;
    options.cancel = cancel.clone();
    options.new_ports = args.new_ports;
    // Parts run in a folder of their own.
    let absolute =
        |folder: &PathBuf| std::path::absolute(folder).map_err(Error::io("cannot find the folder of --bins"));
    options.bins = args.bins.as_ref().map(absolute).transpose()?;
    if args.only_parts {
        options.workloads.clear();
    }
    let (dir, progress) = (options.dir.clone(), options.progress.clone());
    let platform = match Platform::start(options) {
        Err(Error::Interrupted) => {
            progress.say("interrupted; what was started has been stopped");
            return Ok(ExitCode::FAILURE);
        }
        started => started?,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = control::serve(&platform, &dir, &cancel) {
                progress.say(&format!("`cargo xtask restart` will not work: {error}"));
            }
        });
        let end = if args.only_parts {
            platform.announce_ready().map(|()| watch(&platform, &progress, &cancel, args.lasting))
        } else {
            session::run(&platform, &progress, &cancel, args)
        };
        cancel.set();
        match end {
            Err(Error::Interrupted) => Ok(ExitCode::SUCCESS),
            end => end,
        }
    })
}

/// Watches the parts until the time is over or it is cancelled; tells of those that end.
fn watch(platform: &Platform, progress: &Progress, cancel: &Cancel, lasting: Option<Duration>) -> ExitCode {
    let mut crashed = false;
    let seconds = lasting.map_or(u64::MAX, |lasting| lasting.as_secs());
    for _ in 0..seconds {
        crashed |= tell_crashes(platform, progress) > 0;
        if cancel.pause(Duration::from_secs(1)).is_err() {
            break;
        }
    }
    if crashed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Tells of every part that ended by itself since the last call, and how many they are.
fn tell_crashes(platform: &Platform, progress: &Progress) -> usize {
    let crashes = platform.crashes();
    crashes.iter().for_each(|crash| progress.say(&crash.to_string()));
    crashes.len()
}

/// Reads `90s`, `5m`, `1h`, or a number of seconds.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number: Option<u64> = number.parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no time: write 90s, 5m or 1h"))
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
        assert!(span("18446744073709551615h").is_err());
    }
}
