//! The running platform as a load generator meets it.

use std::path::{Path, PathBuf};

use crate::platform::kubectl::Kubectl;
use crate::platform::state::State;
use crate::platform::{Platform, workloads};
use crate::{Cancel, Error, Paths, Progress, Result, tools};

/// Where to send, where to read, and how to create tenants.
#[derive(Debug, Clone)]
pub struct Target {
    /// Base URLs of the ingest pods.
    pub ingest: Vec<String>,
    /// Base URL of the console.
    pub console: String,
    /// Base URL of the sink's metrics.
    pub sink_admin: String,
    /// The cluster, as its administrator.
    pub kubectl: Kubectl,
    /// Where files of ours may lie.
    pub dir: PathBuf,
}

impl Target {
    /// The platform that `up` runs.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it does not, or is not ready yet.
    pub fn running(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<Self> {
        let state = State::load(&paths.dev)?;
        if !state.ready || !state.supervisor.is_some_and(|supervisor| supervisor.alive()) {
            return Err(Error::NotRunning);
        }
        let url = |port: &str| Ok::<_, Error>(format!("http://127.0.0.1:{}", state.ports.get(port)?));
        let pods = workloads::ALL.iter().filter(|name| name.starts_with("ingest-"));
        let program = tools::ensure(paths, progress, cancel)?.kubectl;
        Ok(Self {
            ingest: pods.map(|name| url(name)).collect::<Result<_>>()?,
            console: url("console")?,
            sink_admin: url("sink-admin")?,
            kubectl: Kubectl::new(&program, &paths.dev.join("kubeconfig"), cancel),
            dir: paths.dev.clone(),
        })
    }

    /// A platform that this process runs.
    ///
    /// # Errors
    /// Never for a platform that started.
    pub fn of(platform: &Platform, dir: &Path) -> Result<Self> {
        let urls = platform.urls()?;
        Ok(Self {
            ingest: urls.ingest.to_vec(),
            console: urls.console,
            sink_admin: urls.sink_admin,
            kubectl: platform.kubectl(),
            dir: dir.to_path_buf(),
        })
    }
}
