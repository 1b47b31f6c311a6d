//! Counts what a process asks of its disk, with strace.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::signal::{self, Signal, Target};
use crate::{Cancel, Error, Paths, Result};

/// How long strace may take to reach every thread of a process.
const ATTACHES: Duration = Duration::from_secs(1);

/// Calls of fsync and fdatasync by a process while `work` runs, and what that gave; `None` when strace is not installed.
pub(super) fn during<T>(
    pid: u32,
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T>,
) -> Result<Option<(u64, T)>> {
    let Some(strace) = Paths::on_path("strace").into_iter().next() else { return Ok(None) };
    let failed = || Error::io("cannot run strace".to_owned());
    let child = Command::new(strace)
        .args(["--follow-forks", "--summary-only", "--trace=fsync,fdatasync", "--attach", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    cancel.pause(ATTACHES)?;
    let worked = work();
    signal::send(Target::Process(child.id()), Signal::Int);
    let output = child.wait_with_output().map_err(failed())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let worked = worked?;
    match calls(&text) {
        Some(calls) => Ok(Some((calls, worked))),
        None => Err(Error::Format { what: "strace's summary".into(), detail: text.into_owned() }),
    }
}

/// The sum over all calls of strace's table; `None` when there is no table.
fn calls(summary: &str) -> Option<u64> {
    let total = summary.lines().rfind(|line| line.trim_end().ends_with("total"))?;
    // "% time, seconds, usecs/call, calls, [errors,] syscall".
    total.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_summary_counts() {
        let table = "strace: Process 7 attached\n% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.012044          57       211           fsync\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.012044          57       211           total\n";
        assert_eq!(calls(table), Some(211));
        assert_eq!(calls("strace: Process 7 attached"), None);
    }
}
