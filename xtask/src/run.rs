//! Runs a program to its end, line by line, and ends it with us.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::signal::{self, Signal, Target};
use crate::{Cancel, Error, Result};

/// Lines that may wait to be looked at before the program has to.
const LINES_IN_FLIGHT: usize = 256;
/// Lines of standard error kept for a failure's text.
const LINES_KEPT: usize = 12;
/// How soon a cancellation is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// A line of the program, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// On standard output.
    Out(String),
    /// On standard error.
    Err(String),
}

/// Runs `command` in a process group of its own and shows each line to `see`. `what` names the program and its purpose.
///
/// # Errors
/// [`Error::Missing`] when it is not installed, [`Error::Program`] with its last words when it fails, [`Error::Interrupted`]
/// when cancelled, after its whole group was killed.
pub fn run(command: &mut Command, what: &str, cancel: &Cancel, mut see: impl FnMut(&Line)) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            what: program,
            remedy: format!("install it and put it on PATH; it is needed for: {what}"),
        },
        _ => Error::Io { what: format!("cannot start {what}"), source },
    })?;
    let (sender, lines) = sync_channel(LINES_IN_FLIGHT);
    let out = child.stdout.take().map(|pipe| forward(pipe, Line::Out, sender.clone()));
    let err = child.stderr.take().map(|pipe| forward(pipe, Line::Err, sender));
    let mut last_words = VecDeque::new();
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) => {
                see(&line);
                if let Line::Err(text) = line {
                    last_words.push_back(text);
                    if last_words.len() > LINES_KEPT {
                        last_words.pop_front();
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_set() => {
                signal::send(Target::Group(child.id()), Signal::Kill);
                drop(child.wait());
                return Err(Error::Interrupted);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for reader in [out, err].into_iter().flatten() {
        drop(reader.join());
    }
    let status = child.wait().map_err(Error::io(format!("cannot wait for {what}")))?;
    if status.success() {
        return Ok(());
    }
    if cancel.is_set() {
        return Err(Error::Interrupted);
    }
    let mut detail = status.to_string();
    for line in last_words {
        detail.push_str("\n    ");
        detail.push_str(&line);
    }
    Err(Error::Program { program: what.into(), detail })
}

/// As [`run`], for programs whose standard output is the answer.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command, what: &str, cancel: &Cancel) -> Result<String> {
    let mut out = String::new();
    run(command, what, cancel, |line| {
        if let Line::Out(text) = line {
            out.push_str(text);
            out.push('\n');
        }
    })?;
    Ok(out)
}

fn forward(
    pipe: impl Read + Send + 'static,
    as_line: fn(String) -> Line,
    to: SyncSender<Line>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if to.send(as_line(text)).is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_returned_and_failures_carry_the_last_words() {
        let cancel = Cancel::default();
        assert_eq!(output(&mut sh("echo a; echo b >&2; echo c"), "echo", &cancel).unwrap(), "a\nc\n");
        let error =
            output(&mut sh("echo because >&2; exit 3"), "the trial", &cancel).unwrap_err().to_string();
        assert!(
            error.starts_with("the trial failed: exit status: 3") && error.ends_with("because"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_missing() {
        let error = output(&mut Command::new("no-such-program"), "a trial", &Cancel::default()).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }

    #[test]
    fn cancellation_ends_the_whole_group() {
        let cancel = Cancel::default();
        cancel.set();
        let error = output(&mut sh("sleep 60 & sleep 60"), "sleep", &cancel).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
}
