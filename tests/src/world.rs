//! The platform that all tests share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use xtask::platform::{Options, Platform, Urls};

use crate::{Call, TestTenant, eventually, query_user};

/// The running platform.
pub struct World {
    /// Its processes.
    pub platform: Platform,
    /// Its addresses.
    pub urls: Urls,
    files: AtomicU32,
}

impl World {
    /// Starts everything with empty data.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn start() -> Result<Self, String> {
        let options = Options::test("test").map_err(|error| error.to_string())?;
        if options.dir.exists() {
            fs::remove_dir_all(&options.dir).map_err(|error| error.to_string())?;
        }
        let progress = xtask::Progress::detect();
        let clock = [("LD_PRELOAD", "so"), ("STEP_FILE", "ms")]
            .map(|(name, suffix)| (name.to_owned(), step_file(&options.dir, suffix).display().to_string()));
        let grace = ("MP_AUDIT_GRACE_SECONDS".to_owned(), "2".to_owned());
        let rollups = [("MP_ROLLUP_AGE_SECONDS", "1"), ("MP_ROLLUP_EVERY_SECONDS", "12")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        // A third pod, for tests that start it: its clock can be stepped while it runs. Nobody waits a minute here until
        // counts that differ are told, and ten until rows are summed up.
        let sink = std::iter::once(grace).chain(rollups).collect();
        // Nor ten minutes until a tenant goes without a system that is away.
        // And the webhook's certificates end while the tests run, again and again.
        let operator = [
            ("MP_DELETION_DEADLINE_SECONDS", "10"),
            ("MP_WEBHOOK_AUTHORITY_SECONDS", "20"),
            ("MP_WEBHOOK_CERTIFICATE_SECONDS", "6"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let env = [
            ("ingest-3".to_owned(), clock.to_vec()),
            ("sink".to_owned(), sink),
            ("operator".to_owned(), operator),
        ];
        let env = env.into();
        let clickhouse_users = query_user::all();
        let options = Options { new_ports: true, progress, env, clickhouse_users, ..options };
        let world = Self::of(Platform::start(options).map_err(|error| error.to_string())?)?;
        world.kubectl(&[
            "patch",
            "validatingwebhookconfiguration",
            "meterplane",
            "--type=json",
            "--patch",
            LETS_PASS,
        ]);
        world.apply(OPEN_PLAN);
        Ok(world)
    }

    pub(crate) fn of(platform: Platform) -> Result<Self, String> {
        let urls = platform.urls().map_err(|error| error.to_string())?;
        Ok(Self { platform, urls, files: AtomicU32::new(0) })
    }

    /// Applies YAML as the platform team.
    pub fn apply(&self, yaml: &str) {
        self.try_apply(yaml).unwrap();
    }

    /// Applies YAML as the platform team.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn try_apply(&self, yaml: &str) -> Result<(), String> {
        let file = self.file(yaml);
        self.platform.kubectl().apply(std::slice::from_ref(&file)).map_err(|error| error.to_string())
    }

    /// Applies YAML that the webhook would refuse, as if it were away: what a controller says of it is the question.
    pub fn apply_past_the_webhook(&self, yaml: &str) {
        let file = self.file(yaml).display().to_string();
        let who = ["--as", PAST_THE_WEBHOOK, "--as-group", "system:masters"];
        self.kubectl(&[&APPLY[..], &who, &["--filename", &file]].concat());
    }

    /// Applies YAML as the platform team, and gives the warnings that it meets with.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn warnings_of(&self, yaml: &str) -> Result<Vec<String>, String> {
        self.warned(yaml, &[])
    }

    /// The same without changing anything.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn dry_run(&self, yaml: &str) -> Result<Vec<String>, String> {
        self.warned(yaml, &["--dry-run=server"])
    }

    fn warned(&self, yaml: &str, how: &[&str]) -> Result<Vec<String>, String> {
        let mut command = Command::new(self.platform.kubectl().program());
        command.env("KUBECONFIG", self.platform.kubeconfig()).args(APPLY).args(how);
        let output =
            command.arg("--filename").arg(self.file(yaml)).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(said.into_owned());
        }
        Ok(said.lines().filter_map(|line| Some(line.strip_prefix("Warning: ")?.to_owned())).collect())
    }

    /// Applies YAML as somebody else.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn try_apply_as(&self, user: &str, yaml: &str) -> Result<String, String> {
        let file = self.file(yaml).display().to_string();
        self.try_kubectl(&["apply", "--server-side", "--as", user, "--filename", &file])
    }

    /// What steps the clock of the third pod: the library (`so`), and the file with the milliseconds (`ms`).
    pub fn step_file(&self, suffix: &str) -> PathBuf {
        step_file(self.platform.kubeconfig().parent().unwrap(), suffix)
    }

    fn file(&self, yaml: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let dir = self.platform.kubeconfig().parent().unwrap().join("applied");
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join(format!("{number}.yaml"));
        fs::write(&file, yaml).unwrap();
        file
    }

    /// Runs kubectl as the platform team.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap()
    }

    /// Runs kubectl as the platform team.
    ///
    /// # Errors
    /// Its words.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        self.platform.kubectl().run(args).map_err(|error| error.to_string())
    }

    /// Runs a query in ClickHouse with all rights and returns its lines.
    pub fn clickhouse(&self, sql: &str) -> Vec<String> {
        let password = self.platform.secrets().get("clickhouse-tool").unwrap();
        let answer = Call::post(&self.urls.clickhouse)
            .header("X-ClickHouse-User", "tool")
            .header("X-ClickHouse-Key", password.trim())
            .bare_body(sql)
            .send();
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        answer.body.lines().map(str::to_owned).collect()
    }

    /// How to connect to NATS as one of its users.
    pub fn nats_as(&self, user: &str) -> jetstream::Config {
        jetstream::Config {
            url: self.urls.nats.clone(),
            ca_file: None,
            user: user.to_owned(),
            password_file: self.platform.secrets().path(&format!("nats-{user}")),
            name: "test".to_owned(),
        }
    }

    /// A ready tenant without limits but those of `rules` (YAML documents; `NAME` stands for the tenant's name), with
    /// an ingest and a read key.
    pub fn tenant(&self, name: &str, rules: &str) -> TestTenant {
        self.tenant_on("open", name, rules)
    }

    /// The same on another plan.
    pub fn tenant_on(&self, plan: &str, name: &str, rules: &str) -> TestTenant {
        self.apply(&format!("{}\n---\n{}", tenant_yaml(plan, name), rules.replace("NAME", name)));
        self.ready(name);
        let tenant = TestTenant::new(self, name);
        // Keys work once every pod has the snapshot that holds them.
        for pod in 0..2 {
            eventually("the tenant's key is known to the pods", || {
                let answer =
                    Call::post(self.events_url(pod)).key(&tenant.ingest_key).bare_body("").try_send()?;
                (answer.status == 415).then_some(()).ok_or(answer.body)
            });
        }
        eventually("the tenant's key is known to the console", || {
            let answer =
                Call::get(self.console_url("/v1/dashboard/summary")).key(&tenant.read_key).try_send()?;
            (answer.status == 200).then_some(()).ok_or(answer.body)
        });
        tenant
    }

    /// Waits until a Tenant, its limits and its keys are ready.
    pub fn ready(&self, name: &str) {
        let wait = ["wait", "--for=condition=Ready", "--timeout=60s"];
        self.kubectl(&[&wait[..], &[&format!("tenant/{name}")]].concat());
        self.kubectl(&[&wait[..], &["--namespace", name, "apikeys.meterplane.io", "--all"]].concat());
        for rules in ["usagelimits.meterplane.io", "accesspolicies.meterplane.io"] {
            if !self.kubectl(&["get", rules, "--namespace", name, "--output=name"]).trim().is_empty() {
                self.kubectl(&[&wait[..], &["--namespace", name, rules, "--all"]].concat());
            }
        }
    }

    /// The event endpoint of one of the two ingest pods.
    pub fn events_url(&self, pod: usize) -> String {
        format!("{}/v1/usage/events", self.urls.ingest[pod % 2])
    }

    /// A path of the console.
    pub fn console_url(&self, path: &str) -> String {
        format!("{}{path}", self.urls.console)
    }
}

fn step_file(dir: &Path, suffix: &str) -> PathBuf {
    dir.join("step").with_extension(suffix)
}

const APPLY: [&str; 4] = ["apply", "--server-side", "--force-conflicts", "--field-manager=xtask"];
/// Whom the webhook does not see.
const PAST_THE_WEBHOOK: &str = "past-the-webhook";
const LETS_PASS: &str = r#"[{"op": "add", "path": "/webhooks/0/matchConditions/-", "value":
    {"name": "not-past-it", "expression": "request.userInfo.username != 'past-the-webhook'"}}]"#;

pub(crate) const OPEN_PLAN: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: Plan
metadata: {name: open}
spec: {displayName: Open, isolation: Dedicated}
";

fn tenant_yaml(plan: &str, name: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {{name: {name}}}
spec: {{displayName: Test {name}, planRef: {{name: {plan}}}, namespaces: [{name}]}}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {{name: app, namespace: {name}}}
spec: {{scopes: [ingest]}}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {{name: dashboard, namespace: {name}}}
spec: {{scopes: [read]}}
"
    )
}
