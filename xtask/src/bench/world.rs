//! The platform of a bench: empty data under `.dev/bench`, measured programs in the release profile.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::clickhouse::ClickHouse;
use super::load::Nats;
use super::programs::Programs;
use super::tables::Tables;
use crate::http::Http;
use crate::load::interruptible;
use crate::platform::{Options, Platform};
use crate::{Cancel, Error, Paths, Progress, Result};

/// How long everything that was applied may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a pod must accept every event before it is measured.
const STEADY: Duration = Duration::from_secs(5);
/// Most that the lane of one tenant may hold, MiB: all that is ever sent to it.
pub(super) const ONE_LANE_MIB: u32 = 16_384;
/// Most that each lane of a crowd may hold, MiB: NATS reserves the sum, and is given a terabyte.
pub(super) const CROWD_LANE_MIB: u32 = 2_048;

/// What every bench of processes needs.
pub(super) struct Bench {
    pub paths: Paths,
    pub progress: Progress,
    pub cancel: Cancel,
    pub programs: Programs,
    tables: Tables,
}

/// A running platform.
pub(super) struct World<'a> {
    pub bench: &'a Bench,
    pub platform: Platform,
    pub http: Http,
}

impl Bench {
    /// Builds what is missing.
    pub fn prepare(tables: Tables) -> Result<Self> {
        let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), interruptible()?);
        let programs = Programs::build(&paths, &progress, &cancel)?;
        Ok(Self { paths, progress, cancel, programs, tables })
    }

    /// Says on what machine it is.
    pub fn machine(&self) -> String {
        self.tables.machine(&self.paths.dev)
    }
}

impl<'a> World<'a> {
    /// Starts the real parts and these of ours with empty data, NATS as it comes or with every message on disk before its
    /// acknowledgement.
    pub fn start(bench: &'a Bench, workloads: &[&str], sync_always: bool, lane_mib: u32) -> Result<Self> {
        let options = Options::dev()?;
        let dir = options.paths.dev.join("bench");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::io(format!("cannot remove {}", dir.display())))?;
        }
        let lane = vec![("MP_LANE_MAX_MIB".to_owned(), lane_mib.to_string())];
        let platform = Platform::start(Options {
            dir,
            env: [("operator".to_owned(), lane)].into(),
            installation: "bench".into(),
            tables: bench.tables.emptied()?,
            workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
            bins: Some(bench.programs.bins.clone()),
            nats_syncs_always: sync_always,
            new_ports: true,
            progress: bench.progress.clone(),
            cancel: bench.cancel.clone(),
            ..options
        })?;
        Ok(Self { bench, platform, http: Http::new(Duration::from_secs(30)) })
    }

    /// Applies YAML and waits until the tenant and its key `app` are ready and the pod knows the key, which it returns.
    pub fn tenant(&self, tenant: &str, yaml: &str, pod: &str) -> Result<String> {
        let task =
            self.bench.progress.task("tenant", "applies it and waits until the pod accepts its events");
        let kubectl = self.platform.kubectl();
        let file = self.bench.paths.dev.join("bench").join(format!("{tenant}.yaml"));
        fs::write(&file, yaml).map_err(Error::io(format!("cannot write {}", file.display())))?;
        kubectl.apply(&[file])?;
        kubectl.wait("condition=Ready", &[&format!("tenant/{tenant}")], READY_WITHIN)?;
        let namespace = format!("--namespace={tenant}");
        kubectl.wait("condition=Ready", &["apikeys.meterplane.io", "--all", &namespace], READY_WITHIN)?;
        let path = "--output=jsonpath={.data.MP_API_KEY}";
        let encoded = kubectl.run(&["get", "secret", "app-apikey", &namespace, path])?;
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = decoded.ok_or_else(|| Error::Format {
            what: format!("Secret {tenant}/app-apikey"),
            detail: "it holds no MP_API_KEY".into(),
        })?;
        self.await_accepts(pod, &key)?;
        task.done("the pod accepts its events");
        Ok(key)
    }

    /// Waits until a pod has accepted every event for some seconds: it knows the key, and rates are leased, whose records are
    /// made anew after NATS was restarted.
    pub fn await_accepts(&self, pod: &str, key: &str) -> Result<()> {
        let url = format!("{}/v1/usage/events", self.platform.url(pod)?);
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = r#"{"id":"first","type":"report.export","subject":"first","data":{"tokens":1}}"#;
        let mut since = Instant::now();
        let accepted = self.bench.cancel.until(READY_WITHIN, Duration::from_millis(50), || {
            let answer = self.http.send("POST", &url, &headers, body.into());
            if !answer.is_ok_and(|answer| answer.status == 202) {
                since = Instant::now();
            }
            Ok((since.elapsed() > STEADY).then_some(()))
        })?;
        accepted.ok_or_else(|| Error::Program {
            program: "waiting for the pod".into(),
            detail: format!("{url} accepted no event within {} s", READY_WITHIN.as_secs()),
        })
    }

    /// `host:port` of one of our processes.
    pub fn host(&self, part: &str) -> Result<String> {
        Ok(self.platform.url(part)?.trim_start_matches("http://").to_owned())
    }

    /// NATS, with all rights.
    pub fn nats(&self) -> Result<Nats<'a>> {
        Ok(Nats {
            program: &self.bench.programs.publisher,
            url: self.platform.urls()?.nats,
            password_file: self.platform.secrets().path("nats-tool"),
        })
    }

    /// ClickHouse, with all rights.
    pub fn clickhouse(&self) -> Result<ClickHouse> {
        let password = self.platform.secrets().get("clickhouse-tool")?;
        Ok(ClickHouse::new(self.platform.url("clickhouse")?, password.trim().to_owned()))
    }

    /// Rows of all lanes, as ClickHouse counts them.
    pub fn rows(&self) -> Result<u64> {
        self.clickhouse()?.number("SELECT sum(rows) FROM system.parts WHERE active AND table = 'events_raw'")
    }

    /// Whether NATS says of itself that it has each message on disk before it acknowledges it.
    pub fn syncs_always(&self) -> Result<bool> {
        let url = format!("{}/jsz", self.platform.urls()?.nats_monitor);
        let answer = self.http.get(&url, &[])?.accepted(&url)?.json();
        Ok(answer["config"]["sync_always"].as_bool().unwrap_or_default())
    }
}
