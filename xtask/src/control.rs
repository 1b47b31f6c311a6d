//! How other commands speak to a running `up`: one line over a socket in the data folder, one line back.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::platform::Platform;
use crate::{Cancel, Error, Result};

/// How soon a new connection, or the end, is noticed.
const GLANCE: Duration = Duration::from_millis(100);
/// A restart waits for readiness, so its answer takes as long as the slowest part.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// Whoever connects says at once what it wants.
const ASK_WITHIN: Duration = Duration::from_secs(2);

fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Serves `restart NAME` until `cancel`.
///
/// # Errors
/// When the socket cannot be opened.
pub(crate) fn serve(platform: &Platform, dir: &Path, cancel: &Cancel) -> Result<()> {
    let path = socket(dir);
    if path.exists() {
        // Ours to replace: we hold the folder's lock.
        std::fs::remove_file(&path).map_err(Error::io(format!("cannot remove {}", path.display())))?;
    }
    let listener =
        UnixListener::bind(&path).map_err(Error::io(format!("cannot listen on {}", path.display())))?;
    listener.set_nonblocking(true).map_err(Error::io(format!("cannot listen on {}", path.display())))?;
    while cancel.pause(GLANCE).is_ok() {
        if let Ok((stream, _)) = listener.accept() {
            // Whoever went away does not hear the answer.
            drop(answer(platform, stream));
        }
    }
    Ok(())
}

fn answer(platform: &Platform, stream: UnixStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ASK_WITHIN))?;
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    let result = match request.trim().split_once(' ') {
        Some(("restart", name)) => platform.restart(name),
        _ => Err(Error::Format { what: "the request".into(), detail: request.trim().into() }),
    };
    let mut stream = stream;
    match result {
        Ok(()) => writeln!(stream, "ok"),
        Err(error) => writeln!(stream, "{error}"),
    }
}

/// Asks the running `up` in this folder to restart a part, and waits until that is ready.
///
/// # Errors
/// [`Error::NotRunning`], or why it did not become ready.
pub(crate) fn restart(dir: &Path, name: &str) -> Result<()> {
    let Ok(mut stream) = UnixStream::connect(socket(dir)) else { return Err(Error::NotRunning) };
    let failed = || Error::io("no answer from the running `up`");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed())?;
    writeln!(stream, "restart {name}").map_err(failed())?;
    let answer = std::io::read_to_string(&stream).map_err(failed())?;
    if answer.trim() == "ok" {
        return Ok(());
    }
    Err(Error::Program { program: format!("restarting {name}"), detail: answer.trim().into() })
}
