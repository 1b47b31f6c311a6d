//! Argo CD beside the platform: the controllers of Applications and ApplicationSets, the repository server and their cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::Job;
use super::super::proxy::{Proxy, free_port};
use super::super::world::World;
use super::repository::{Repository, read};
use crate::{Error, Paths, Result, random, tools};

/// Namespace of Argo CD, as its own manifests have it.
const NAMESPACE: &str = "argocd";
const API: &str = "/apis/argoproj.io/v1alpha1/namespaces/argocd";
/// Asks for a look now; whoever has looked takes the annotation away.
const REFRESH: &str = "argocd.argoproj.io/refresh";
const REFRESH_SET: &str = "argocd.argoproj.io/application-set-refresh";
/// How often it looks by itself: every three minutes by default, which is long for a proof.
const RESYNC: Duration = Duration::from_secs(20);
/// How long anything may take that Argo CD does.
const WITHIN: Duration = Duration::from_secs(120);
/// How often it is asked.
const EVERY: Duration = Duration::from_millis(250);

/// A running Argo CD.
pub struct ArgoCd<'a> {
    job: &'a Job<'a>,
    proxy: &'a Proxy,
    /// When it was told what to sync.
    pub applied: Instant,
    _programs: Vec<Program>,
}

/// What the controller says of an Application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `Synced` or not.
    pub sync: String,
    /// Health of all its objects together.
    pub health: String,
    /// The commit that it compared with.
    pub revision: String,
    /// When the newest sync began.
    pub began: String,
    /// Counts syncs that succeeded.
    pub synced: i64,
    /// Everything else, for looking up a word.
    pub status: String,
}

impl<'a> ArgoCd<'a> {
    /// Starts it for the platform of a proof, and applies the examples' Application and ApplicationSet for this repository.
    ///
    /// # Errors
    /// When it cannot be built or does not start.
    pub fn start(
        job: &'a Job<'a>,
        world: &World,
        proxy: &'a Proxy,
        dir: &Path,
        repository: &Repository<'_>,
    ) -> Result<Self> {
        let argocd = tools::argocd(job.paths, job.progress, job.cancel)?;
        let task = job.progress.task("argocd", "its controllers, its repository server, their cache");
        fs::create_dir_all(dir.join("tmp")).map_err(Error::io(format!("cannot create {}", dir.display())))?;
        world.platform.kubectl().apply(&argocd.crds)?;
        let mut argo = Self { job, proxy, applied: Instant::now(), _programs: vec![] };
        argo.until("serves its types", || Ok(proxy.get(&format!("{API}/appprojects")).ok()))?;
        let examples = job.paths.root.join("examples/argocd");
        world.apply(job, "argocd", &configuration(&examples)?)?;
        let kubeconfig = world.platform.kubeconfig();
        let start = |(name, args): (&str, Vec<String>)| {
            Program::start(&argocd.program, dir, name, &args, &kubeconfig)
        };
        argo._programs = programs()?.into_iter().map(start).collect::<Result<_>>()?;
        argo.applied = Instant::now();
        for file in ["application", "applicationset"] {
            let example = read(&examples.join(format!("{file}.yaml")))?;
            world.apply(job, file, &pointed_at(&example, &repository.url()))?;
        }
        task.done("started");
        Ok(argo)
    }

    /// Has an Application fetched and compared, and returns what is said of it then.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn refresh(&self, application: &str) -> Result<Said> {
        self.proxy.patch(&path(application), &json!({"metadata": {"annotations": {REFRESH: "hard"}}}))?;
        self.until("compares when it is asked", || {
            let object = self.proxy.get(&path(application))?;
            Ok(object["metadata"]["annotations"][REFRESH].is_null().then(|| Said::of(&object)))
        })
    }

    /// Has everything of an Application applied, as it stands in Git, and waits until that is done.
    ///
    /// # Errors
    /// When it fails.
    pub fn sync(&self, application: &str) -> Result<()> {
        let before = self.good(application)?;
        let options =
            json!({"syncOptions": ["ServerSideApply=true"], "revision": before.revision, "prune": true});
        self.proxy.patch(&path(application), &json!({"operation": {"sync": options}}))?;
        self.says(application, "has applied it again", |said| said.synced > before.synced).map(drop)
    }

    /// Waits until an Application is gone.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn gone(&self, application: &str) -> Result<()> {
        self.until("lets go of an Application", || Ok(self.said(application).is_err().then_some(())))
    }

    /// Has the folders of the repository looked at.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn refresh_set(&self) -> Result<()> {
        let set = format!("{API}/applicationsets/tenants");
        self.proxy.patch(&set, &json!({"metadata": {"annotations": {REFRESH_SET: "true"}}})).map(drop)
    }

    /// What is said of an Application now.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn said(&self, application: &str) -> Result<Said> {
        Ok(Said::of(&self.proxy.get(&path(application))?))
    }

    /// Waits until something is said of an Application that may not be there yet.
    ///
    /// # Errors
    /// When it is not said in time.
    pub fn says(&self, application: &str, what: &str, is: impl Fn(&Said) -> bool) -> Result<Said> {
        let mut last = None;
        let said = self.until(&format!("says of {application} that it {what}"), || {
            last = self.said(application).ok();
            Ok(last.clone().filter(&is))
        });
        said.inspect_err(|_| self.job.progress.say(&format!("the last that it said: {last:?}")))
    }

    /// Waits until an Application is synced and its objects are well.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn good(&self, application: &str) -> Result<Said> {
        self.says(application, "is Synced and Healthy", |said| {
            said.sync == "Synced" && said.health == "Healthy"
        })
    }

    /// Waits until a commit is synced and this is the health of the objects.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn judged(&self, application: &str, commit: &str, health: &str) -> Result<Said> {
        self.refresh(application)?;
        let is = |said: &Said| said.revision == commit && said.sync == "Synced" && said.health == health;
        self.says(application, &format!("is Synced and {health}"), is)
    }

    fn until<T>(&self, what: &str, probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let answer = self.job.cancel.until(WITHIN, EVERY, probe)?;
        answer.ok_or_else(|| Error::Program {
            program: "Argo CD".into(),
            detail: format!("within {} s it never {what}", WITHIN.as_secs()),
        })
    }
}

impl Said {
    fn of(application: &Value) -> Self {
        let status = &application["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            sync: text(&status["sync"]["status"]),
            health: text(&status["health"]["status"]),
            revision: text(&status["sync"]["revision"]),
            began: text(&status["operationState"]["startedAt"]),
            synced: status["history"].as_array().and_then(|all| all.last()?["id"].as_i64()).unwrap_or(-1),
            status: json!([status["operationState"], status["resources"], status["conditions"]]).to_string(),
        }
    }
}

/// A program of Argo CD; dropping it ends it.
struct Program(Child);

impl Program {
    fn start(program: &Path, dir: &Path, name: &str, args: &[String], kubeconfig: &PathBuf) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(Error::io(format!("cannot create {}", log.display())))?;
        let child = Command::new(program)
            .env_clear()
            .envs(Paths::inherited())
            .env("TMPDIR", dir.join("tmp"))
            .env("KUBECONFIG", kubeconfig)
            // The destination is the cluster that it runs in: here, that of the kubeconfig.
            .env("ARGOCD_FAKE_IN_CLUSTER", "true")
            .env("ARGOCD_GPG_ENABLED", "false")
            .env("ARGOCD_ASK_PASS_SOCK", dir.join("ask-pass.sock"))
            .env("ARGOCD_TLS_DATA_PATH", dir.join("tls"))
            .env("ARGOCD_SSH_DATA_PATH", dir.join("ssh"))
            .arg(name)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(Error::io(format!("cannot start Argo CD's {name}")))?;
        Ok(Self(child))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What is started, with its arguments.
fn programs() -> Result<[(&'static str, Vec<String>); 4]> {
    let (cache, repos) = (free_port()?, free_port()?);
    let redis = format!("--redis=127.0.0.1:{cache}");
    let namespace = format!("--namespace={NAMESPACE}");
    let free = |flag: &str| Ok::<_, Error>(format!("{flag}{}", free_port()?));
    let repo_server = vec![
        redis.clone(),
        format!("--port={repos}"),
        free("--metrics-port=")?,
        "--address=127.0.0.1".into(),
        "--metrics-address=127.0.0.1".into(),
        "--disable-tls".into(),
    ];
    let controller = vec![
        redis,
        namespace.clone(),
        format!("--repo-server=127.0.0.1:{repos}"),
        "--repo-server-plaintext".into(),
        free("--metrics-port=")?,
        format!("--app-resync={}", RESYNC.as_secs()),
        "--app-resync-jitter=0".into(),
        // Where its web interface would show the health of each object: here its status does.
        "--persist-resource-health".into(),
    ];
    let sets = vec![
        namespace,
        format!("--argocd-repo-server=127.0.0.1:{repos}"),
        "--repo-server-plaintext".into(),
        free("--metrics-addr=127.0.0.1:")?,
        free("--probe-addr=127.0.0.1:")?,
        free("--webhook-addr=127.0.0.1:")?,
    ];
    Ok([
        ("cache", vec![format!("127.0.0.1:{cache}")]),
        ("repo-server", repo_server),
        ("controller", controller),
        ("applicationsets", sets),
    ])
}

/// Namespace, the settings of our examples, a secret of its own, and the project that may do everything.
fn configuration(examples: &Path) -> Result<String> {
    let labels = "{app.kubernetes.io/part-of: argocd}";
    let key = random::password()?;
    Ok(format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n---\n{}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: argocd-secret, namespace: {NAMESPACE}, labels: {labels}}}\n\
         stringData: {{server.secretkey: \"{key}\"}}\n---\n\
         apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {{name: default, namespace: {NAMESPACE}}}\n\
         spec: {{sourceRepos: [\"*\"], destinations: [{{namespace: \"*\", server: \"*\"}}],\n\
         \x20 clusterResourceWhitelist: [{{group: \"*\", kind: \"*\"}}]}}\n",
        read(&examples.join("argocd-cm.yaml"))?
    ))
}

/// An example as it stands, for our repository.
fn pointed_at(example: &str, repository: &str) -> String {
    let ours = |line: &str| match line.split_once("repoURL:") {
        Some((indent, _)) => format!("{indent}repoURL: {repository}"),
        None => line.to_owned(),
    };
    example.lines().map(ours).collect::<Vec<_>>().join("\n")
}

fn path(application: &str) -> String {
    format!("{API}/applications/{application}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_applied_as_it_stands_but_for_its_repository() {
        let yaml =
            "spec:\n  source:\n    repoURL: https://git.example.com/x.git   # yours\n    path: tenants";
        let ours = pointed_at(yaml, "file:///dev/r");
        assert_eq!(ours, "spec:\n  source:\n    repoURL: file:///dev/r\n    path: tenants");
    }
}
