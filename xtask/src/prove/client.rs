//! A client that does what the documents ask of it: no answer means the same events, with the same ids, to another pod.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Agent;

use crate::Cancel;
use crate::simulate::rng::Rng;

/// Longest wait for one answer: a frozen pod must not hold a client for long.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Pause after an attempt without an answer.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a request is tried.
const PATIENCE: Duration = Duration::from_secs(90);

/// One of the clients.
pub struct Client {
    agent: Agent,
    urls: Vec<String>,
    bearer: String,
    cancel: Cancel,
}

/// An answer that settles a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settled {
    /// Events that are kept.
    pub accepted: u64,
    /// Events that are not.
    pub rejected: Vec<Rejected>,
    /// Attempts before the one that was answered.
    #[serde(skip)]
    pub retries: u32,
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It speaks of the events.
    Settled(Settled),
    /// Not now, or not at all.
    Refused {
        /// HTTP status.
        status: u16,
        /// Whether it says when to come again.
        retry_after: bool,
    },
    /// Nothing came, or something that cannot be read.
    Silent,
}

/// One refused event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rejected {
    /// Its place in the request.
    pub index: usize,
    /// The limit that refused it.
    pub limit: Option<String>,
}

impl Client {
    /// For these pods.
    pub fn new(pods: &[String], key: &str, cancel: &Cancel) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .proxy(None)
            .build();
        let urls = pods.iter().map(|base| format!("{base}/v1/usage/events")).collect();
        Self { agent: config.into(), urls, bearer: format!("Bearer {key}"), cancel: cancel.clone() }
    }

    /// Sends a request to `pod`, then to any, until one answers. `None` when none did, or the proof was interrupted.
    pub fn settle(&self, body: &str, pod: usize, rng: &mut Rng) -> Option<Settled> {
        let (began, mut pod) = (Instant::now(), pod);
        for retries in 0.. {
            if let Some(settled) = self.attempt(pod, body) {
                return Some(Settled { retries, ..settled });
            }
            if began.elapsed() > PATIENCE || self.cancel.pause(PAUSE).is_err() {
                return None;
            }
            pod = rng.below(self.urls.len());
        }
        None
    }

    /// Sends a request once; `None` unless the answer speaks of its events.
    pub fn attempt(&self, pod: usize, body: &str) -> Option<Settled> {
        match self.send(pod, body) {
            Answer::Settled(settled) => Some(settled),
            Answer::Refused { .. } | Answer::Silent => None,
        }
    }

    /// Sends a request once.
    pub fn send(&self, pod: usize, body: &str) -> Answer {
        let request = self.agent.post(&self.urls[pod]).header("content-type", "application/json");
        let Ok(mut answer) = request.header("authorization", &self.bearer).send(body) else {
            return Answer::Silent;
        };
        let status = answer.status().as_u16();
        if !matches!(status, 200..=299 | 429) {
            let retry_after = answer.headers().contains_key("retry-after");
            return Answer::Refused { status, retry_after };
        }
        let body = answer.body_mut().read_to_string().ok();
        let settled = body.and_then(|body| serde_json::from_str(&body).ok());
        settled.map_or(Answer::Silent, Answer::Settled)
    }
}
