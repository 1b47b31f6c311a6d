//! The platform of a proof: empty data under `.dev/prove`, pods and sinks as many as it asks for, tenants.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::Lane;

use super::Job;
use super::outages::disk::Disk;
use super::pods::{self, PODS};
use crate::http::Http;
use crate::platform::{Options, Platform, workloads};
use crate::{Error, Result};

/// How long everything that was applied may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running platform.
pub struct World {
    /// Its processes.
    pub platform: Platform,
    /// Plain HTTP.
    pub http: Http,
    /// Ingest pods.
    pub pods: usize,
    /// Sinks.
    pub sinks: usize,
    /// Lanes beyond those that its tenants have at first.
    pub lanes: Vec<Lane>,
    /// Unmounted after the platform has ended.
    disk: Option<Disk>,
}

/// What a proof asks of its platform.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Ingest pods.
    pub pods: usize,
    /// Sinks.
    pub sinks: usize,
    /// NATS's store lies on a disk of its own, of this size.
    pub nats_disk_mib: Option<u32>,
    /// Whether sink and ingest have their crash points.
    pub crash_points: bool,
    /// Lanes that tenants get later.
    pub lanes: Vec<Lane>,
    /// Folders of other builds, by the workload that runs from there at first.
    pub programs: BTreeMap<String, PathBuf>,
    /// Environment of a workload beyond its own, by its name.
    pub env: BTreeMap<String, Vec<(String, String)>>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            pods: PODS,
            sinks: 1,
            nats_disk_mib: None,
            crash_points: false,
            lanes: vec![],
            programs: BTreeMap::new(),
            env: BTreeMap::new(),
        }
    }
}

impl World {
    /// Starts everything with empty data.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn start(job: &Job<'_>) -> Result<Self> {
        Self::of(job, Shape::default())
    }

    /// Starts everything in this shape with empty data.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn of(job: &Job<'_>, shape: Shape) -> Result<Self> {
        let Shape { pods, sinks, nats_disk_mib, crash_points, lanes, programs, mut env } = shape;
        let options = Options::dev()?;
        let dir = options.paths.dev.join("prove");
        Disk::clear(&dir.join("nats"));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::io(format!("cannot remove {}", dir.display())))?;
        }
        let disk = nats_disk_mib.map(|size| Disk::mount(&dir.join("nats"), size)).transpose()?;
        // A lane of a proof holds all that the proof sends.
        let room = ("MP_LANE_MAX_MIB".to_owned(), "1024".to_owned());
        env.entry("operator".to_owned()).or_default().insert(0, room);
        let platform = Platform::start(Options {
            dir,
            env,
            programs,
            crash_points,
            installation: "prove".into(),
            workloads: workloads::with_replicas(pods, sinks),
            nats_nodes: job.args.nats.nodes(),
            new_ports: true,
            progress: job.progress.clone(),
            cancel: job.cancel.clone(),
            ..options
        })?;
        Ok(Self { platform, http: Http::new(Duration::from_secs(30)), pods, sinks, lanes, disk })
    }

    /// Applies YAML and waits until the tenant, its limits and its key are ready and every pod knows the key, which it returns.
    ///
    /// # Errors
    /// When something is refused, or not ready in time.
    pub fn tenant(&self, job: &Job<'_>, tenant: &str, yaml: &str) -> Result<String> {
        let task = job.progress.task("tenant", "applies its limits and waits until they are enforced");
        let kubectl = self.platform.kubectl();
        self.apply(job, tenant, yaml)?;
        let tenant_name = format!("tenant/{tenant}");
        kubectl.wait("condition=Ready", &[&tenant_name], READY_WITHIN)?;
        for kind in ["apikeys.meterplane.io", "usagelimits.meterplane.io"] {
            let namespace = format!("--namespace={tenant}");
            if !kubectl.run(&["get", kind, &namespace, "--output=name"])?.trim().is_empty() {
                kubectl.wait("condition=Ready", &[kind, "--all", &namespace], READY_WITHIN)?;
            }
        }
        let key = self.key(tenant)?;
        for url in self.urls()? {
            self.await_key(job, &url, &key)?;
        }
        task.done("every pod knows its key");
        Ok(key)
    }

    /// Applies YAML as the platform team.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn apply(&self, job: &Job<'_>, name: &str, yaml: &str) -> Result<()> {
        let file = job.paths.dev.join("prove").join(format!("{name}.yaml"));
        fs::write(&file, yaml).map_err(Error::io(format!("cannot write {}", file.display())))?;
        self.platform.kubectl().apply(&[file])
    }

    /// The disk of NATS's store, if it has one of its own.
    pub fn nats_disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Base URLs of the ingest pods.
    ///
    /// # Errors
    /// Never for a platform that started.
    pub fn urls(&self) -> Result<Vec<String>> {
        (0..self.pods).map(|n| self.platform.url(&pods::name(n))).collect()
    }

    /// The key `app` of a tenant.
    ///
    /// # Errors
    /// When there is none.
    pub fn key(&self, tenant: &str) -> Result<String> {
        let path = "--output=jsonpath={.data.MP_API_KEY}";
        let get = ["get", "secret", "app-apikey", "--namespace", tenant, path];
        let encoded = self.platform.kubectl().run(&get)?;
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.ok_or_else(|| Error::Format {
            what: format!("Secret {tenant}/app-apikey"),
            detail: "it holds no MP_API_KEY".into(),
        })
    }

    /// A pod that knows the key complains about the body instead.
    fn await_key(&self, job: &Job<'_>, url: &str, key: &str) -> Result<()> {
        let (url, bearer) = (format!("{url}/v1/usage/events"), format!("Bearer {key}"));
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let known = job.cancel.until(READY_WITHIN, Duration::from_millis(100), || {
            let answer = self.http.send("POST", &url, &headers, "[]".into());
            Ok(answer.ok().filter(|answer| !matches!(answer.status, 401 | 503)))
        })?;
        known.map(drop).ok_or_else(|| Error::Program {
            program: "waiting for the tenant's key".into(),
            detail: format!("{url} did not know it within {} s", READY_WITHIN.as_secs()),
        })
    }

    /// The lines of a query's answer, with all rights.
    ///
    /// # Errors
    /// ClickHouse's words.
    pub fn clickhouse(&self, sql: &str) -> Result<Vec<String>> {
        let password = self.platform.secrets().get("clickhouse-tool")?;
        let headers = [("X-ClickHouse-User", "tool"), ("X-ClickHouse-Key", password.trim())];
        let url = self.platform.url("clickhouse")?;
        let answer = self.http.send("POST", &url, &headers, sql.to_owned())?.accepted(sql)?;
        Ok(answer.body.lines().map(str::to_owned).collect())
    }

    /// Waits until the sink has nothing left: two equal counts, 6 s apart, with no lag by the sink's own word.
    ///
    /// # Errors
    /// When it has not within five minutes.
    pub fn await_stored(&self, job: &Job<'_>, tenant: &str) -> Result<u64> {
        let task = job.progress.task("stored", "waits until the sink has stored everything");
        let metrics = format!("{}/metrics", self.platform.url("sink-admin")?);
        let sql = format!("SELECT count() FROM tenant_{tenant}.events");
        let (mut last, mut since) = (u64::MAX, Instant::now());
        let stored = job.cancel.until(Duration::from_secs(300), Duration::from_millis(500), || {
            let count = self.clickhouse(&sql)?.first().and_then(|line| line.parse().ok()).unwrap_or(0);
            let lag: f64 = self.http.get(&metrics, &[]).map_or(1.0, |answer| lag(&answer.body));
            if count != last || lag > 0.0 {
                (last, since) = (count, Instant::now());
            }
            task.comment(&format!("{count} events, {lag} messages to go"));
            Ok((since.elapsed() > Duration::from_secs(6)).then_some(count))
        })?;
        task.done(&format!("{} events", stored.unwrap_or(last)));
        stored.ok_or_else(|| Error::Program { program: "the sink".into(), detail: "it never ended".into() })
    }
}

fn lag(metrics: &str) -> f64 {
    let samples = metrics.lines().filter(|line| line.starts_with("mp_sink_lag_messages"));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
