//! What every part is described from: folder, ports, secrets, tools.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::ports::Ports;
use super::process::Launch;
use super::secrets::Secrets;
use crate::http::Http;
use crate::tools::{Nodes, Tools};
use crate::{Cancel, Error, Paths, Progress, Result};

/// Longest that one health answer may take.
pub(super) const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The place where one platform lives.
#[derive(Debug)]
pub(super) struct Site {
    pub paths: Paths,
    /// Data, logs, credentials.
    pub dir: PathBuf,
    /// See [`super::Options::tables`].
    pub tables: Option<PathBuf>,
    pub installation: String,
    /// Servers of the NATS cluster: 1 or 3.
    pub nats_nodes: u8,
    /// See [`super::Options::nats_syncs_always`].
    pub nats_syncs_always: AtomicBool,
    /// See [`super::Options::tls`].
    pub tls: Option<super::Tls>,
    /// See [`super::Options::clickhouse_users`].
    pub clickhouse_users: super::ClickHouseUsers,
    pub ports: Ports,
    pub secrets: Secrets,
    pub tools: Tools,
    /// See [`super::Options::nodes`].
    pub nodes: Option<Nodes>,
    /// Our own programs, `chdb` among them.
    pub chdb: PathBuf,
    pub http: Http,
    pub progress: Progress,
    pub cancel: Cancel,
}

/// One process of the platform: how to start it, and how to tell that it is ready.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub launch: Launch,
    /// The ports it listens on.
    pub ports: Vec<u16>,
    pub ready: Ready,
    /// How long it may take to be ready.
    pub within: Duration,
    /// How long it may take to end.
    pub grace: Duration,
    /// Why a person waits for it.
    pub why: &'static str,
}

/// How to tell that a part is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ready {
    /// This URL answers 2xx.
    Http(String),
    /// The apiserver's `/readyz` through kubectl, because it speaks TLS.
    Apiserver,
    /// It has no health answer: it runs.
    Running,
}

impl Site {
    /// A folder of the site, created if needed.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).map_err(Error::io(format!("cannot create {}", folder.display())))?;
        Ok(folder)
    }

    /// `http://127.0.0.1:<port of this name>`.
    pub fn url(&self, port: &str) -> Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.ports.get(port)?))
    }

    /// Where a part's log lies.
    pub fn log(&self, part: &str) -> PathBuf {
        log(&self.dir, part)
    }

    /// The process of a part.
    pub fn launch(
        &self,
        name: &str,
        program: &Path,
        args: Vec<String>,
        env: Vec<(String, OsString)>,
    ) -> Result<Launch> {
        self.folder("logs")?;
        Ok(Launch {
            name: name.into(),
            program: program.into(),
            args,
            env,
            dir: self.dir.clone(),
            log: self.log(name),
        })
    }

    /// A password made at the first start, e.g. `nats-ingest`.
    pub fn password(&self, name: &str) -> Result<String> {
        self.secrets.get_or(name, crate::random::password)
    }
}

/// Where the log of a part lies, in a platform's folder.
pub(super) fn log(dir: &Path, part: &str) -> PathBuf {
    dir.join("logs").join(format!("{part}.log"))
}

/// `["a", "b"]` as the owned strings of a command line.
pub(super) fn args<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}
