//! A pod that stood still for longer than the others wait for it admits nothing that it reads after it resumed, until it has caught up.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::enforcement::{own, patient, standing};
use super::pods;
use super::proxy::Proxy;
use super::report::Round;
use super::world::World;
use super::{Job, enforcement};
use crate::simulate::rng::Rng;
use crate::{Error, Result};

/// The tenant that it is about.
const TENANT: usize = 0;
/// The pod that stands still.
const POD: usize = 2;
/// Requests that are sent to the frozen pod, each on a connection of its own.
const REQUESTS: usize = 20;
/// How long it stands still: longer than the operator counts it.
const FROZEN: Duration = Duration::from_secs(9);

/// Freezes a pod, lowers a limit to less than what is used, waits until that is enforced without the pod, sends requests to the
/// frozen pod, resumes it and looks at every answer.
///
/// # Errors
/// When it could not be tried.
pub fn prove(job: &Job<'_>, world: &World, proxy: &Proxy, round: &mut Round) -> Result<()> {
    let task = job.progress.task("frozen pod", "stands still for 9 s while a limit is lowered");
    let key = world.key(&enforcement::name(TENANT))?;
    let urls = world.urls()?;
    let client = Client::new(&urls, &key, job.cancel);
    let mut rng = Rng::new(1);
    // Units in the slice of the pod, which it could spend if it did not know better.
    for n in 0..40 {
        let body = format!(r#"[{{"id":"warm-{n}","type":"login","subject":"ann"}}]"#);
        client.settle(&body, POD, &mut rng);
    }
    let part = pods::name(POD);
    world.platform.pause(&part)?;
    let frozen = Instant::now();
    proxy.patch(&own(TENANT), &json!({"spec": {"quota": {"max": 1, "period": "Day"}}}))?;
    let (http, url, bearer) = (patient(), format!("{}/v1/usage/events", urls[POD]), format!("Bearer {key}"));
    let answers = std::thread::scope(|scope| {
        let requests: Vec<_> = (0..REQUESTS)
            .map(|n| {
                let (http, url, bearer) = (http.clone(), &url, &bearer);
                scope.spawn(move || {
                    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                    let body = format!(r#"[{{"id":"frozen-{n}","type":"login","subject":"ann"}}]"#);
                    http.send("POST", url, &headers, body).map(|answer| (answer.status, Instant::now()))
                })
            })
            .collect();
        drop(job.cancel.pause(FROZEN.saturating_sub(frozen.elapsed())));
        let enforced = standing(proxy, &own(TENANT));
        let resumed = Instant::now();
        let woken = world.platform.resume(&part);
        let answers: Vec<_> = requests.into_iter().filter_map(|request| request.join().ok()?.ok()).collect();
        woken.and(enforced).map(|enforced| (enforced, resumed, answers))
    });
    let ((status, reason), resumed, answers) = answers?;
    let count = |wanted: fn(u16) -> bool| answers.iter().filter(|(status, _)| wanted(*status)).count();
    let admitted = count(|status| status == 202);
    task.done(&format!("{} answers, {admitted} of them 202", answers.len()));
    round.number("frozen: Enforced without it", format!("{status} {reason}"));
    round.number("frozen: requests that it read after it resumed", answers.len());
    round.number("frozen: answered 503", count(|status| status == 503));
    round.number("frozen: answered 429", count(|status| status == 429));
    let first = answers.iter().map(|(_, at)| at.saturating_duration_since(resumed).as_millis()).min();
    round.number("frozen: first answer after it resumed, ms", first.unwrap_or_default() as u64);
    round.at_most("frozen: requests without an answer", (REQUESTS - answers.len()) as f64, 0.0);
    round.at_most("frozen: requests read after it resumed and admitted", admitted as f64, 0.0);
    let unenforced = f64::from(status != "True");
    round.at_most("frozen: Enforced waits for a pod that is silent for 6 s (1 = yes)", unenforced, 0.0);
    caught_up(job, &client)
}

/// The pod serves again, by the new limit.
fn caught_up(job: &Job<'_>, client: &Client) -> Result<()> {
    let mut n = 0;
    let refused = job.cancel.until(Duration::from_secs(20), Duration::from_millis(100), || {
        n += 1;
        let body = format!(r#"[{{"id":"after-{n}","type":"login","subject":"ann"}}]"#);
        Ok(client.attempt(POD, &body).filter(|settled| settled.accepted == 0))
    })?;
    refused.map(drop).ok_or_else(|| Error::Program {
        program: "the pod that was frozen".into(),
        detail: "it did not catch up within 20 s".into(),
    })
}
