//! Named places at which a proof makes a process die, stand still or fail. Sink, ingest and operator (one: `change`) have them only when
//! they are built with feature `crash-points`, as the proofs `crash-points` and `interrupted` of `cargo xtask prove` do.
//!
//! A point is armed by a file `$MP_CRASH_POINTS/<point>` that holds the action. Whoever removes the file acts: one pass of one process
//! of many, at a moment that the proof chooses, and the process that is started again does not die again. `kill 3` lets two pass first,
//! of one process.
//!
//! Not crate `fail`: its points are armed in each process at its start, and to stop a whole process, which is what fencing is about,
//! is not among its actions.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Names the folder of the armed points.
pub const FOLDER: &str = "MP_CRASH_POINTS";

/// What a pass of an armed point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process dies at once.
    Kill,
    /// The process stands still until somebody sends it SIGCONT.
    Stop,
    /// The operation fails.
    Fail,
}

impl Action {
    /// As it stands in the file.
    pub fn text(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Fail => "fail",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Kill, Self::Stop, Self::Fail].into_iter().find(|action| action.text() == text)
    }
}

/// The operation is to fail here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("made to fail at a crash point")
    }
}

impl std::error::Error for Failed {}

/// Passes a point.
///
/// # Errors
/// [`Failed`] when it was armed with [`Action::Fail`].
pub fn pass(point: &str) -> Result<(), Failed> {
    static ARMED: OnceLock<Option<PathBuf>> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "no configuration that a release build has")]
    let folder = ARMED.get_or_init(|| std::env::var_os(FOLDER).map(PathBuf::from));
    match folder.as_deref().and_then(|folder| take(folder, point)) {
        None => Ok(()),
        Some(action) => {
            eprintln!("crash point {point}: {}", action.text());
            act(action)
        }
    }
}

/// The action of an armed point, for one pass of all.
fn take(folder: &Path, point: &str) -> Option<Action> {
    // Of two that count down neither may overtake the other.
    static COUNTING: Mutex<()> = Mutex::new(());
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let file = folder.join(point);
    let text = fs::read_to_string(&file).ok()?;
    let (action, pass) = text.trim().split_once(' ').unwrap_or((text.trim(), "1"));
    let (action, pass) = (Action::parse(action)?, pass.parse::<u32>().ok()?);
    if pass > 1 {
        // Not made anew when it is gone meanwhile: then it is disarmed.
        let mut left = fs::File::options().write(true).truncate(true).open(&file).ok()?;
        drop(write!(left, "{} {}", action.text(), pass - 1));
        return None;
    }
    // Of two that read it one removes it.
    fs::remove_file(&file).is_ok().then_some(action)
}

fn act(action: Action) -> Result<(), Failed> {
    match action {
        Action::Kill => std::process::abort(),
        Action::Stop => {
            // The shell's own `kill`: the system call would need unsafe code. Its parent is this process.
            let mut stop = Command::new("/bin/sh");
            let stop = stop.args(["-c", r#"kill -s STOP "$PPID""#]).stdin(Stdio::null()).status();
            stop.map(drop).map_err(|_| Failed)
        }
        Action::Fail => Err(Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_acts_once() {
        let folder = std::env::temp_dir().join(format!("mp-crash-points-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for action in [Action::Kill, Action::Stop, Action::Fail] {
            fs::write(folder.join("P0"), action.text()).unwrap();
            assert_eq!(take(&folder, "P1"), None, "another point is not armed");
            assert_eq!(take(&folder, "P0"), Some(action));
            assert_eq!(take(&folder, "P0"), None);
        }
        fs::write(folder.join("P0"), "kill 3").unwrap();
        let passes = [(); 4].map(|()| take(&folder, "P0"));
        assert_eq!(passes, [None, None, Some(Action::Kill), None]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_folder_no_point_acts() {
        assert_eq!(pass("P0"), Ok(()));
        assert_eq!(act(Action::Fail), Err(Failed));
    }
}
