//! `.dev/state.json`: what must be known about a platform by a process that did not start it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ports::Ports;
use crate::{Error, Result, signal};

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// The ports of this data folder.
    pub ports: Ports,
    /// The process that started the parts and watches them.
    pub supervisor: Option<Recorded>,
    /// The parts that were started, by name.
    pub parts: BTreeMap<String, PartRecord>,
    /// Whether everything that was asked for had been ready.
    pub ready: bool,
}

/// A part that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its process.
    pub process: Recorded,
    /// The ports it listens on.
    pub ports: Vec<u16>,
    /// The URL that answers 2xx while it is well, if it has one.
    pub health: Option<String>,
}

/// A process as one finds it again: its pid, and when it began, because pids are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Process id; it leads its process group.
    pub pid: u32,
    /// Start in the kernel's clock ticks since boot.
    pub started: u64,
}

impl Recorded {
    /// The process of this pid, as it is now; `None` when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        signal::started(pid).map(|started| Self { pid, started })
    }

    /// Whether that very process still runs.
    pub fn alive(&self) -> bool {
        signal::started(self.pid) == Some(self.started)
    }
}

/// Where the file is.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

impl State {
    /// Reads the file; without one, an empty state.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = file(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()))(error)),
        };
        serde_json::from_str(&text).map_err(|error| Error::Format {
            what: path.display().to_string(),
            detail: format!("{error}; `cargo xtask reset` begins anew, without the data"),
        })
    }

    /// Writes the file, at once or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Format { what: "the state".into(), detail: e.to_string() })?;
        super::secrets::write(&file(dir), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = std::env::temp_dir().join(format!("mp-state-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(State::load(&dir).unwrap(), State::default());
        let mut state = State { ready: true, ..State::default() };
        state.ports.complete(7, |_| true).unwrap();
        let process = Recorded { pid: 1, started: 2 };
        state.parts.insert("etcd".into(), PartRecord { process, ports: vec![3], health: None });
        state.save(&dir).unwrap();
        assert_eq!(State::load(&dir).unwrap(), state);
        fs::write(file(&dir), "{").unwrap();
        assert!(State::load(&dir).unwrap_err().to_string().contains("cargo xtask reset"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_pid_that_was_given_to_another_process_is_not_ours() {
        let me = Recorded::of(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!Recorded { started: me.started + 1, ..me }.alive());
    }
}
