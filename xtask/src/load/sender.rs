//! Posts batches to the ingest pods until there is an answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Agent;

use super::Batch;
use crate::{Cancel, Error, Result};

/// Longest wait for one answer. Ingest itself gives up earlier and says 503.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);
/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause before the second attempt; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between attempts of our own choosing.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest `Retry-After` that is waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Reasons of rejected events that are kept from one answer.
const REASONS_MAX: usize = 3;

/// Sends batches to the ingest pods in turn. One `Sender` may be used by many threads.
#[derive(Debug)]
pub struct Sender {
    agent: Agent,
    urls: Vec<String>,
    turn: AtomicUsize,
    patience: Duration,
    cancel: Cancel,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that are kept: the pod answered 202 for them.
    pub accepted: u64,
    /// Repeats within the batch.
    pub duplicates: u64,
    /// Events that a limit refused.
    pub limited: u64,
    /// Events that are wrong.
    pub rejected: u64,
    /// Why some of them were rejected, for people.
    pub reasons: Vec<String>,
    /// How long the request that was answered took.
    pub latency: Duration,
    /// Attempts before that one.
    pub retries: u32,
}

impl Sender {
    /// For these base URLs (`http://127.0.0.1:port`). A batch is tried for `patience`.
    pub fn new(endpoints: &[String], patience: Duration, cancel: &Cancel) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .max_idle_connections(64)
            .max_idle_connections_per_host(32)
            .proxy(None)
            .build();
        Self {
            agent: config.into(),
            urls: endpoints.iter().map(|base| format!("{base}/v1/usage/events")).collect(),
            turn: AtomicUsize::new(0),
            patience,
            cancel: cancel.clone(),
        }
    }

    /// Posts a batch with a tenant's API key. What was not acknowledged is sent again, with the same ids, to the next pod, so
    /// that it is kept once however often it was sent.
    ///
    /// # Errors
    /// [`Error::Answer`] for a request that no retry mends, or the last failure when no pod answered in time;
    /// [`Error::Interrupted`].
    pub fn post(&self, key: &str, batch: Batch) -> Result<Outcome> {
        let (began, events, body) = (Instant::now(), batch.events(), batch.into_body());
        let mut own_pause = PAUSE_FIRST;
        for retries in 0.. {
            let url = &self.urls[self.turn.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
            let sent = Instant::now();
            let (failure, pause) = match self.attempt(url, key, &body) {
                Ok(answer) => match answer.meaning(events) {
                    Meaning::Settled(outcome) => {
                        return Ok(Outcome { latency: sent.elapsed(), retries, ..outcome });
                    }
                    Meaning::Hopeless => return Err(answer.into_error(url)),
                    Meaning::Again(pause) => (answer.into_error(url), pause),
                },
                Err(source) => (Error::Http { what: format!("POST {url}"), source: Box::new(source) }, None),
            };
            if began.elapsed() >= self.patience {
                return Err(failure);
            }
            self.cancel.pause(pause.unwrap_or(own_pause))?;
            own_pause = (own_pause * 2).min(PAUSE_MAX);
        }
        Err(Error::Interrupted)
    }

    fn attempt(&self, url: &str, key: &str, body: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(url).header("content-type", "application/json");
        let mut answer = request.header("authorization", format!("Bearer {key}")).send(body)?;
        let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer {
            status: answer.status().as_u16(),
            retry_after: header.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
            body: answer.body_mut().read_to_string()?,
        })
    }
}

struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: String,
}

/// What an answer asks of the client.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Nothing more: each event has its verdict.
    Settled(Outcome),
    /// The same again, after this pause.
    Again(Option<Duration>),
    /// To mend the request.
    Hopeless,
}

/// The parts of an answer of ingest that count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Verdicts {
    accepted: u64,
    duplicates: u64,
    rejected: Vec<Rejected>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rejected {
    code: String,
    detail: String,
    limit: Option<serde_json::Value>,
}

impl Answer {
    fn meaning(&self, events: u64) -> Meaning {
        match self.status {
            200..=299 | 422 | 429 => self.verdicts(events).map_or(Meaning::Again(None), Meaning::Settled),
            408 | 500.. => Meaning::Again(self.retry_after),
            _ => Meaning::Hopeless,
        }
    }

    /// `None` when the answer does not speak of every event: then nothing is known and the batch goes out again.
    fn verdicts(&self, events: u64) -> Option<Outcome> {
        let verdicts: Verdicts = serde_json::from_str(&self.body).ok()?;
        let (limited, rejected): (Vec<_>, Vec<_>) =
            verdicts.rejected.iter().partition(|item| item.limit.is_some());
        let reason = |item: &&Rejected| format!("{}: {}", item.code, item.detail);
        let mut outcome = Outcome {
            accepted: verdicts.accepted,
            duplicates: verdicts.duplicates,
            limited: limited.len() as u64,
            rejected: rejected.len() as u64,
            reasons: rejected.iter().take(REASONS_MAX).map(reason).collect(),
            ..Outcome::default()
        };
        if self.status == 429 && verdicts.rejected.is_empty() {
            outcome.limited = events;
        }
        let told = outcome.accepted + outcome.duplicates + outcome.limited + outcome.rejected;
        (told == events).then_some(outcome)
    }

    fn into_error(self, url: &str) -> Error {
        let detail = self.body.lines().next().unwrap_or_default().chars().take(300).collect();
        Error::Answer { what: format!("POST {url}"), status: self.status, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, body: &str) -> Meaning {
        Answer { status, retry_after: Some(Duration::from_secs(3)), body: body.to_owned() }.meaning(3)
    }

    #[test]
    fn every_event_of_a_mixed_answer_is_counted_once() {
        let body = r#"{"accepted":1,"duplicates":0,"rejected":[
            {"index":1,"code":"limited","detail":"used up","limit":"events","retryAfterMs":10},
            {"index":2,"code":"bad_time","detail":"too old","limit":null}]}"#;
        let Meaning::Settled(outcome) = meaning(202, body) else { panic!("settled") };
        assert_eq!((outcome.accepted, outcome.limited, outcome.rejected), (1, 1, 1));
        assert_eq!(outcome.reasons, ["bad_time: too old"]);
    }

    #[test]
    fn a_limit_may_refuse_the_whole_request() {
        let Meaning::Settled(outcome) = meaning(429, r#"{"title":"Plan Limit Exceeded"}"#) else {
            panic!("settled")
        };
        assert_eq!((outcome.accepted, outcome.limited), (0, 3));
    }

    #[test]
    fn what_is_not_answered_in_full_goes_out_again() {
        assert_eq!(meaning(202, r#"{"accepted":2,"duplicates":0,"rejected":[]}"#), Meaning::Again(None));
        assert_eq!(meaning(202, "cut o"), Meaning::Again(None));
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(meaning(status, ""), Meaning::Again(Some(Duration::from_secs(3))), "{status}");
        }
        for status in [400, 401, 403, 404, 413, 415] {
            assert_eq!(meaning(status, ""), Meaning::Hopeless, "{status}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_tried_until_patience_ends() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoints = [format!("http://127.0.0.1:{free}")];
        let sender = Sender::new(&endpoints, Duration::from_millis(60), &Cancel::default());
        let mut batch = Batch::default();
        batch.push("{}");
        assert!(matches!(sender.post("k", batch), Err(Error::Http { .. })));
    }
}
