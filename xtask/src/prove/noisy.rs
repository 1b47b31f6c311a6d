//! `prove noisy`: one tenant's objects fail, a thousand at once and again and again; the others must not notice.
//!
//! ```text
//! changes of others -> a tenant whose keys can never be made -> changes of others while they are tried again
//! ```

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::enforcement::{self, Latencies};
use super::proxy::Proxy;
use super::report::Round;
use super::world::{Shape, World};
use super::{Job, Scale};
use crate::load::pool::quantile;
use crate::{Error, Result};

/// The tenant whose objects fail, and its namespace.
const NOISY: &str = "noisy";
/// Tenants whose changes are measured.
const OTHERS: usize = 20;
/// Changes at once: people edit, they do not flood.
const AT_ONCE: usize = 4;
/// How many times slower another's change may become.
const TIMES: f64 = 2.0;
/// How long the apiserver may take to follow a policy.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);
const GROUP: &str = "/apis/meterplane.io/v1alpha1";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic";

/// One round.
///
/// # Errors
/// When it could not be tried.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let (failing, changes) = if job.args.scale == Scale::Small { (200, 100) } else { (1_000, 1_000) };
    let world = World::of(job, Shape { pods: 2, ..Shape::default() })?;
    let mut round = Round { seed, ..Round::default() };
    let proxy = Proxy::start(&world, job)?;
    enforcement::load(job, &world, &proxy, OTHERS, &mut round)?;
    let quiet = enforcement::latencies(job, &proxy, OTHERS, changes, AT_ONCE)?;
    forbid_secrets(job, &proxy)?;
    let before = failures(&world)?;
    make_noise(job, &proxy, failing)?;
    let loud = enforcement::latencies(job, &proxy, OTHERS, changes, AT_ONCE)?;
    round.number("failingObjects", failing);
    round.number("failuresMeanwhile", failures(&world)? - before);
    judge(&mut round, quiet, loud, failing - tried(&proxy)?);
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn judge(round: &mut Round, mut quiet: Latencies, mut loud: Latencies, untried: usize) {
    for (which, share) in [("median", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let ms = |times: &mut Vec<Duration>| quantile(times, share).as_secs_f64() * 1_000.0;
        let (before, after) = (ms(&mut quiet.times), ms(&mut loud.times));
        round.number(&format!("{which}: ms without"), before);
        round.number(&format!("{which}: ms beside"), after);
        round.at_most(format!("{which}: times slower beside it"), after / before, TIMES);
    }
    round.number("changes measured", quiet.times.len() + loud.times.len());
    round.at_most("changes that were not enforced in 30 s", (quiet.lost + loud.lost) as f64, 0.0);
    // Without noise nothing was shown.
    round.at_most("failing objects that were not tried", untried as f64, 0.0);
}

/// Keys that say that the kube-apiserver refuses what they need.
fn tried(proxy: &Proxy) -> Result<usize> {
    let keys = proxy.get(&format!("{GROUP}/namespaces/{NOISY}/apikeys"))?;
    let refused = |key: &&Value| {
        let conditions = key["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Ready"
                && condition["status"] != "True"
                && condition["reason"].as_str().is_some_and(|reason| reason.starts_with("Kubernetes"))
        })
    };
    Ok(keys["items"].as_array().into_iter().flatten().filter(refused).count())
}

/// No Secret can be made in the namespace: what needs one fails whenever it is tried.
fn forbid_secrets(job: &Job<'_>, proxy: &Proxy) -> Result<()> {
    let api = "admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "proof-no-secrets"},
        "spec": {"failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NOISY}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]}]},
            "validations": [{"expression": "false", "message": "no secret can be made here"}]}});
    let binding = json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "proof-no-secrets"},
        "spec": {"policyName": "proof-no-secrets", "validationActions": ["Deny"]}});
    proxy.post(&format!("{POLICIES}ies"), &policy)?;
    proxy.post(&format!("{POLICIES}ybindings"), &binding)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NOISY}});
    proxy.post("/api/v1/namespaces", &namespace)?;
    let mut n = 0;
    let refused = job.cancel.until(FOLLOWS_WITHIN, Duration::from_millis(200), || {
        n += 1;
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("probe-{n}")}});
        Ok(proxy.post(&format!("/api/v1/namespaces/{NOISY}/secrets"), &secret).is_err().then_some(()))
    })?;
    refused.ok_or_else(|| Error::Program {
        program: "kube-apiserver".into(),
        detail: "it does not follow a ValidatingAdmissionPolicy".into(),
    })
}

/// A tenant, and its keys that cannot be made.
fn make_noise(job: &Job<'_>, proxy: &Proxy, failing: usize) -> Result<()> {
    let task = job.progress.task("noise", &format!("{failing} keys that cannot be made"));
    let version = "meterplane.io/v1alpha1";
    let tenant = json!({"apiVersion": version, "kind": "Tenant", "metadata": {"name": NOISY},
        "spec": {"displayName": NOISY, "planRef": {"name": "proof"}, "namespaces": [NOISY]}});
    proxy.post(&format!("{GROUP}/tenants"), &tenant)?;
    for n in 0..failing {
        let key: Value = json!({"apiVersion": version, "kind": "ApiKey",
            "metadata": {"name": format!("key{n}"), "namespace": NOISY}, "spec": {"scopes": ["ingest"]}});
        proxy.post(&format!("{GROUP}/namespaces/{NOISY}/apikeys"), &key)?;
    }
    task.done("declared");
    Ok(())
}

/// Reconciles of keys that have failed so far.
fn failures(world: &World) -> Result<f64> {
    let url = format!("{}/metrics", world.platform.url("operator-admin")?);
    let metrics = world.http.get(&url, &[])?.accepted(&url)?.body;
    let of_keys = |line: &&str| {
        line.starts_with("controller_runtime_reconcile_errors_total")
            && line.contains("controller=\"apikey\"")
    };
    Ok(metrics.lines().filter(of_keys).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_tenant_that_is_slowed_or_noise_that_was_none_breaks_the_round() {
        let holds = |quiet: u64, loud: u64, untried: usize| {
            let of = |ms| Latencies { times: vec![Duration::from_millis(ms); 10], lost: 0 };
            let mut round = Round::default();
            judge(&mut round, of(quiet), of(loud), untried);
            round.checks.iter().all(|check| check.holds)
        };
        assert!(holds(200, 390, 0));
        assert!(!holds(200, 410, 0) && !holds(200, 200, 1));
    }
}
