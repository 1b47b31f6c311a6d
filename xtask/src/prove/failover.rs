//! Leaders of ledgers and lanes that are killed and paused, one by one, and how long nobody is answered 202 after that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::{Job, Scale, pods};
use crate::http::Http;
use crate::platform::Platform;
use crate::simulate::rng::Rng;
use crate::{Error, Result};

const NODES: [&str; 3] = ["nats", "nats-2", "nats-3"];
/// How long a cluster may take to be whole again.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// How long a probe waits for a 202.
const PROBE: Duration = Duration::from_secs(60);
/// How long a leader stands still, at least: it goes on after the probe.
const PAUSE: Duration = Duration::from_secs(5);

/// What was done.
#[derive(Debug, Default)]
pub struct Inflicted {
    /// Each fault in words.
    pub faults: Vec<String>,
    /// From each fault to the next 202 of a probe that began after it, milliseconds; `None` when there was none in time.
    pub unavailable_ms: Vec<Option<u64>>,
}

/// Kills and pauses leaders.
///
/// # Errors
/// When a server does not come back.
pub fn inflict(
    platform: &Platform,
    job: &Job<'_>,
    seed: u64,
    urls: &[String],
    key: &str,
) -> Result<Inflicted> {
    let times = if job.args.scale == Scale::Small { 2 } else { 20 };
    let (mut rng, mut done) = (Rng::new(seed ^ 0xfa11), Inflicted::default());
    let http = Http::new(Duration::from_secs(2));
    let client = Client::new(urls, key, job.cancel);
    for n in 0..times {
        await_whole(platform, job, &http)?;
        let stream = if n % 2 == 0 {
            format!("KV_{}", event::names::ledger_bucket("day", rng.below(4) as u8))
        } else {
            "USAGE_proof".to_owned()
        };
        let Some(leader) = leader(platform, &http, &stream) else { continue };
        let began = Instant::now();
        let kills = rng.below(2) == 0;
        let what = if kills { "killed" } else { "paused" };
        if kills {
            platform.kill9(leader)?;
        } else {
            platform.pause(leader)?;
        }
        let unavailable = probe(job, &client, seed, n, began);
        done.faults.push(format!("{what} {leader}, leader of {stream}"));
        done.unavailable_ms.push(unavailable);
        let next =
            unavailable.map_or(format!("no 202 in {PROBE:?}"), |ms| format!("the next 202 after {ms} ms"));
        job.progress.say(&format!("{what} {leader}, leader of {stream}: {next}"));
        if kills {
            platform.start_part(leader)?;
        } else {
            drop(job.cancel.pause(PAUSE.saturating_sub(began.elapsed())));
            platform.resume(leader)?;
        }
        if job.cancel.is_set() {
            return Err(Error::Interrupted);
        }
    }
    await_whole(platform, job, &http)?;
    Ok(done)
}

/// Milliseconds from `began` until a probe is answered 202; `None` when none was in [`PROBE`]. The probe's feature has no limit, so it waits for the lane; every other
/// one is about a user of its own with a limit, so it waits for a ledger.
fn probe(job: &Job<'_>, client: &Client, seed: u64, n: usize, began: Instant) -> Option<u64> {
    let answered = job.cancel.until(PROBE, Duration::from_millis(20), || {
        let at = began.elapsed().as_millis();
        let pod = at as usize % pods::PODS;
        let user = format!("probe{n}-{at}");
        let body = format!(
            r#"[{{"id":"probe-{seed}-{n}-{at}","type":"f58","subject":"{user}","data":{{"value":1}}}},
                {{"id":"free-{seed}-{n}-{at}","type":"free","subject":"{user}","data":{{"value":1}}}}]"#
        );
        Ok(client.attempt(pod, &body).filter(|settled| settled.accepted > 0))
    });
    let answered = matches!(answered, Ok(Some(_)));
    answered.then(|| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn jsz(platform: &Platform, http: &Http, node: &str) -> Option<Value> {
    let url = platform.url(&format!("{node}-monitor")).ok()?;
    let answer = http.get(&format!("{url}/jsz?streams=true&accounts=true&raft=true"), &[]).ok()?;
    answer.ok().then(|| answer.json())
}

/// The server that leads a stream, by the word of any that answers.
fn leader(platform: &Platform, http: &Http, stream: &str) -> Option<&'static str> {
    let name = NODES.iter().find_map(|node| {
        let jsz = jsz(platform, http, node)?;
        let accounts = jsz["account_details"].as_array()?;
        let mut streams = accounts.iter().filter_map(|account| account["stream_detail"].as_array()).flatten();
        let found = streams.find(|detail| detail["name"] == stream)?;
        found["cluster"]["leader"].as_str().map(str::to_owned)
    })?;
    NODES.into_iter().find(|node| *node == name)
}

/// Waits until all servers answer and every stream has a leader with two current followers.
fn await_whole(platform: &Platform, job: &Job<'_>, http: &Http) -> Result<()> {
    let mut broken = String::new();
    let whole = job.cancel.until(WHOLE_WITHIN, Duration::from_millis(200), || {
        let views: Vec<Option<Value>> = NODES.iter().map(|node| jsz(platform, http, node)).collect();
        broken = match views.iter().position(Option::is_none) {
            Some(silent) => format!("{} does not answer", NODES[silent]),
            None => not_whole(&views.into_iter().flatten().collect::<Vec<_>>()).unwrap_or_default(),
        };
        Ok(broken.is_empty().then_some(()))
    })?;
    whole.ok_or_else(|| Error::Program {
        program: "the NATS cluster".into(),
        detail: format!("it was not whole again within {} s: {broken}", WHOLE_WITHIN.as_secs()),
    })
}

/// A stream that lacks a leader or a follower; only a leader knows how far its followers are.
fn not_whole(views: &[Value]) -> Option<String> {
    let (mut all, mut led) = (BTreeSet::new(), BTreeSet::new());
    for (node, view) in NODES.iter().zip(views) {
        let accounts = view["account_details"].as_array().into_iter().flatten();
        for detail in accounts.filter_map(|account| account["stream_detail"].as_array()).flatten() {
            let (name, cluster) = (detail["name"].as_str().unwrap_or_default(), &detail["cluster"]);
            all.insert(name);
            let replicas = cluster["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
            let current = replicas.iter().filter(|r| r["current"] == true && r["offline"] != true).count();
            if cluster["leader"] == **node && current == NODES.len() - 1 {
                led.insert(name);
            }
        }
    }
    if all.is_empty() {
        Some("there is no stream".into())
    } else {
        all.difference(&led).next().map(|name| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stream_without_a_leader_or_a_follower_is_not_whole() {
        let with = |leader: &str, current: bool| {
            let replicas =
                json!([{"name": "nats-2", "current": true}, {"name": "nats-3", "current": current}]);
            let cluster = json!({"leader": leader, "replicas": replicas});
            json!({"account_details": [{"stream_detail": [{"name": "S", "cluster": cluster}]}]})
        };
        let follower = with("nats", false);
        let views = |leader: Value| [leader, follower.clone(), follower.clone()];
        assert_eq!(not_whole(&views(with("nats", true))), None);
        assert_eq!(not_whole(&views(with("nats", false))), Some("S".into()));
        assert_eq!(not_whole(&views(with("", true))), Some("S".into()));
        assert!(not_whole(&[json!({})]).is_some());
    }
}
