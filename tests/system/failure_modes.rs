//! What limits do while their ledger does not answer and the lane does: the pods' NATS user loses its rights on the ledger's buckets.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{Answer, Call, TestTenant, World, eventually, within};

pub const TESTS: &[crate::Test] =
    &[("a_silent_ledger_is_answered_as_each_limit_says", |world| silent(world))];

const RULES: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: closed, namespace: NAME}
spec: {per: Tenant, match: {features: [closed]}, measure: {type: Sum, field: units}, quota: {max: 1000, period: Day}, failureMode: Closed}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: lease, namespace: NAME}
spec: {per: Tenant, match: {features: [lease]}, measure: {type: Sum, field: units}, quota: {max: 1000, period: Day}, failureMode: LastLease}
---
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: open, namespace: NAME}
spec: {per: Tenant, match: {features: [open]}, measure: {type: Sum, field: units}, quota: {max: 1000, period: Day}, mode: Warn, failureMode: Open}
";

/// Posts events with ids of their own and keeps the sum of what was accepted.
struct Poster<'a> {
    world: &'a World,
    tenant: TestTenant,
    posted: u64,
    accepted: [u64; 3],
}

const FEATURES: [&str; 3] = ["closed", "lease", "open"];

impl Poster<'_> {
    fn check(&self) -> Answer {
        let call = Call::post(self.world.events_url(0).replace("/events", "/check"));
        let event = json!({"id": "check", "type": "closed", "data": {"units": 1}}).to_string();
        call.key(&self.tenant.ingest_key).body("application/json", event).send()
    }

    fn post(&mut self, pod: usize, feature: &str, n: u64) -> Answer {
        self.posted += 1;
        let event: Value = json!({"id": self.posted.to_string(), "type": feature, "data": {"units": n}});
        let answer = self.tenant.post(self.world, pod, &event);
        if answer.status == 202 {
            let at = FEATURES.iter().position(|known| *known == feature).unwrap();
            self.accepted[at] += n;
        }
        answer
    }
}

fn silent(world: &World) {
    let tenant = world.tenant("silent", RULES);
    let mut poster = Poster { world, tenant, posted: 0, accepted: [0; 3] };
    // The second grant is for two seconds at the rate of the first: something of it is left in the pod.
    for feature in FEATURES {
        for _ in 0..2 {
            assert_eq!(poster.post(0, feature, 20).status, 202, "{feature}");
        }
    }
    let withdrawn = world.platform.withdraw("ingest", "ledger-day-").unwrap();
    within(Duration::from_secs(60), "the ledger is silent", || {
        // A check asks the ledger every time, and takes nothing.
        let answer = poster.check();
        (answer.status == 503).then_some(()).ok_or(answer.body)
    });
    // More than the pod holds: it must ask, and there is no answer.
    assert_eq!(poster.post(0, "closed", 300).status, 503);
    assert_eq!(poster.post(0, "lease", 500).status, 503, "more than was leased");
    for n in 0..5 {
        let problem = poster.post(0, "closed", 1).problem(503);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("the quota ledger is not available"), "{detail}");
        let leased = poster.post(0, "lease", 1);
        assert_eq!(leased.status, 202, "{n}: {}", leased.body);
        assert_eq!(poster.post(0, "open", 400).status, 202, "{n}: beyond its limit, too");
    }
    let mut leased = 5;
    while poster.post(0, "lease", 1).status == 202 {
        leased += 1;
        assert!(leased <= 960, "more than there is");
    }
    assert_eq!(poster.post(0, "lease", 1).status, 503, "the lease is spent, and stays so");
    withdrawn.give_back().unwrap();
    for pod in 0..2 {
        for feature in FEATURES {
            within(Duration::from_secs(60), "the ledger answers again", || {
                let answer = poster.post(pod, feature, 1);
                (answer.status == 202).then_some(()).ok_or(format!("{feature}: {}", answer.body))
            });
        }
    }
    // Neither one more nor one less than the limit, whatever was asked meanwhile.
    for (at, feature) in FEATURES.into_iter().enumerate().take(2) {
        eventually(&format!("{feature} is filled"), || {
            let last = poster.post(poster.posted as usize, feature, 10);
            let last =
                if last.status == 429 { poster.post(poster.posted as usize, feature, 1) } else { last };
            (poster.accepted[at] == 1_000)
                .then_some(())
                .ok_or_else(|| format!("{}: {}", poster.accepted[at], last.body))
        });
        assert_eq!(poster.post(0, feature, 1).status, 429);
    }
    let sql = "SELECT sum(JSONExtractUInt(data, 'units')) FROM tenant_silent.events_raw WHERE feature = ";
    for (feature, accepted) in FEATURES.into_iter().zip(poster.accepted) {
        eventually(&format!("all of {feature} are stored"), || {
            let stored = world.clickhouse(&format!("{sql}'{feature}'"))[0].clone();
            (stored == accepted.to_string()).then_some(()).ok_or(format!("{stored} of {accepted}"))
        });
    }
}
