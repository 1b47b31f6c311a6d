//! A pod whose wall clock is set wrong while it runs: it stops answering within moments, and no window counts what is not its own.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use system_tests::{Answer, Call, TestTenant, World, event, eventually, within};

pub const TESTS: &[crate::Test] = &[
    ("a_pod_whose_clock_is_off_is_not_ready", |world| not_ready(world)),
    ("a_clock_stepped_by_an_hour_doubles_and_resets_no_window", |world| stepped(world)),
];

/// The pod whose clock can be stepped: see [`World::start`].
const POD: &str = "ingest-3";
const HOUR_MS: i64 = 3_600_000;
const MAX: u64 = 300;

const HOURLY: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: hourly, namespace: NAME}
spec: {per: Tenant, quota: {max: 300, period: Hour}}
";

/// A third pod with a clock of its own; it ends with the test.
struct Stepped<'a> {
    world: &'a World,
    step: PathBuf,
    url: String,
    admin: String,
}

impl<'a> Stepped<'a> {
    fn start(world: &'a World) -> Self {
        let (library, step) = (world.step_file("so"), world.step_file("ms"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clock/step.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.unwrap().success(), "cc does not compile {source}");
        let url = |port: &str| world.platform.url(port).unwrap();
        let pod = Self { world, step, url: url(POD), admin: url("ingest-3-admin") };
        OpenOptions::new().create(true).truncate(true).write(true).open(&pod.step).unwrap();
        pod.step_to(0);
        world.platform.start_part(POD).unwrap();
        pod
    }

    /// Sets how far its clock is ahead.
    fn step_to(&self, ms: i64) {
        let file = OpenOptions::new().write(true).open(&self.step).unwrap();
        file.write_all_at(&ms.to_ne_bytes(), 0).unwrap();
    }

    fn readiness(&self) -> Answer {
        Call::get(format!("{}/readyz", self.admin)).send()
    }

    fn is_ready(&self) {
        eventually("the pod is ready", || {
            let answer = self.readiness();
            (answer.status == 200).then_some(()).ok_or(answer.body)
        });
    }

    fn post(&self, tenant: &TestTenant, id: &str) -> Answer {
        let url = format!("{}/v1/usage/events", self.url);
        let event = event(id, "login", "ann").to_string();
        Call::post(url).key(&tenant.ingest_key).body("application/json", event).send()
    }
}

impl Drop for Stepped<'_> {
    fn drop(&mut self) {
        drop(self.world.platform.stop_part(POD));
    }
}

fn live_pods(world: &World) -> String {
    let path = "--output=jsonpath={.status.pods}";
    world.kubectl(&["get", "dataplanes.meterplane.io", "default", path]).trim().to_owned()
}

fn not_ready(world: &World) {
    let tenant = world.tenant("clockoff", HOURLY);
    let pod = Stepped::start(world);
    pod.is_ready();
    assert_eq!(pod.post(&tenant, "right").status, 202);
    eventually("the operator counts it", || {
        let pods = live_pods(world);
        (pods == "3").then_some(()).ok_or(pods)
    });
    for (n, ms) in [1_500, -1_500].into_iter().enumerate() {
        pod.step_to(ms);
        let answer = eventually("the pod is not ready", || {
            let answer = pod.readiness();
            (answer.status == 503).then_some(answer).ok_or_else(String::new)
        });
        assert_eq!(answer.body, "the clock of this pod is off by more than a second");
        let problem = pod.post(&tenant, &format!("off{n}")).problem(503);
        assert_eq!(problem["detail"], answer.body);
        // It does not say that it enforces anything, so nobody waits for it.
        eventually("the operator does not count it any more", || {
            let pods = live_pods(world);
            (pods == "2").then_some(()).ok_or(pods)
        });
        pod.step_to(0);
        pod.is_ready();
        assert_eq!(pod.post(&tenant, &format!("right{n}")).status, 202);
    }
    tenant.shows(world, 3);
}

fn stepped(world: &World) {
    let now_ms = || world.clickhouse("SELECT toUnixTimestamp64Milli(now64(3))")[0].parse::<i64>().unwrap();
    within(Duration::from_secs(90), "an hour that lasts for the test", || {
        let left_s = (HOUR_MS - now_ms().rem_euclid(HOUR_MS)) / 1_000;
        (left_s > 75).then_some(()).ok_or(format!("{left_s} s are left of this one"))
    });
    let this_hour = now_ms().div_euclid(HOUR_MS);
    let tenant = world.tenant("clockstep", HOURLY);
    let pod = Stepped::start(world);
    let mut accepted = 0;
    let mut post = |what: &str| {
        let answer = pod.post(&tenant, &format!("{what}-{accepted}"));
        accepted += u64::from(answer.status == 202);
        answer.status
    };
    for (cycle, step) in [HOUR_MS, -HOUR_MS, HOUR_MS, -HOUR_MS, HOUR_MS, -HOUR_MS].into_iter().enumerate() {
        pod.is_ready();
        for _ in 0..10 {
            assert_eq!(post("right"), 202);
        }
        // Until the next comparison with the server's clock, a second later at most, the pod believes what it reads.
        pod.step_to(step);
        eventually(&format!("step {cycle} is noticed"), || {
            let status = post("stepped");
            (status == 503).then_some(()).ok_or(format!("it answers {status}"))
        });
        pod.step_to(0);
    }
    pod.is_ready();
    // The true hour goes on where it was, on every pod, to its end.
    for n in 0..2 * MAX {
        let answer = tenant.post(world, n as usize, &event(&format!("rest-{n}"), "login", "ann"));
        accepted += u64::from(answer.status == 202);
    }
    for n in 0..2 {
        assert_eq!(tenant.post(world, n, &event("late", "login", "ann")).status, 429, "pod {n}");
    }
    assert_eq!(pod.post(&tenant, "late").status, 429);
    eventually("all are stored", || {
        let stored = world.clickhouse("SELECT count() FROM tenant_clockstep.events_raw")[0].clone();
        (stored == accepted.to_string()).then_some(()).ok_or(format!("{stored} of {accepted}"))
    });
    let hours = world.clickhouse(&format!(
        "SELECT intDiv(toUnixTimestamp64Milli(received), {HOUR_MS}) - {this_hour} AS hour, count(), uniqExact(mapKeys(charges)) \
         FROM tenant_clockstep.events_raw GROUP BY hour ORDER BY hour"
    ));
    let hours: Vec<Vec<i64>> =
        hours.iter().map(|line| line.split('\t').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!(
        hours.iter().map(|row| row[0]).collect::<Vec<_>>(),
        [-1, 0, 1],
        "every step was seen: {hours:?}"
    );
    for row in &hours {
        assert!(row[1] as u64 <= MAX && row[2] == 1, "more than {MAX} in an hour, or two records: {hours:?}");
    }
    assert!(hours[1][1] >= 60, "what was admitted in time: {hours:?}");
}
