//! Where things lie: the repository, the data of `up`, the cache of built tools. The only module that reads the environment.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// The folders that everything else is found from.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The repository.
    pub root: PathBuf,
    /// Data, logs and credentials of `up`.
    pub dev: PathBuf,
    /// Built tools, shared by all checkouts of this user.
    pub cache: PathBuf,
}

impl Paths {
    /// Finds them: the repository is the one this program was built in.
    ///
    /// # Errors
    /// When the environment has neither `XDG_CACHE_HOME` nor `HOME`.
    pub fn discover() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let cache = cache.ok_or_else(|| Error::Missing {
            what: "a cache folder".into(),
            remedy: "set HOME or XDG_CACHE_HOME to an absolute path".into(),
        })?;
        Ok(Self { dev: root.join(".dev"), cache: cache.join("meterplane"), root })
    }

    /// The cargo that runs us, or the one on PATH, without what it told us of our own package: build scripts that watch
    /// those variables (ring's) would run anew each time that `cargo xtask` and plain `cargo` take turns.
    pub fn cargo() -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let told = |prefix| name.to_str().is_some_and(|name| name.starts_with(prefix));
            if told("CARGO_PKG_") || told("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// The programs of this name on PATH, first one first.
    pub fn on_path(program: &str) -> Vec<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|dir| dir.join(program)).filter(|file| file.is_file()).collect()
    }

    /// The little of the environment that processes of the platform inherit: what a container would have, plus the wish for
    /// backtraces. Proxies, kubeconfigs and tokens of the developer stay out.
    pub fn inherited() -> Vec<(String, OsString)> {
        ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "RUST_BACKTRACE"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), env::var_os(name)?)))
            .collect()
    }
}
