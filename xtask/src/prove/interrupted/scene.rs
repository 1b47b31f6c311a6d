//! Tenants that come and go while the operator dies.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::standing::{self, Subject};
use crate::prove::Job;
use crate::prove::outside::State;
use crate::prove::proxy::Proxy;
use crate::prove::world::World;
use crate::{Error, Result};

/// How long it may take until all is as it should be.
const WITHIN: Duration = Duration::from_secs(90);
/// How long nothing may change for it to count as the end.
const STILL: Duration = Duration::from_secs(10);
/// How often it is looked.
const EVERY: Duration = Duration::from_millis(300);
/// The place before a change, in the operator's gate.
const POINT: &str = "change";
/// More changes than any tenant takes.
const MANY: u32 = 1_000_000;
const GROUP: &str = "/apis/meterplane.io/v1alpha1";

/// Where it plays.
pub struct Scene<'a> {
    pub job: &'a Job<'a>,
    pub world: &'a World,
    pub proxy: &'a Proxy,
    /// Armed crash points.
    pub folder: PathBuf,
}

/// What happened when a tenant came or went.
#[derive(Debug, Clone, Default)]
pub struct Passage {
    /// Whether the operator died on the way.
    pub died: bool,
    /// What stood in the end and should not, or the other way round.
    pub differences: Vec<String>,
}

/// What stands when nobody dies, and in how many changes it came about.
#[derive(Debug, Clone)]
pub struct Model {
    /// What stands.
    pub state: State,
    /// Changes.
    pub changes: u32,
}

impl Scene<'_> {
    /// Plan and pool of all tenants.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn prepare(&self) -> Result<()> {
        let version = "meterplane.io/v1alpha1";
        let pool = json!({"apiVersion": version, "kind": "LanePool", "metadata": {"name": "default"},
            "spec": {"shards": 1, "storage": "64Mi"}});
        self.proxy.post(&format!("{GROUP}/lanepools"), &pool)?;
        let limits = json!([{"name": "events", "per": "Tenant", "quota": {"max": 1000, "period": "Month"}}]);
        let plan = json!({"apiVersion": version, "kind": "Plan", "metadata": {"name": "plain"},
            "spec": {"displayName": "Plain", "isolation": "Dedicated", "limits": limits}});
        self.proxy.post(&format!("{GROUP}/plans"), &plan).map(drop)
    }

    /// Declares a tenant with all that it can have.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn declare(&self, name: &str, adoption: &str) -> Result<()> {
        let version = "meterplane.io/v1alpha1";
        let own = |kind: &str, object: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": object, "namespace": name}, "spec": spec});
        let objects = [
            (
                "/api/v1/namespaces".to_owned(),
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            ),
            (
                format!("{GROUP}/tenants"),
                json!({"apiVersion": version, "kind": "Tenant", "metadata": {"name": name},
                    "spec": {"displayName": name, "planRef": {"name": "plain"}, "namespaces": [name],
                        "adoption": adoption, "deletionPolicy": "Delete", "deletionGrace": "1s"}}),
            ),
            (
                format!("{GROUP}/namespaces/{name}/usagelimits"),
                own("UsageLimit", "daily", json!({"per": "User", "quota": {"max": 100, "period": "Day"}})),
            ),
            (
                format!("{GROUP}/namespaces/{name}/accesspolicies"),
                own(
                    "AccessPolicy",
                    "night",
                    json!({"effect": "Deny", "rules": [{"name": "night", "match": {"features": ["night"]}}]}),
                ),
            ),
            (
                format!("{GROUP}/namespaces/{name}/apikeys"),
                own("ApiKey", "app", json!({"scopes": ["ingest"]})),
            ),
        ];
        objects.iter().try_for_each(|(path, object)| self.proxy.post(path, object).map(drop))
    }

    /// Deletes it for good, with its namespace.
    fn dismiss(&self, name: &str) -> Result<()> {
        let tenant = format!("{GROUP}/tenants/{name}");
        let confirmed = json!({"metadata": {"annotations": {"meterplane.io/confirm-deletion": name}}});
        self.proxy.patch(&tenant, &confirmed)?;
        self.proxy.delete(&tenant)?;
        self.proxy.delete(&format!("/api/v1/namespaces/{name}"))
    }

    /// A tenant comes, and nobody dies.
    ///
    /// # Errors
    /// When it is not in force in time.
    pub fn model_of_coming(&self, subject: &Subject) -> Result<Model> {
        self.model(
            subject,
            || self.declare(&subject.name, "Never"),
            || standing::is_in_force(self.proxy, &subject.name),
        )
    }

    /// A tenant goes, and nobody dies.
    ///
    /// # Errors
    /// When it is not gone in time.
    pub fn model_of_going(&self, subject: &Subject) -> Result<Model> {
        self.model(subject, || self.dismiss(&subject.name), || self.is_gone(&subject.name))
    }

    /// A tenant comes while the operator dies before its change `n`.
    ///
    /// # Errors
    /// When it could not be tried.
    pub fn come(&self, name: &str, n: u32, model: &Model) -> Result<(Subject, Passage)> {
        let subject = Subject { name: name.to_owned(), uids: vec![] };
        let passage =
            self.interrupted(n, || self.declare(name, "Never"), || self.differences(&subject, model))?;
        Ok((subject.met(self.proxy)?, passage))
    }

    /// A tenant goes while the operator dies before its change `n`.
    ///
    /// # Errors
    /// When it could not be tried.
    pub fn go(&self, subject: &Subject, n: u32, model: &Model) -> Result<Passage> {
        self.interrupted(
            n,
            || self.dismiss(&subject.name),
            || {
                if self.is_gone(&subject.name)? {
                    self.differences(subject, model)
                } else {
                    Ok(vec!["it is there".to_owned()])
                }
            },
        )
    }

    /// Starts the operator again whenever it has died.
    ///
    /// # Errors
    /// Another part died, or it does not start.
    pub fn revive(&self) -> Result<bool> {
        let mut died = false;
        for crash in self.world.platform.crashes() {
            if crash.part != "operator" {
                return Err(Error::Crashed(crash));
            }
            self.world.platform.start_part("operator")?;
            died = true;
        }
        Ok(died)
    }

    /// What stands of a tenant, once nothing changes any more.
    ///
    /// # Errors
    /// When that is not so in time.
    pub fn settled(&self, subject: &Subject, done: impl Fn() -> Result<bool>) -> Result<State> {
        let (mut last, mut since) = (State::new(), Instant::now());
        let settled = self.job.cancel.until(WITHIN, EVERY, || {
            let now = standing::read(self.world, self.proxy, subject)?;
            if now != last || !done()? {
                (last, since) = (now, Instant::now());
            }
            Ok((since.elapsed() >= STILL).then(|| last.clone()))
        })?;
        settled.ok_or_else(|| Error::Program {
            program: "the operator".into(),
            detail: format!("tenant {} is not where it should be", subject.name),
        })
    }

    fn model(
        &self,
        subject: &Subject,
        act: impl Fn() -> Result<()>,
        done: impl Fn() -> Result<bool>,
    ) -> Result<Model> {
        self.arm(MANY)?;
        act()?;
        let state = self.settled(subject, done)?;
        Ok(Model { state, changes: MANY - self.disarm()?.unwrap_or(MANY) })
    }

    fn interrupted(
        &self,
        n: u32,
        act: impl Fn() -> Result<()>,
        differences: impl Fn() -> Result<Vec<String>>,
    ) -> Result<Passage> {
        self.arm(n)?;
        act()?;
        let mut passage = Passage::default();
        let all = self.job.cancel.until(WITHIN, EVERY, || {
            passage.died |= self.revive()?;
            passage.differences = differences()?;
            Ok(passage.differences.is_empty().then_some(()))
        })?;
        if let Some(()) = all {
            passage.differences.clear();
        }
        self.disarm()?;
        Ok(passage)
    }

    fn differences(&self, subject: &Subject, model: &Model) -> Result<Vec<String>> {
        let now = standing::read(self.world, self.proxy, subject)?;
        let is = |state: &State, name: &str| state.get(name).map_or("nothing", String::as_str).to_owned();
        let names = model.state.keys().chain(now.keys().filter(|name| !model.state.contains_key(*name)));
        let differ = names.filter(|name| model.state.get(*name) != now.get(*name));
        Ok(differ
            .map(|name| format!("{name}: {} instead of {}", is(&now, name), is(&model.state, name)))
            .collect())
    }

    fn is_gone(&self, name: &str) -> Result<bool> {
        let there = |path: &str| -> Result<bool> {
            let items = self.proxy.get(path)?;
            Ok(items["items"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|object| object["metadata"]["name"] == name))
        };
        Ok(!there(&format!("{GROUP}/tenants"))? && !there("/api/v1/namespaces")?)
    }

    fn arm(&self, n: u32) -> Result<()> {
        let file = self.folder.join(POINT);
        fs::write(&file, format!("kill {n}")).map_err(Error::io(format!("cannot write {}", file.display())))
    }

    /// How many passes were left; `None`: it has acted.
    fn disarm(&self) -> Result<Option<u32>> {
        let file = self.folder.join(POINT);
        let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
        fs::remove_file(&file).map_err(Error::io(format!("cannot remove {}", file.display())))?;
        Ok(text.rsplit(' ').next().and_then(|left| left.parse().ok()))
    }
}
