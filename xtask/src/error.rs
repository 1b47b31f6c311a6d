//! What can go wrong, each as one sentence that says what to do.

use std::path::PathBuf;

/// A failure that ends a command. Its text is what the person sees.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port that the state file reserves for us is in use.
    #[error(
        "port {port} of {part} is taken by another program: stop that program, or choose other ports with `cargo xtask up --new-ports`"
    )]
    PortTaken {
        /// Whose port it is.
        part: String,
        /// The port on 127.0.0.1.
        port: u16,
    },
    /// No free port was found.
    #[error("no free port between {from} and {to} on 127.0.0.1: stop some of the programs that listen there")]
    NoPort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// A program that cannot be built here is not installed.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// The program.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A process ended that should not have.
    #[error("{0}")]
    Crashed(Crash),
    /// A process runs, but does not answer as it should.
    #[error("{part} was not ready within {seconds} s ({last}): see {log}, then `cargo xtask up` again", log = log.display())]
    NotReady {
        /// The part.
        part: String,
        /// How long we waited, in seconds.
        seconds: u64,
        /// Its last answer.
        last: String,
        /// Its log.
        log: PathBuf,
    },
    /// Another `up` holds the folder.
    #[error("`cargo xtask up` runs already (pid {pid}) with {dir}: look at it with `cargo xtask status`, stop it with `cargo xtask down`", dir = dir.display())]
    Running {
        /// The process that holds the lock; 0 when it did not say.
        pid: u32,
        /// The data folder.
        dir: PathBuf,
    },
    /// Nothing runs, but the command needs it to.
    #[error("nothing is running: start it with `cargo xtask up`")]
    NotRunning,
    /// No part has this name.
    #[error("no part is called {name:?}: the parts are {known}")]
    UnknownPart {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A program that we ran to its end failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// The program and what it should have done.
        program: String,
        /// Its own words.
        detail: String,
    },
    /// A server refused a request.
    #[error("{what}: answered {status}: {detail}")]
    Answer {
        /// What was asked.
        what: String,
        /// HTTP status.
        status: u16,
        /// The beginning of the body.
        detail: String,
    },
    /// A server did not answer at all.
    #[error("{what}: {source}")]
    Http {
        /// What was asked.
        what: String,
        /// Why there was no answer.
        source: Box<ureq::Error>,
    },
    /// A file or socket failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something we read is not what it should be.
    #[error("{what} is not understood: {detail}")]
    Format {
        /// The file or answer.
        what: String,
        /// Why not.
        detail: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a process of ours ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The part.
    pub part: String,
    /// Exit code or signal, in words.
    pub status: String,
    /// Its log.
    pub log: PathBuf,
    /// The last lines it wrote.
    pub tail: String,
}

impl std::fmt::Display for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { part, status, log, tail } = self;
        write!(
            f,
            "{part} ended by itself ({status}): see {}, then `cargo xtask restart {part}`; its last lines:",
            log.display()
        )?;
        if tail.is_empty() {
            return f.write_str(" (none)");
        }
        for line in tail.lines() {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

impl Error {
    /// For `map_err` on file operations: `Error::io("cannot read X")`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
