//! The whole of Meterplane on one machine: the real parts and our processes, started in the order they need, watched, stopped.
//!
//! ```text
//! etcd -> kube-apiserver -> kube-controller-manager, resource types, roles, tokens -.
//! nats ------------------------------------------------------------------------------+-> operator -> ingest-1, ingest-2,
//! clickhouse ------------------------------------------------------------------------+               sink, console
//! vault -> keys, policies, logins ---------------------------------------------------'
//! ```

mod apiserver;
pub mod audit;
mod clickhouse;
mod cluster;
mod controller_manager;
mod etcd;
pub mod kubectl;
pub mod memory;
mod nats;
mod nats_rights;
mod nodes;
pub mod ports;
pub mod process;
pub mod secrets;
mod site;
mod start;
pub mod state;
mod tls;
mod vault;
mod vault_setup;
mod withdraw;
pub mod workloads;

pub use clickhouse::ClickHouseUsers;
pub(crate) use start::lock;
pub use tls::Tls;
pub use withdraw::Withdrawn;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::kubectl::Kubectl;
use self::process::Process;
use self::secrets::Secrets;
use self::site::{Part, Site};
use self::state::State;
use crate::error::Crash;
use crate::signal::{self, Signal, Target};
use crate::tools::Nodes;
use crate::{Cancel, Error, Paths, Progress, Result};

/// The parts that are not ours.
pub const REAL_PARTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "nats", "clickhouse", "vault"];

/// The cluster, in the order of its start.
const CLUSTER: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The repository and the cache.
    pub paths: Paths,
    /// Data, logs, credentials, state. Two platforms never share it.
    pub dir: PathBuf,
    /// The cluster alone, with nodes that pretend to run pods, and without what `up` applies to it: for tests of the chart.
    pub nodes: Option<Nodes>,
    /// Our processes to run: names of [`workloads::ALL`], or none for the real parts alone.
    pub workloads: Vec<String>,
    /// Where our programs lie, `chdb` among them; `None`: build them with cargo.
    pub bins: Option<PathBuf>,
    /// Folders of other builds, by the workload that runs from there.
    pub programs: BTreeMap<String, PathBuf>,
    /// Build sink, ingest and operator with their crash points, for proofs.
    pub crash_points: bool,
    /// Environment of a workload beyond its own, by its name.
    pub env: BTreeMap<String, Vec<(String, String)>>,
    /// Id of the installation, stamped on what the operator creates.
    pub installation: String,
    /// Servers of the NATS cluster: 1, or 3 that keep everything three times.
    pub nats_nodes: u8,
    /// Where ClickHouse keeps its tables, when not beside everything else.
    pub tables: Option<PathBuf>,
    /// Whether NATS has each message on disk before it acknowledges it, as in production; benches also measure without.
    pub nats_syncs_always: bool,
    /// NATS speaks only TLS, and Vault to our processes.
    pub tls: Option<Tls>,
    /// Users of ClickHouse beyond its own.
    pub clickhouse_users: ClickHouseUsers,
    /// Forget the ports of earlier runs.
    pub new_ports: bool,
    /// Where to tell how far it is.
    pub progress: Progress,
    /// Ends every wait.
    pub cancel: Cancel,
}

impl Options {
    /// Everything, under `.dev/`, told on the screen.
    ///
    /// # Errors
    /// When the environment does not say where the cache is.
    pub fn dev() -> Result<Self> {
        let paths = Paths::discover()?;
        Ok(Self {
            dir: paths.dev.clone(),
            paths,
            nodes: None,
            workloads: workloads::ALL.map(str::to_owned).to_vec(),
            bins: None,
            programs: BTreeMap::new(),
            crash_points: false,
            env: BTreeMap::new(),
            installation: "dev".into(),
            nats_nodes: 1,
            tables: None,
            nats_syncs_always: true,
            tls: None,
            clickhouse_users: ClickHouseUsers::default(),
            new_ports: false,
            progress: Progress::detect(),
            cancel: Cancel::default(),
        })
    }

    /// Everything, in silence, under `.dev/<name>/`: for tests.
    ///
    /// # Errors
    /// As [`Options::dev`].
    pub fn test(name: &str) -> Result<Self> {
        let dev = Self::dev()?;
        Ok(Self {
            dir: dev.paths.dev.join(name),
            installation: name.into(),
            progress: Progress::quiet(),
            ..dev
        })
    }
}

/// Addresses of a running platform, each `scheme://127.0.0.1:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// kube-apiserver (TLS, signed by itself: use a kubeconfig).
    pub apiserver: String,
    /// NATS.
    pub nats: String,
    /// NATS's monitoring pages.
    pub nats_monitor: String,
    /// ClickHouse over HTTP.
    pub clickhouse: String,
    /// Vault.
    pub vault: String,
    /// The ingest pods' public APIs.
    pub ingest: [String; 2],
    /// The ingest pods' `/livez`, `/readyz`, `/metrics`.
    pub ingest_admin: [String; 2],
    /// The operator's.
    pub operator_admin: String,
    /// The sink's.
    pub sink_admin: String,
    /// The console's API and pages.
    pub console: String,
    /// The console's `/livez`, `/readyz`, `/metrics`.
    pub console_admin: String,
}

/// A running platform. Dropping it stops every process of it; its data stay.
#[derive(Debug)]
pub struct Platform {
    site: Site,
    bins: PathBuf,
    programs: Mutex<BTreeMap<String, PathBuf>>,
    env: BTreeMap<String, Vec<(String, String)>>,
    parts: Mutex<BTreeMap<String, Part>>,
    running: Mutex<BTreeMap<String, Process>>,
    state: Mutex<State>,
    /// Held as long as we live, so that no second platform starts in this folder.
    _lock: File,
}

impl Platform {
    /// Builds what is missing, starts everything that was asked for and waits until it is ready. Takes some seconds when it is
    /// all built.
    ///
    /// # Errors
    /// One sentence that says what to do; what was started by then is stopped again.
    pub fn start(options: Options) -> Result<Self> {
        start::start(options)
    }

    /// The addresses.
    ///
    /// # Errors
    /// Never for a platform that started.
    pub fn urls(&self) -> Result<Urls> {
        let (site, ports) = (&self.site, &self.site.ports);
        Ok(Urls {
            apiserver: format!("https://127.0.0.1:{}", ports.get("kube-apiserver")?),
            nats: nats::node_url(site, "nats")?,
            nats_monitor: site.url("nats-monitor")?,
            clickhouse: site.url("clickhouse")?,
            vault: site.url("vault")?,
            ingest: [site.url("ingest-1")?, site.url("ingest-2")?],
            ingest_admin: [site.url("ingest-1-admin")?, site.url("ingest-2-admin")?],
            operator_admin: site.url("operator-admin")?,
            sink_admin: site.url("sink-admin")?,
            console: site.url("console")?,
            console_admin: site.url("console-admin")?,
        })
    }

    /// The URL of one port by its name, e.g. `ingest-3-admin`.
    ///
    /// # Errors
    /// [`Error::UnknownPart`].
    pub fn url(&self, port: &str) -> Result<String> {
        self.site.url(port)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        apiserver::admin_kubeconfig(&self.site)
    }

    /// The kubeconfig with the rights of `operator` or `console`.
    pub fn kubeconfig_of(&self, component: &str) -> PathBuf {
        cluster::kubeconfig_of(&self.site, component)
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        apiserver::kubectl(&self.site)
    }

    /// Passwords and tokens by name: `nats-<user>`, `clickhouse-<user>`, `vault-<component>.jwt`, `kube-<component>.token`,
    /// `trust.json`.
    pub fn secrets(&self) -> &Secrets {
        &self.site.secrets
    }

    /// The administrator's token of Vault.
    ///
    /// # Errors
    /// When Vault was never initialised.
    pub fn vault_root_token(&self) -> Result<String> {
        vault::unseal(&self.site).map(|init| init.root_token)
    }

    /// Where the log of a part lies.
    pub fn log(&self, part: &str) -> PathBuf {
        self.site.log(part)
    }

    /// What our processes asked the kube-apiserver for since the platform's data were made, in order.
    ///
    /// # Errors
    /// When its audit log cannot be read.
    pub fn audited(&self) -> Result<Vec<audit::AuditedCall>> {
        audit::read(&audit::log(&self.site))
    }

    /// The parts that run, in alphabetical order.
    pub fn running(&self) -> Vec<String> {
        locked(&self.running).keys().cloned().collect()
    }

    /// The pid of a running part.
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when it does not run.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let running = locked(&self.running);
        let known = || running.keys().cloned().collect::<Vec<_>>().join(", ");
        running
            .get(name)
            .map(|process| process.recorded().pid)
            .ok_or_else(|| Error::UnknownPart { name: name.into(), known: known() })
    }

    /// Kills a part as a power cut would: SIGKILL, now. It is not restarted.
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when it does not run.
    pub fn kill9(&self, name: &str) -> Result<()> {
        self.pid(name)?;
        if let Some(process) = locked(&self.running).remove(name) {
            process.kill();
        }
        self.record(name)
    }

    /// Freezes a part, as a stalled machine does, until [`Platform::resume`].
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when it does not run.
    pub fn pause(&self, name: &str) -> Result<()> {
        signal::send(Target::Group(self.pid(name)?), Signal::Stop);
        Ok(())
    }

    /// Lets a paused part go on.
    ///
    /// # Errors
    /// [`Error::UnknownPart`] when it does not run.
    pub fn resume(&self, name: &str) -> Result<()> {
        signal::send(Target::Group(self.pid(name)?), Signal::Cont);
        Ok(())
    }

    /// Stops a part in order, if it runs.
    ///
    /// # Errors
    /// When the state file cannot be written.
    pub fn stop_part(&self, name: &str) -> Result<()> {
        let process = locked(&self.running).remove(name);
        let grace = locked(&self.parts).get(name).map_or(start::GRACE, |part| part.grace);
        if let Some(process) = process
            && process.stop(grace)
        {
            self.site
                .progress
                .say(&format!("{name} did not end within {} s and was killed", grace.as_secs()));
        }
        self.record(name)
    }

    /// Starts a part that does not run and waits until it is ready: one of the real parts, or a workload, even if it was not
    /// among those of [`Options::workloads`].
    ///
    /// # Errors
    /// [`Error::UnknownPart`], or why it did not become ready.
    pub fn start_part(&self, name: &str) -> Result<()> {
        self.launch(name)
    }

    /// Says which folder a workload runs from when it is next started; `None`: the one of all others.
    pub fn run_from(&self, workload: &str, folder: Option<PathBuf>) {
        let mut programs = locked(&self.programs);
        match folder {
            Some(folder) => drop(programs.insert(workload.to_owned(), folder)),
            None => drop(programs.remove(workload)),
        }
    }

    /// Stops a part if it runs, and starts it again.
    ///
    /// # Errors
    /// As [`Platform::start_part`].
    pub fn restart(&self, name: &str) -> Result<()> {
        self.part(name)?;
        self.stop_part(name)?;
        self.launch(name)
    }

    /// Loses the cluster and builds it anew: an apiserver that knows of nothing, with what `up` applies to it. NATS, ClickHouse and
    /// Vault keep what they have. Processes of ours that ask the apiserver must have been stopped.
    ///
    /// # Errors
    /// Why a part did not become ready.
    pub fn rebuild_cluster(&self) -> Result<()> {
        for part in CLUSTER.iter().rev() {
            self.stop_part(part)?;
        }
        let data = self.site.folder("etcd")?;
        fs::remove_dir_all(&data).map_err(Error::io(format!("cannot remove {}", data.display())))?;
        CLUSTER.iter().try_for_each(|part| self.launch(part))?;
        cluster::prepare(&self.site)
    }

    /// Restarts NATS so that it has each message on disk before it acknowledges it, or, with `false`, whenever it likes by its
    /// own default.
    ///
    /// # Errors
    /// Why it did not become ready.
    pub fn sync_always(&self, always: bool) -> Result<()> {
        self.site.nats_syncs_always.store(always, Ordering::Relaxed);
        nats::nodes(self.site.nats_nodes).try_for_each(|node| self.restart(node))
    }

    /// The parts that ended by themselves since the last call.
    pub fn crashes(&self) -> Vec<Crash> {
        let mut running = locked(&self.running);
        let crashes: Vec<Crash> = running.values_mut().filter_map(Process::ended).collect();
        for crash in &crashes {
            running.remove(&crash.part);
        }
        crashes
    }

    /// Stops everything, in the reverse of the order of the start.
    pub fn stop(&self) {
        start::stop(self);
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Locks; a thread that panicked in between has at worst left an entry too many.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
