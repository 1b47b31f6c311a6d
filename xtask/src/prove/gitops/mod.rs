//! `prove gitops`: Argo CD's own controllers sync our examples, again and again.
//!
//! ```text
//! first sync -> nothing changes -> edits by hand are taken back
//!   -> commits: in force, refused, mended, beside a wrong one of another customer, degraded, pruned, on hold
//!   -> a file and a folder that are lost
//! ```

mod argocd;
mod repository;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::argocd::{ArgoCd, Said};
use self::repository::Repository;
use super::proxy::{KINDS, Proxy};
use super::report::Round;
use super::steady::is;
use super::world::{Shape, World};
use super::{Job, Scale};
use crate::{Error, Result};

/// Applications: what is shared, the customer of the examples, and another one.
const PLANS: &str = "plans";
const CUSTOMER: &str = "tenant-initech";
const OTHER: &str = "tenant-globex";
/// The customer's limit, and where Git has it.
const LIMIT: &str = "/apis/meterplane.io/v1alpha1/namespaces/initech/usagelimits/exports-per-user";
const LIMIT_FILE: &str = "initech/self-service.yaml";
const FEATURES: &str = "{features: [\"report.export\"]}";
const WRONG: &str = "{features: [\"report.export\"], expression: event.data.}";
/// The Tenant in Git, and on hold.
const TENANT_FILE: &str = "initech/tenant.yaml";
const FREE: &str =
    "  name: initech\n  annotations: {argocd.argoproj.io/sync-options: \"Prune=false,Delete=false\"}\nspec:";
const HELD: &str = "  name: initech\n  annotations: {argocd.argoproj.io/sync-options: \"Prune=false,Delete=false\", meterplane.io/reconcile: paused}\nspec:";
/// Where Argo CD notes that an object is its own; the console goes by it.
const TRACKING: &str = "argocd.argoproj.io/tracking-id";
/// Times that it looks again, and that somebody edits by hand.
const TIMES: usize = 3;
/// How long a change may take until it is seen.
const WITHIN: Duration = Duration::from_secs(60);
/// An ApiKey whose Secret belongs to somebody else: only the operator can see that.
const TAKEN: &str = "apiVersion: v1
kind: Secret
metadata: {name: taken, namespace: initech}
stringData: {note: not a key}
---
apiVersion: meterplane.io/v1alpha1
kind: ApiKey
metadata: {name: taken, namespace: initech}
spec: {scopes: [ingest], secretName: taken}
";
/// A customer with a limit that is not CEL.
const GLOBEX: &str = "apiVersion: v1
kind: Namespace
metadata: {name: globex}
---
apiVersion: meterplane.io/v1alpha1
kind: Tenant
metadata: {name: globex}
spec: {displayName: Globex, planRef: {name: gitops}, namespaces: [globex]}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: exports, namespace: globex}
spec:
  per: User
  match: {features: [\"report.export\"], expression: event.data.}
  quota: {max: 50, period: Day}
";

/// A limit of the customer in the folder of another.
const COPIED: &str = "apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: exports-per-user, namespace: initech}
spec:
  per: User
  match: {features: [\"report.export\"]}
  quota: {max: 1, period: Day}
";

/// What a part of the proof works with.
struct Stage<'a> {
    job: &'a Job<'a>,
    proxy: &'a Proxy,
    argo: ArgoCd<'a>,
    git: Repository<'a>,
}

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let quiet = Duration::from_secs(if job.args.scale == Scale::Small { 60 } else { 600 });
    let world = World::of(job, Shape { pods: 2, ..Shape::default() })?;
    let proxy = Proxy::start(&world, job)?;
    let dir = job.paths.dev.join("prove/argocd");
    let git =
        Repository::create(job, dir.join("tenants.git"), &job.paths.root.join("examples/argocd/tenants"))?;
    let argo = ArgoCd::start(job, &world, &proxy, &dir, &git)?;
    let stage = Stage { job, proxy: &proxy, argo, git };
    let mut round = Round { seed, ..Round::default() };
    round.part("first sync", |round| stage.first(round))?;
    round.part("unchanged", |round| stage.unchanged(quiet, round))?;
    round.part("edits by hand", |round| stage.taken_back(round))?;
    round.part("a commit", |round| stage.changed(round))?;
    round.part("a wrong commit", |round| stage.refused(round))?;
    round.part("another customer's wrong commit", |round| stage.of_another(round))?;
    round.part("a key that cannot be", |round| stage.degraded(round))?;
    round.part("on hold", |round| stage.on_hold(round))?;
    round.part("lost", |round| stage.lost(round))?;
    round.part("in the end", |round| stage.unchanged(Duration::from_secs(10), round))?;
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

impl Stage<'_> {
    /// From an empty cluster: everything comes at once, and waits for what it refers to by itself.
    fn first(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("first sync", "plan, namespace, tenant, rules, a key");
        self.argo.good(PLANS)?;
        self.argo.good(CUSTOMER)?;
        let objects = self.objects()?;
        let untracked =
            objects.values().filter(|object| object["metadata"]["annotations"][TRACKING].is_null());
        round.number("seconds", self.argo.applied.elapsed().as_secs_f64());
        round.number("objects", objects.len());
        round.at_most("objects without Argo CD's mark", untracked.count() as f64, 0.0);
        task.done("Synced and Healthy");
        Ok(())
    }

    /// The same commit again: applied when asked for, and looked at by itself.
    fn unchanged(&self, quiet: Duration, round: &mut Round) -> Result<()> {
        let what = format!("{TIMES} syncs when asked, then {} s", quiet.as_secs());
        let task = self.job.progress.task("unchanged", &what);
        let before = self.generations()?;
        for _ in 0..TIMES {
            self.argo.sync(PLANS)?;
            self.argo.sync(CUSTOMER)?;
        }
        let said = (self.argo.good(PLANS)?, self.argo.good(CUSTOMER)?);
        let (mut others, end) = (0, Instant::now() + quiet);
        while Instant::now() < end {
            others += usize::from(!is_same(&self.argo.said(PLANS)?, &said.0));
            others += usize::from(!is_same(&self.argo.said(CUSTOMER)?, &said.1));
            self.job.cancel.pause(Duration::from_millis(500))?;
        }
        let changed = changes(&before, &self.generations()?);
        round.at_most("times that it was not Synced, not Healthy, or synced again", others as f64, 0.0);
        round.at_most("specs that changed", changed as f64, 0.0);
        task.done("looked");
        Ok(())
    }

    /// Somebody edits by hand; Git wins, and then it is quiet again.
    fn taken_back(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("edits by hand", &format!("{TIMES} of them"));
        let (mut kept, mut seconds) = (0, vec![]);
        let before = generation(&self.proxy.get(LIMIT)?);
        for n in 0..TIMES {
            self.proxy.patch(LIMIT, &json!({"spec": {"quota": {"max": 100 + n}}}))?;
            let began = Instant::now();
            kept += usize::from(!self.limited_to(50)?);
            seconds.push(format!("{:.1}", began.elapsed().as_secs_f64()));
            self.argo.good(CUSTOMER)?;
        }
        let written = generation(&self.proxy.get(LIMIT)?) - before;
        // Argo CD waits longer from one to the next.
        round.number("secondsUntilTakenBack", seconds.join(", "));
        round.at_most("that Git did not take back", kept as f64, 0.0);
        // One by hand and one by Argo CD: nobody answers it.
        round.at_most("writes of the limit", written as f64, (2 * TIMES) as f64);
        task.done("taken back");
        Ok(())
    }

    /// A commit that is good.
    fn changed(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("a commit", "another limit");
        let (commit, began) = (self.git.edit(LIMIT_FILE, "max: 50", "max: 40")?, Instant::now());
        self.argo.judged(CUSTOMER, &commit, "Healthy")?;
        let limit = self.proxy.get(LIMIT)?;
        let right = limit["spec"]["quota"]["max"] == json!(40) && in_force(&limit);
        round.number("seconds", began.elapsed().as_secs_f64());
        round.at_most("Healthy before it was in force", f64::from(!right), 0.0);
        task.done("in force");
        Ok(())
    }

    /// A commit that is wrong, and the next one, which mends it.
    fn refused(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("a wrong commit", "refused with its field, mended by the next");
        self.git.edit(LIMIT_FILE, FEATURES, WRONG)?;
        self.argo.refresh(CUSTOMER)?;
        self.argo
            .says(CUSTOMER, "names the wrong field", |said| said.status.contains("spec.match.expression"))?;
        let kept = in_force(&self.proxy.get(LIMIT)?);
        round.at_most("limits that are no longer in force", f64::from(!kept), 0.0);
        // Another number as well: what is only mended would be Synced before anything is synced.
        self.git.edit(LIMIT_FILE, WRONG, FEATURES)?;
        let (mended, began) = (self.git.edit(LIMIT_FILE, "max: 40", "max: 30")?, Instant::now());
        self.argo.judged(CUSTOMER, &mended, "Healthy")?;
        round.number("secondsUntilMended", began.elapsed().as_secs_f64());
        task.done("refused, mended");
        Ok(())
    }

    /// What is wrong in one customer's folder stops nobody else's.
    fn of_another(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("another customer", "with a wrong limit, which stays wrong");
        self.git.write("globex/tenant.yaml", GLOBEX)?;
        self.argo.refresh_set()?;
        self.argo
            .says(OTHER, "names the wrong field", |said| said.status.contains("spec.match.expression"))?;
        self.git.edit(LIMIT_FILE, "max: 30", "max: 20")?;
        self.argo.refresh(CUSTOMER)?;
        round.at_most("limits of others that it stops", f64::from(!self.limited_to(20)?), 0.0);
        // Half of a folder that was copied.
        let copied = generation(&self.proxy.get(LIMIT)?);
        self.git.write("globex/copied.yaml", COPIED)?;
        self.argo.refresh(OTHER)?;
        self.argo.says(OTHER, "shares an object", |said| said.status.contains("hared resource found"))?;
        let taken = generation(&self.proxy.get(LIMIT)?) - copied;
        round.at_most("writes of a limit whose manifest it copied", taken as f64, 0.0);
        task.done("stopped nobody else");
        Ok(())
    }

    /// What only the operator can see, and pruning it.
    fn degraded(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("a key that cannot be", "Degraded with the reason, then pruned");
        self.git.write("initech/taken.yaml", TAKEN)?;
        self.argo.refresh(CUSTOMER)?;
        let degraded = |said: &Said| said.health == "Degraded" && said.status.contains("SecretNotOurs");
        self.argo.says(CUSTOMER, "is Degraded for SecretNotOurs", degraded)?;
        self.git.edit(LIMIT_FILE, "max: 20", "max: 10")?;
        self.argo.refresh(CUSTOMER)?;
        round.at_most("limits that it stops", f64::from(!self.limited_to(10)?), 0.0);
        let pruned = self.git.remove("initech/taken.yaml")?;
        self.argo.judged(CUSTOMER, &pruned, "Healthy")?;
        let left = self.objects()?.keys().filter(|name| name.contains("taken")).count();
        round.at_most("objects that are left when it is pruned", left as f64, 0.0);
        task.done("Degraded, then pruned");
        Ok(())
    }

    /// A tenant that the operator is told to leave alone, by Git, and not any longer.
    fn on_hold(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("on hold", "meterplane.io/reconcile: paused, in Git");
        let held = self.git.edit(TENANT_FILE, FREE, HELD)?;
        self.argo.judged(CUSTOMER, &held, "Suspended")?;
        self.git.edit(LIMIT_FILE, "max: 10", "max: 5")?;
        self.argo.refresh(CUSTOMER)?;
        round.at_most("limits that it stops", f64::from(!self.limited_to(5)?), 0.0);
        let free = self.git.edit(TENANT_FILE, HELD, FREE)?;
        self.argo.judged(CUSTOMER, &free, "Healthy")?;
        task.done("Suspended, then Healthy");
        Ok(())
    }

    /// What is missing from Git deletes no customer: neither its file nor its whole folder.
    fn lost(&self, round: &mut Round) -> Result<()> {
        let task = self.job.progress.task("lost", "a customer's file, another customer's folder");
        let file = self.git.read(TENANT_FILE)?;
        self.git.remove(TENANT_FILE)?;
        self.argo.refresh(CUSTOMER)?;
        self.argo.says(CUSTOMER, "keeps what Git does not have", |said| {
            said.sync == "OutOfSync" && said.status.contains("ignored (no prune)")
        })?;
        let back = self.git.write(TENANT_FILE, &file)?;
        round.at_most("its file: Tenants and Namespaces that go", self.going("initech") as f64, 0.0);
        self.argo.judged(CUSTOMER, &back, "Healthy")?;
        self.git.remove("globex")?;
        self.argo.refresh_set()?;
        self.argo.gone(OTHER)?;
        round.at_most("its folder: Tenants and Namespaces that go", self.going("globex") as f64, 0.0);
        task.done("both customers are there");
        Ok(())
    }

    /// Of a customer's Tenant and Namespace, those that are gone or going.
    fn going(&self, name: &str) -> usize {
        let goes = |path: &&str| {
            let object = self.proxy.get(&format!("{path}/{name}"));
            !object.is_ok_and(|object| object["metadata"]["deletionTimestamp"].is_null())
        };
        ["/apis/meterplane.io/v1alpha1/tenants", "/api/v1/namespaces"].into_iter().filter(goes).count()
    }

    /// Whether the limit comes to be this and is in force, in time.
    fn limited_to(&self, max: u64) -> Result<bool> {
        let seen = self.job.cancel.until(WITHIN, Duration::from_millis(100), || {
            let limit = self.proxy.get(LIMIT)?;
            Ok((limit["spec"]["quota"]["max"] == json!(max) && in_force(&limit)).then_some(()))
        })?;
        Ok(seen.is_some())
    }

    fn generations(&self) -> Result<BTreeMap<String, i64>> {
        Ok(self.objects()?.iter().map(|(name, object)| (name.clone(), generation(object))).collect())
    }

    /// Objects of the example, by kind and name.
    fn objects(&self) -> Result<BTreeMap<String, Value>> {
        let mut found = BTreeMap::new();
        for kind in KINDS {
            let list = self.proxy.get(kind)?;
            for item in list["items"].as_array().into_iter().flatten() {
                let meta = &item["metadata"];
                if meta["namespace"] == "initech" || meta["name"] == "initech" || meta["name"] == "gitops" {
                    found.insert(
                        format!("{kind}/{}", meta["name"].as_str().unwrap_or_default()),
                        item.clone(),
                    );
                }
            }
        }
        if found.is_empty() {
            return Err(Error::Format { what: "the example".into(), detail: "none of it is there".into() });
        }
        Ok(found)
    }
}

/// Whether nothing was synced meanwhile, and all is well.
fn is_same(now: &Said, before: &Said) -> bool {
    // Beginnings are told in whole seconds, and failed syncs are not counted: both together miss none.
    let is_another = now.began != before.began || now.synced != before.synced;
    now.sync == "Synced" && now.health == "Healthy" && !is_another
}

fn in_force(limit: &Value) -> bool {
    limit["status"]["observedGeneration"] == limit["metadata"]["generation"] && is(limit, "Enforced")
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// Objects that are another, came or went.
fn changes(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> usize {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).count();
    gone + after.iter().filter(|(name, generation)| before.get(*name) != Some(generation)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_changed_came_or_went_is_a_change() {
        let of = |rows: &[(&str, i64)]| rows.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let before = of(&[("a", 1), ("b", 1)]);
        assert_eq!(changes(&before, &before), 0);
        assert_eq!(changes(&before, &of(&[("a", 2), ("c", 1)])), 3);
    }

    #[test]
    fn a_limit_is_in_force_when_its_newest_spec_is() {
        let limit = |observed: i64, enforced: &str| {
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed,
                "conditions": [{"type": "Enforced", "status": enforced}]}})
        };
        assert!(in_force(&limit(2, "True")));
        assert!(!in_force(&limit(1, "True")) && !in_force(&limit(2, "False")));
    }
}
