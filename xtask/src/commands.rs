//! The commands around `up`: down, status, logs, restart, reset.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::Http;
use crate::platform;
use crate::platform::process::{stop_recorded, tail};
use crate::platform::state::{PartRecord, State};
use crate::signal::{self, Signal, Target};
use crate::{Cancel, Error, Paths, Progress, Result, control};

/// How long the running `up` may take to stop all of its parts.
const DOWN_WITHIN: Duration = Duration::from_secs(120);
/// How long a part that nobody watches may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long a health answer may take.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

/// Writes to standard output; a reader that has gone, such as `head`, is no failure.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Stops the running `up` and whatever an earlier one left.
///
/// # Errors
/// When it does not end.
pub fn down() -> Result<()> {
    let (paths, progress) = (Paths::discover()?, Progress::detect());
    let state = State::load(&paths.dev)?;
    let supervisor = state.supervisor.filter(|supervisor| supervisor.alive());
    if let Some(supervisor) = supervisor {
        let task = progress.task("down", &format!("`up` (pid {}) stops its parts", supervisor.pid));
        signal::send(Target::Process(supervisor.pid), Signal::Term);
        let gone = Cancel::default()
            .until(DOWN_WITHIN, Duration::from_millis(50), || Ok((!supervisor.alive()).then_some(())))?;
        if gone.is_none() {
            return Err(Error::Program {
                program: "cargo xtask down".into(),
                detail: format!(
                    "pid {} did not end within {} s: look at `cargo xtask status`, then kill it",
                    supervisor.pid,
                    DOWN_WITHIN.as_secs()
                ),
            });
        }
        task.done("stopped");
    }
    // An `up` that was killed could not stop its parts.
    let left: Vec<(String, PartRecord)> =
        State::load(&paths.dev)?.parts.into_iter().filter(|(_, part)| part.process.alive()).collect();
    for (name, part) in &left {
        stop_recorded(part.process, GRACE);
        progress.say(&format!("stopped {name} (pid {}), which nobody watched", part.process.pid));
    }
    if supervisor.is_none() && left.is_empty() {
        progress.say("nothing is running");
    }
    Ok(())
}

/// Prints every part with its process, ports and health.
///
/// # Errors
/// When the state file cannot be read.
pub fn status() -> Result<()> {
    let paths = Paths::discover()?;
    let state = State::load(&paths.dev)?;
    let http = Http::new(HEALTH_WITHIN);
    match state.supervisor.filter(|supervisor| supervisor.alive()) {
        Some(supervisor) if state.ready => print(&format!("up runs (pid {})\n", supervisor.pid)),
        Some(supervisor) => print(&format!("up is starting (pid {})\n", supervisor.pid)),
        None if state.parts.values().all(|part| !part.process.alive()) => return Err(Error::NotRunning),
        None => print("up does not run, but parts that it started do: `cargo xtask down` stops them\n"),
    }
    if !state.parts.is_empty() {
        print(&format!("{:<26}{:>8}  {:<16}HEALTH\n", "PART", "PID", "PORTS"));
    }
    for (name, part) in &state.parts {
        let ports: Vec<String> = part.ports.iter().map(u16::to_string).collect();
        let (pid, ports, health) = (part.process.pid, ports.join(" "), health(&http, part));
        print(&format!("{name:<26}{pid:>8}  {ports:<16}{health}\n"));
    }
    Ok(())
}

fn health(http: &Http, part: &PartRecord) -> String {
    if !part.process.alive() {
        return "ended by itself: `cargo xtask restart` it".into();
    }
    if let Some(url) = &part.health {
        return match http.get(url, &[]) {
            Ok(answer) if answer.ok() => "well".into(),
            Ok(answer) => format!("not ready: {} {}", answer.status, answer.summary()),
            Err(error) => format!("no answer: {error}"),
        };
    }
    let listens = |port: &u16| {
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, *port)), HEALTH_WITHIN).is_ok()
    };
    if part.ports.iter().all(listens) { "runs".into() } else { "runs, but does not listen".into() }
}

/// Prints the last lines of a part's log, and what follows if asked to.
///
/// # Errors
/// When there is no such log.
pub fn logs(name: &str, lines: usize, follow: bool) -> Result<()> {
    let paths = Paths::discover()?;
    let folder = paths.dev.join("logs");
    let path = folder.join(format!("{name}.log"));
    let unknown = || {
        let files = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut known: Vec<String> =
            files.filter_map(|file| Some(file.strip_suffix(".log")?.to_owned())).collect();
        known.sort();
        if known.is_empty() {
            return Error::NotRunning;
        }
        Error::UnknownPart { name: name.into(), known: known.join(", ") }
    };
    let mut file = File::open(&path).map_err(|_| unknown())?;
    let read = || Error::io(format!("cannot read {}", path.display()));
    let mut at = file.metadata().map_err(read())?.len();
    print(&format!("{}\n", tail(&path, 0, lines).map_err(read())?));
    if !follow {
        return Ok(());
    }
    let cancel = Cancel::default();
    // Ends with Ctrl-C, as any program that was given no handler.
    while cancel.pause(Duration::from_millis(200)).is_ok() {
        if file.metadata().map_err(read())?.len() < at {
            at = 0;
        }
        file.seek(SeekFrom::Start(at)).map_err(read())?;
        let mut new = Vec::new();
        at += u64::try_from(file.read_to_end(&mut new).map_err(read())?).unwrap_or_default();
        std::io::stdout().write_all(&new).map_err(read())?;
    }
    Ok(())
}

/// Has the running `up` restart a part.
///
/// # Errors
/// [`Error::NotRunning`], or why the part did not become ready.
pub fn restart(name: &str) -> Result<()> {
    let paths = Paths::discover()?;
    let parts = State::load(&paths.dev)?.parts;
    if !parts.contains_key(name) {
        let known = parts.into_keys().collect::<Vec<_>>().join(", ");
        return Err(if known.is_empty() {
            Error::NotRunning
        } else {
            Error::UnknownPart { name: name.into(), known }
        });
    }
    let task = Progress::detect().task(name, "stops, starts, is ready");
    control::restart(&paths.dev, name)?;
    task.done("ready");
    Ok(())
}

/// Stops everything and deletes the data folder.
///
/// # Errors
/// When it does not end, or cannot be deleted.
pub fn reset() -> Result<()> {
    down()?;
    let paths = Paths::discover()?;
    // Platforms of tests live in folders of it, each locked by its process.
    let folders = fs::read_dir(&paths.dev).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|folder| folder.join("lock").is_file())
        .try_for_each(|folder| platform::lock(&folder).map(drop))?;
    match fs::remove_dir_all(&paths.dev) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot delete {}", paths.dev.display()))(error))
        }
        _ => {
            print(&format!("deleted {}\n", paths.dev.display()));
            Ok(())
        }
    }
}
