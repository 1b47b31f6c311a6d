//! The programs that are not ours, pinned in `xtask/tools/`: found on PATH at exactly the pinned version, else in the cache,
//! else built into the cache by their own ordinary clients (`go install`, `npm ci`).

mod go;
mod npm;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Cancel, Error, Paths, Progress, Result, random};

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Tools {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// nats-server.
    pub nats_server: PathBuf,
    /// vault.
    pub vault: PathBuf,
    /// ClickHouse in one of its two shapes.
    pub clickhouse: ClickHouse,
}

/// The shapes that ClickHouse comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouse {
    /// The ordinary program.
    Program(PathBuf),
    /// `libchdb.so`, run by our `chdb`.
    Library(PathBuf),
}

/// What only tests of the chart need.
#[derive(Debug, Clone)]
pub struct ChartTools {
    /// helm.
    pub helm: PathBuf,
    /// What reads alerts and panels as Prometheus does.
    pub promrules: PathBuf,
    /// Nodes without machines.
    pub nodes: Nodes,
}

/// What makes a cluster of an apiserver alone: pods get a node, and the node says that they run. No container is started.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// kube-scheduler.
    pub kube_scheduler: PathBuf,
    /// kwok.
    pub kwok: PathBuf,
    /// Folder of the stages that kwok plays, in its own source.
    pub stages: PathBuf,
}

/// Argo CD's parts that sync and judge.
#[derive(Debug, Clone)]
pub struct ArgoCd {
    /// All of them in one program.
    pub program: PathBuf,
    /// Its resource types, in its own source.
    pub crds: [PathBuf; 3],
}

/// Finds or builds all of them. Everything that is there already costs a few milliseconds.
///
/// # Errors
/// [`Error::Missing`] when Go or npm are needed and not installed; [`Error::Program`] when they fail.
pub fn ensure(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<Tools> {
    let workshop = Workshop { paths, progress, cancel };
    std::thread::scope(|scope| {
        let clickhouse = scope.spawn(|| npm::clickhouse(&workshop));
        let go = go::ensure(&workshop);
        let clickhouse = clickhouse.join().unwrap_or(Err(Error::Interrupted));
        let go = go?;
        Ok(Tools {
            etcd: go.get("etcd")?,
            kube_apiserver: go.get("kube-apiserver")?,
            kube_controller_manager: go.get("kube-controller-manager")?,
            kubectl: go.get("kubectl")?,
            nats_server: go.get("nats-server")?,
            vault: go.get("vault")?,
            clickhouse: clickhouse?,
        })
    })
}

/// Finds or builds what only tests of the chart need.
///
/// # Errors
/// As [`ensure`].
pub fn chart(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<ChartTools> {
    let workshop = Workshop { paths, progress, cancel };
    let found = go::chart(&workshop)?;
    let nodes = Nodes {
        kube_scheduler: found.get("kube-scheduler")?,
        kwok: found.get("kwok")?,
        stages: go::source(&workshop, "kwok", "sigs.k8s.io/kwok")?.join("kustomize/stage"),
    };
    Ok(ChartTools { helm: found.get("helm")?, promrules: go::own(&workshop, &go::PROMRULES)?, nodes })
}

/// Finds or builds the Go program that benches compare ingest and sink with.
///
/// # Errors
/// As [`ensure`].
pub fn publisher(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<PathBuf> {
    go::own(&Workshop { paths, progress, cancel }, &go::PUBLISHER)
}

/// Finds or builds the Go program that says what kstatus and Argo CD make of our objects' status.
///
/// # Errors
/// As [`ensure`].
pub fn verdict(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<PathBuf> {
    go::own(&Workshop { paths, progress, cancel }, &go::VERDICT)
}

/// Finds or builds Argo CD.
///
/// # Errors
/// As [`ensure`].
pub fn argocd(paths: &Paths, progress: &Progress, cancel: &Cancel) -> Result<ArgoCd> {
    let workshop = Workshop { paths, progress, cancel };
    let source = go::source(&workshop, "argocd", "github.com/argoproj/argo-cd/v3")?;
    let crds = ["application", "applicationset", "appproject"]
        .map(|kind| source.join(format!("manifests/crds/{kind}-crd.yaml")));
    Ok(ArgoCd { program: go::own(&workshop, &go::ARGOCD)?, crds })
}

/// What building needs.
struct Workshop<'a> {
    paths: &'a Paths,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

impl Workshop<'_> {
    /// The folder whose files pin a group of tools.
    fn pins(&self, group: &str) -> PathBuf {
        self.paths.root.join("xtask/tools").join(group)
    }

    /// The cache folder of exactly these pins: other pins or flags, other folder.
    fn shelf(&self, pins: &[&Path], flags: &str) -> Result<PathBuf> {
        let mut content = flags.as_bytes().to_vec();
        for pin in pins {
            content.extend(fs::read(pin).map_err(Error::io(format!("cannot read {}", pin.display())))?);
        }
        let shelf = self.paths.cache.join("tools").join(&random::sha256_hex(&content)[..16]);
        fs::create_dir_all(&shelf).map_err(Error::io(format!("cannot create {}", shelf.display())))?;
        Ok(shelf)
    }

    /// Keeps a shelf to ourselves while we build into it; the lock goes with the returned file.
    fn lock(&self, shelf: &Path, waiting: impl Fn()) -> Result<File> {
        let path = shelf.join("lock");
        let file = File::create(&path).map_err(Error::io(format!("cannot create {}", path.display())))?;
        let (patience, pause) = (Duration::from_secs(3600), Duration::from_millis(500));
        let mut told = false;
        let locked = self.cancel.until(patience, pause, || match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(fs::TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    waiting();
                }
                Ok(None)
            }
            Err(fs::TryLockError::Error(source)) => {
                Err(Error::Io { what: format!("cannot lock {}", path.display()), source })
            }
        })?;
        locked.map(|()| file).ok_or_else(|| Error::Missing {
            what: "a tool that another process builds".into(),
            remedy: format!("see who holds {}", path.display()),
        })
    }

    /// The first program of this name on PATH that says it is `version`.
    fn on_path(&self, program: &str, ask: &[&str], suits: impl Fn(&str) -> bool) -> Option<PathBuf> {
        Paths::on_path(program).into_iter().find(|file| {
            let answer =
                crate::run::output(Command::new(file).args(ask), "asking for a version", self.cancel);
            answer.is_ok_and(|answer| suits(&answer))
        })
    }
}

/// Whether an answer such as `nats-server: v2.15.2` names exactly this version.
fn says_version(answer: &str, version: &str) -> bool {
    let version = version.trim_start_matches('v');
    answer
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ':'))
        .any(|word| word.trim_start_matches('v') == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_version_suits() {
        assert!(says_version("nats-server: v2.15.2", "v2.15.2"));
        assert!(says_version("etcd Version: 3.6.8\nGit SHA: x", "v3.6.8"));
        assert!(says_version(r#"{"clientVersion": {"gitVersion": "v1.36.3"}}"#, "v1.36.3"));
        assert!(says_version("Vault v1.21.0 ('abc'), built", "v1.21.0"));
        assert!(!says_version("Kubernetes v1.36.30", "v1.36.3"));
        assert!(!says_version("Kubernetes v1.20.4-aliyun.1", "v1.20.4"));
    }
}
