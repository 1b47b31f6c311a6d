//! Signals to processes, and whether a process recorded earlier still is the one we started.

use std::fs;
use std::process::{Command, Stdio};

/// What we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// As Ctrl-C in a terminal.
    Int,
    /// End at once.
    Kill,
    /// Freeze, as a paused machine does.
    Stop,
    /// Read the configuration again.
    Hup,
    /// Go on after [`Signal::Stop`].
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Hup => "HUP",
            Self::Cont => "CONT",
        }
    }
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One process.
    Process(u32),
    /// A process that leads its group, and all in that group.
    Group(u32),
}

/// Sends a signal; `false` when there is nobody to send it to. The shell's own `kill` does it: `std` can only kill, and the
/// system call would need unsafe code.
pub fn send(target: Target, signal: Signal) -> bool {
    let target = match target {
        Target::Process(pid) => pid.to_string(),
        Target::Group(pid) => format!("-{pid}"),
    };
    Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "sh", signal.name(), &target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// When a process began, in the kernel's clock ticks since boot; `None` when it is gone or only waits to be reaped. A pid alone
/// does not identify a process: the kernel gives it to another one later.
pub fn started(pid: u32) -> Option<u64> {
    started_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process stands still after [`Signal::Stop`].
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// Reads fields 3 (state) and 22 (start time) of `/proc/<pid>/stat`; field 2 is a name that may hold spaces and parentheses.
fn started_in(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive_and_began_once() {
        let me = std::process::id();
        assert!(started(me).is_some());
        assert_eq!(started(me), started(me));
    }

    #[test]
    fn names_with_parentheses_and_zombies_are_read_right() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 100";
        assert_eq!(started_in(stat), Some(4242));
        assert_eq!(started_in(&stat.replace(" S ", " Z ")), None);
        assert_eq!(started_in("nonsense"), None);
    }
}
