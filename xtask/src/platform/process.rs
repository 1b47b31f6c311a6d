//! One process of the platform: started in a group of its own with its output in a file, watched, and stopped.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::state::Recorded;
use crate::error::Crash;
use crate::signal::{self, Signal, Target};
use crate::{Cancel, Error, Paths, Result};

/// A log that has grown beyond this is set aside when its process starts anew.
const LOG_MAX: u64 = 64 * 1024 * 1024;
/// Lines of the log that a crash is told with.
const TAIL_LINES: usize = 8;
/// How soon the end of a process is noticed.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone.
const KILL_TAKES: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The part's name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beyond what every part inherits.
    pub env: Vec<(String, OsString)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A process that was started and whose end nobody has seen yet.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    recorded: Recorded,
    log_began: u64,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    pub fn start(launch: Launch) -> Result<Self> {
        let log =
            open_log(&launch.log).map_err(Error::io(format!("cannot write {}", launch.log.display())))?;
        let log_began = log.metadata().map_or(0, |meta| meta.len());
        let again = log.try_clone().map_err(Error::io(format!("cannot write {}", launch.log.display())))?;
        let child = Command::new(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(Paths::inherited())
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            // A group of its own: Ctrl-C in the terminal reaches us, and we stop the parts in their order.
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("cannot start {} ({})", launch.name, launch.program.display())))?;
        let pid = child.id();
        // A process that is gone already is found so by `ended`.
        let recorded = Recorded::of(pid).unwrap_or(Recorded { pid, started: 0 });
        Ok(Self { launch, child, recorded, log_began })
    }

    /// How to find it again.
    pub fn recorded(&self) -> Recorded {
        self.recorded
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<Crash> {
        let status = self.child.try_wait().ok()??;
        Some(self.crash(status))
    }

    /// Kills it and its group with SIGKILL and waits until it is gone.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Asks it to end, and kills it when it has not within `grace`. Returns whether it had to be killed.
    pub fn stop(mut self, grace: Duration) -> bool {
        signal::send(Target::Group(self.recorded.pid), Signal::Term);
        // A frozen process cannot end.
        signal::send(Target::Group(self.recorded.pid), Signal::Cont);
        let uncancelled = Cancel::default();
        let gone = uncancelled.until(grace, GLANCE, || Ok(self.child.try_wait().ok().flatten()));
        if matches!(gone, Ok(Some(_))) {
            return false;
        }
        self.kill_now();
        true
    }

    fn kill_now(&mut self) {
        signal::send(Target::Group(self.recorded.pid), Signal::Kill);
        drop(self.child.wait());
    }

    fn crash(&self, status: ExitStatus) -> Crash {
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(number)) => format!("signal {number}"),
            (None, None) => "for no known reason".into(),
        };
        let tail = tail(&self.launch.log, self.log_began, TAIL_LINES).unwrap_or_default();
        Crash { part: self.launch.name.clone(), status, log: self.launch.log.clone(), tail }
    }
}

/// Stops a process that another process started: one left behind by a supervisor that was killed.
pub fn stop_recorded(recorded: Recorded, grace: Duration) {
    let uncancelled = Cancel::default();
    let gone_within = |limit| {
        let gone = uncancelled.until(limit, GLANCE, || Ok((!recorded.alive()).then_some(())));
        matches!(gone, Ok(Some(())))
    };
    if !recorded.alive() {
        return;
    }
    signal::send(Target::Group(recorded.pid), Signal::Term);
    signal::send(Target::Group(recorded.pid), Signal::Cont);
    if !gone_within(grace) {
        signal::send(Target::Group(recorded.pid), Signal::Kill);
        gone_within(KILL_TAKES);
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_MAX) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a file after byte `from`.
pub fn tail(path: &Path, from: u64, lines: usize) -> std::io::Result<String> {
    /// No line that explains something lies further back.
    const REACH: u64 = 16 * 1024;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(REACH)).min(length)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(name: &str, script: &str) -> Launch {
        let dir = std::env::temp_dir();
        Launch {
            name: name.into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![],
            log: dir.join(format!("mp-process-{name}-{}.log", std::process::id())),
            dir,
        }
    }

    fn end_of(process: &mut Process) -> Crash {
        let ended = Cancel::default().until(Duration::from_secs(20), GLANCE, || Ok(process.ended()));
        ended.unwrap().expect("it ends")
    }

    #[test]
    fn a_crash_is_told_with_its_last_lines() {
        let launch = launch("crash", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; exit 7");
        let log = launch.log.clone();
        let crash = end_of(&mut Process::start(launch).unwrap());
        assert_eq!((crash.part.as_str(), crash.status.as_str()), ("crash", "exit code 7"));
        assert!(crash.tail.starts_with("line 3") && crash.tail.ends_with("line 10"), "{}", crash.tail);
        assert!(crash.to_string().contains("cargo xtask restart crash"));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn whoever_ignores_the_request_is_killed_with_its_children() {
        let launch = launch("stubborn", "trap '' TERM; sleep 300 & echo $!; while :; do sleep 300; done");
        let log = launch.log.clone();
        let process = Process::start(launch).unwrap();
        let printed = |_: &()| tail(&log, 0, 1).ok().and_then(|text| text.trim().parse::<u32>().ok());
        let grandchild =
            Cancel::default().until(Duration::from_secs(20), GLANCE, || Ok(printed(&()))).unwrap().unwrap();
        assert!(process.stop(Duration::from_millis(200)), "it had to be killed");
        let gone = Cancel::default().until(Duration::from_secs(20), GLANCE, || {
            Ok(signal::started(grandchild).is_none().then_some(()))
        });
        assert_eq!(gone.unwrap(), Some(()));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn whoever_listens_ends_by_itself() {
        let launch = launch("polite", "sleep 300");
        let log = launch.log.clone();
        assert!(!Process::start(launch).unwrap().stop(Duration::from_secs(20)));
        fs::remove_file(log).unwrap();
    }
}
