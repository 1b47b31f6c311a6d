//! The order of starting and stopping.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::ports::{self, Ports};
use super::process::{Process, stop_recorded};
use super::secrets::Secrets;
use super::site::{HEALTH_TIMEOUT, Part, Ready, Site};
use super::state::{PartRecord, Recorded, State};
use super::{
    Options, Platform, apiserver, clickhouse, cluster, controller_manager, etcd, locked, nats, nodes, vault,
    vault_setup, workloads,
};
use crate::cargo::Programs;
use crate::http::Http;
use crate::{Error, Paths, Progress, Result, cargo, random, tools};

/// How long a part whose own grace is unknown may take to end.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How often a starting part is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// See [`Platform::start`].
pub(super) fn start(options: Options) -> Result<Platform> {
    fs::create_dir_all(&options.dir)
        .map_err(Error::io(format!("cannot create {}", options.dir.display())))?;
    let lock = lock(&options.dir)?;
    let mut state = State::load(&options.dir)?;
    clear_leftovers(&state, &options.progress);
    state = State { ports: choose_ports(state.ports, options.new_ports)?, ..State::default() };
    state.supervisor = Recorded::of(std::process::id());
    state.save(&options.dir)?;

    let nats_syncs_always = AtomicBool::new(options.nats_syncs_always);
    let Options { paths, dir, nodes, workloads, bins, programs, crash_points, tls, .. } = options;
    let Options { env, installation, nats_nodes, clickhouse_users, tables, progress, cancel, .. } = options;
    std::thread::scope(|scope| {
        // Our own programs are compiled while the tools are built and the real parts start; only `chdb` is needed early.
        let (early, chdb) = sync_channel(1);
        let (paths, progress, cancel) = (&paths, &progress, &cancel);
        let compiled = scope.spawn({
            let workloads = &workloads;
            move || match bins {
                Some(bins) => {
                    drop(early.send(bins.join("chdb")));
                    Ok(bins)
                }
                None => compile(paths, workloads, crash_points, progress, cancel, &early),
            }
        });
        let tools = tools::ensure(paths, progress, cancel)?;
        // Without an answer the compiler failed, and says so itself.
        let Ok(chdb) = chdb.recv() else {
            return Err(compiled
                .join()
                .unwrap_or(Err(Error::Interrupted))
                .err()
                .unwrap_or(Error::Interrupted));
        };
        let site = Site {
            paths: paths.clone(),
            secrets: Secrets::open(&dir)?,
            dir,
            tables,
            installation,
            nats_nodes,
            nats_syncs_always,
            tls,
            clickhouse_users,
            ports: state.ports.clone(),
            tools,
            nodes,
            chdb,
            http: Http::new(HEALTH_TIMEOUT),
            progress: progress.clone(),
            cancel: cancel.clone(),
        };
        let mut platform = Platform {
            site,
            bins: PathBuf::new(),
            programs: Mutex::new(programs),
            env,
            parts: Mutex::new(BTreeMap::new()),
            running: Mutex::new(BTreeMap::new()),
            state: Mutex::new(state),
            _lock: lock,
        };
        platform.start_real_parts()?;
        platform.bins = compiled.join().unwrap_or(Err(Error::Interrupted))?;
        platform.start_workloads(&workloads)?;
        Ok(platform)
    })
}

/// Compiles `chdb`, tells where it is, then the workloads' programs.
fn compile(
    paths: &Paths,
    workloads: &[String],
    crash_points: bool,
    progress: &Progress,
    cancel: &crate::Cancel,
    early: &std::sync::mpsc::SyncSender<PathBuf>,
) -> Result<PathBuf> {
    let task = progress.task("our programs", "cargo build, dev profile");
    let bins = cargo::build(paths, Programs { packages: &["chdb"], ..Programs::default() }, &task, cancel)?;
    drop(early.send(bins.join("chdb")));
    let mut packages: Vec<&str> = workloads.iter().map(|name| workloads::component(name)).collect();
    packages.sort_unstable();
    packages.dedup();
    // Apart from the others, which share crates with them and would get the points as well.
    let (pointed, plain): (Vec<&str>, Vec<&str>) = packages
        .into_iter()
        .partition(|package| crash_points && matches!(*package, "sink" | "ingest" | "operator"));
    for (packages, feature) in [(plain, None), (pointed, Some("crash-points"))] {
        let of = |package: &&str| feature.map(|feature: &str| format!("{package}/{feature}"));
        let features: Vec<String> = packages.iter().filter_map(of).collect();
        if !packages.is_empty() {
            cargo::build(
                paths,
                Programs { packages: &packages, features: &features, ..Programs::default() },
                &task,
                cancel,
            )?;
        }
    }
    task.done(&format!("compiled into {}", bins.display()));
    Ok(bins)
}

/// Keeps the folder to this process as long as the file is open.
///
/// # Errors
/// [`Error::Running`] when another process holds it.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let failed = |source| Error::Io { what: format!("cannot lock {}", path.display()), source };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            Err(Error::Running { pid: text.trim().parse().unwrap_or(0), dir: dir.into() })
        }
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Stops what a supervisor that was killed left behind: we hold the lock, so nobody watches it any more.
fn clear_leftovers(state: &State, progress: &Progress) {
    let left: Vec<(&String, &PartRecord)> =
        state.parts.iter().filter(|(_, part)| part.process.alive()).collect();
    if left.is_empty() {
        return;
    }
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    let task =
        progress.task("leftovers", &format!("stops {}, left by an `up` that was killed", names.join(", ")));
    std::thread::scope(|scope| {
        for (_, part) in left {
            scope.spawn(|| stop_recorded(part.process, GRACE));
        }
    });
    task.done("stopped");
}

fn choose_ports(kept: Ports, anew: bool) -> Result<Ports> {
    let mut ports = if anew { Ports::default() } else { kept };
    // Somewhere else for each platform, so that two that start at once do not choose the same.
    let begin = u16::from_str_radix(&random::password()?[..4], 16).unwrap_or_default();
    ports.complete(begin, ports::is_free)?;
    Ok(ports)
}

impl Platform {
    fn start_real_parts(&self) -> Result<()> {
        apiserver::prepare(&self.site)?;
        if self.site.nodes.is_some() {
            nodes::PARTS.iter().try_for_each(|part| self.launch(part))?;
            return nodes::register(&self.site);
        }
        let chains: [&(dyn Fn() -> Result<()> + Sync); 4] = [
            &|| {
                super::CLUSTER.iter().try_for_each(|part| self.launch(part))?;
                cluster::prepare(&self.site)
            },
            &|| self.start_nats(),
            &|| self.launch("clickhouse"),
            &|| {
                self.launch("vault")?;
                vault_setup::prepare(&self.site, &vault::unseal(&self.site)?)
            },
        ];
        together(chains.into_iter())
    }

    /// All nodes at once: a node of a cluster is healthy when it sees the others.
    fn start_nats(&self) -> Result<()> {
        let nodes: Vec<_> = nats::nodes(self.site.nats_nodes).map(|node| move || self.launch(node)).collect();
        together(nodes.iter().map(|start| start as &(dyn Fn() -> Result<()> + Sync)))
    }

    fn start_workloads(&self, names: &[String]) -> Result<()> {
        // The operator creates what the others connect to.
        let (first, rest): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| *name == "operator");
        first.into_iter().try_for_each(|name| self.launch(name))?;
        let rest: Vec<_> = rest.into_iter().map(|name| move || self.launch(name)).collect();
        together(rest.iter().map(|start| start as &(dyn Fn() -> Result<()> + Sync)))
    }

    /// Lets other processes see that everything is there.
    pub(crate) fn announce_ready(&self) -> Result<()> {
        let mut state = locked(&self.state);
        state.ready = true;
        state.save(&self.site.dir)
    }

    /// The description of a part.
    pub(super) fn part(&self, name: &str) -> Result<Part> {
        let site = &self.site;
        match name {
            "etcd" => etcd::part(site),
            "kube-apiserver" => apiserver::part(site),
            "kube-controller-manager" => controller_manager::part(site),
            "kube-scheduler" => nodes::scheduler(site),
            "kwok" => nodes::kwok(site),
            _ if nats::nodes(site.nats_nodes).any(|node| node == name) => nats::part(site, name),
            "clickhouse" => clickhouse::part(site),
            "vault" => vault::part(site),
            _ if workloads::is_known(name) => {
                let extra = self.env.get(name).map(Vec::as_slice).unwrap_or_default();
                let other = locked(&self.programs).get(name).cloned();
                workloads::part(site, name, other.as_ref().unwrap_or(&self.bins), extra)
            }
            _ => {
                let known = [&super::REAL_PARTS[..], &workloads::ALL].concat().join(", ");
                Err(Error::UnknownPart { name: name.into(), known })
            }
        }
    }

    /// Starts a part and waits until it is ready.
    pub(super) fn launch(&self, name: &str) -> Result<()> {
        let part = self.part(name)?;
        if let Some(&port) = part.ports.iter().find(|&&port| !ports::is_free(port)) {
            return Err(Error::PortTaken { part: name.into(), port });
        }
        let task = self.site.progress.task(name, part.why);
        let process = Process::start(part.launch.clone())?;
        locked(&self.running).insert(name.to_owned(), process);
        locked(&self.parts).insert(name.to_owned(), part.clone());
        self.record(name)?;
        self.await_ready(name, &part)?;
        if name == "vault" {
            task.note("unseals itself with the key among the credentials");
            vault::unseal(&self.site)?;
        }
        let at: Vec<String> = part.ports.iter().map(|port| format!(":{port}")).collect();
        task.done(&format!("ready {}", at.join(" ")));
        Ok(())
    }

    fn await_ready(&self, name: &str, part: &Part) -> Result<()> {
        let mut last = "no answer".to_owned();
        let ready = self.site.cancel.until(part.within, PROBE_EVERY, || {
            self.still_running(name)?;
            match probe(&self.site, &part.ready) {
                Ok(()) => Ok(Some(())),
                Err(Error::Interrupted) => Err(Error::Interrupted),
                Err(error) => {
                    last = error.to_string();
                    Ok(None)
                }
            }
        })?;
        ready.ok_or_else(|| Error::NotReady {
            part: name.into(),
            seconds: part.within.as_secs(),
            last,
            log: self.site.log(name),
        })
    }

    fn still_running(&self, name: &str) -> Result<()> {
        let mut running = locked(&self.running);
        let ended = running.get_mut(name).and_then(Process::ended);
        ended.map_or(Ok(()), |crash| {
            running.remove(name);
            Err(Error::Crashed(crash))
        })
    }

    /// Writes down whether and as which process a part runs.
    pub(super) fn record(&self, name: &str) -> Result<()> {
        let process = locked(&self.running).get(name).map(Process::recorded);
        let parts = locked(&self.parts);
        let mut state = locked(&self.state);
        match (process, parts.get(name)) {
            (Some(process), Some(part)) => {
                let health = if let Ready::Http(url) = &part.ready { Some(url.clone()) } else { None };
                state
                    .parts
                    .insert(name.to_owned(), PartRecord { process, ports: part.ports.clone(), health });
            }
            _ => drop(state.parts.remove(name)),
        }
        state.save(&self.site.dir)
    }
}

/// Asks a part once whether it is ready.
fn probe(site: &Site, ready: &Ready) -> Result<()> {
    match ready {
        Ready::Running => Ok(()),
        Ready::Http(url) => site.http.get(url, &[])?.accepted(url).map(drop),
        Ready::Apiserver => apiserver::kubectl(site).run(&["get", "--raw=/readyz"]).map(drop),
    }
}

/// Runs steps side by side; the first one that failed for a reason of its own speaks for all.
fn together<'a>(steps: impl Iterator<Item = &'a (dyn Fn() -> Result<()> + Sync)>) -> Result<()> {
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let running: Vec<_> = steps.map(|step| scope.spawn(step)).collect();
        running.into_iter().map(|step| step.join().unwrap_or(Err(Error::Interrupted))).collect()
    });
    let mut failures: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    let own = failures.iter().position(|error| !matches!(error, Error::Interrupted)).unwrap_or(0);
    if failures.is_empty() { Ok(()) } else { Err(failures.swap_remove(own)) }
}

/// See [`Platform::stop`].
pub(super) fn stop(platform: &Platform) {
    let left = platform.running();
    if left.is_empty() {
        return;
    }
    let task = platform.site.progress.task("stopping", &left.join(", "));
    let stop_all = |names: &[&str]| {
        for name in names {
            if let Err(error) = platform.stop_part(name) {
                platform.site.progress.say(&format!("stopping {name}: {error}"));
            }
        }
    };
    std::thread::scope(|scope| {
        let ours = left.iter().filter(|name| workloads::is_known(name));
        ours.for_each(|name| drop(scope.spawn(|| stop_all(&[name]))));
    });
    task.note("the apiserver before its etcd; it closes its watches first");
    std::thread::scope(|scope| {
        // Once etcd is gone, an apiserver takes a minute to end.
        scope.spawn(|| {
            stop_all(&["kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"])
        });
        for name in nats::nodes(platform.site.nats_nodes).chain(["clickhouse", "vault"]) {
            scope.spawn(move || stop_all(&[name]));
        }
    });
    let mut state = locked(&platform.state);
    state.supervisor = None;
    state.ready = false;
    if let Err(error) = state.save(&platform.site.dir) {
        platform.site.progress.say(&error.to_string());
    }
    task.done("all parts have ended; their data stay");
}
