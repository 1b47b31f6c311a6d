//! Reads what the dashboard shows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::http::Http;
use crate::{Cancel, Error, Result};

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a console that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Gauge of the sink: messages of a lane that are not stored yet.
const LAG: &str = "mp_sink_lag_messages";
/// Features a page.
const PAGE: u32 = 1_000;

/// Event times, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First moment.
    pub from: Timestamp,
    /// First moment after it.
    pub to: Timestamp,
}

/// A tenant's usage, or that of one feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Stored events.
    pub events: u64,
    /// Distinct users of them.
    pub users: u64,
}

/// The dashboard API, and if need be the sink's metrics.
#[derive(Debug, Clone)]
pub struct Reader {
    http: Http,
    base: String,
    sink_metrics: Option<String>,
    cancel: Cancel,
}

impl Reader {
    /// Of the console at this base URL.
    pub fn new(console: &str, cancel: &Cancel) -> Self {
        let base = format!("{console}/v1/dashboard");
        Self { http: Http::new(ANSWER_WITHIN), base, sink_metrics: None, cancel: cancel.clone() }
    }

    /// Knows the sink as well, by the base URL of its metrics.
    pub fn with_sink(self, sink_admin: &str) -> Self {
        Self { sink_metrics: Some(format!("{sink_admin}/metrics")), ..self }
    }

    /// Whether [`Reader::lag`] can answer.
    pub fn knows_sink(&self) -> bool {
        self.sink_metrics.is_some()
    }

    /// Messages of these lanes that are not stored, by the sink's own word, which may be some seconds old. `None` when it does
    /// not answer.
    pub fn lag<'a>(&self, lanes: impl Iterator<Item = &'a str>) -> Option<u64> {
        let metrics = self.http.get(self.sink_metrics.as_ref()?, &[]).ok().filter(|answer| answer.ok())?;
        Some(lanes.filter_map(|lane| lag_in(&metrics.body, lane)).sum())
    }

    /// As [`Reader::summary`], asked once.
    ///
    /// # Errors
    /// What the console answered, or why it did not.
    pub fn glance(&self, key: &str, range: Range) -> Result<Usage> {
        let answer = self.ask(&self.url("summary", range), key)?;
        usage(&answer).ok_or_else(|| unread("summary", &answer))
    }

    /// Events and users of a key's tenant.
    ///
    /// # Errors
    /// What the console answered at last, after a minute of attempts.
    pub fn summary(&self, key: &str, range: Range) -> Result<Usage> {
        let answer = self.get(&self.url("summary", range), key)?;
        usage(&answer).ok_or_else(|| unread("summary", &answer))
    }

    /// Events and users by feature.
    ///
    /// # Errors
    /// As [`Reader::summary`].
    pub fn features(&self, key: &str, range: Range) -> Result<BTreeMap<String, Usage>> {
        let mut features = BTreeMap::new();
        let first = format!("{}&limit={PAGE}", self.url("usage/by-feature", range));
        let mut url = first.clone();
        loop {
            let answer = self.get(&url, key)?;
            for feature in answer["data"].as_array().into_iter().flatten() {
                let name = feature["feature"].as_str().unwrap_or_default();
                features
                    .insert(name.to_owned(), usage(feature).ok_or_else(|| unread("by-feature", feature))?);
            }
            match answer["page"]["nextCursor"].as_str() {
                Some(cursor) => url = format!("{first}&cursor={cursor}"),
                None => return Ok(features),
            }
        }
    }

    /// Events of all days of the trend.
    ///
    /// # Errors
    /// As [`Reader::summary`].
    pub fn trend(&self, key: &str, range: Range) -> Result<u64> {
        let answer = self.get(&format!("{}&interval=day", self.url("usage/trends", range)), key)?;
        let days = answer["data"].as_array().ok_or_else(|| unread("trends", &answer))?;
        Ok(days.iter().filter_map(|day| day["events"].as_u64()).sum())
    }

    fn url(&self, route: &str, range: Range) -> String {
        format!("{}/{route}?from={}&to={}", self.base, range.from, range.to)
    }

    /// Asks until there is an answer: the console may just be starting.
    fn get(&self, url: &str, key: &str) -> Result<Value> {
        let mut failure = Error::Interrupted;
        let answer = self.cancel.until(PATIENCE, ASK_EVERY, || match self.ask(url, key) {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ (Error::Http { .. } | Error::Answer { status: 500.., .. })) => {
                failure = error;
                Ok(None)
            }
            Err(error) => Err(error),
        })?;
        answer.ok_or(failure)
    }

    fn ask(&self, url: &str, key: &str) -> Result<Value> {
        let answer = self.http.get(url, &[("authorization", &format!("Bearer {key}"))])?;
        answer.accepted(&format!("GET {url}")).map(|answer| answer.json())
    }
}

fn usage(value: &Value) -> Option<Usage> {
    Some(Usage { events: value["events"].as_u64()?, users: value["activeUsers"].as_u64()? })
}

fn unread(what: &str, answer: &Value) -> Error {
    let detail = answer.to_string().chars().take(200).collect();
    Error::Format { what: format!("the console's {what}"), detail }
}

fn lag_in(metrics: &str, lane: &str) -> Option<u64> {
    let label = format!("{{lane=\"{lane}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(LAG)?.strip_prefix(&label))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lanes_lag_is_its_own_gauge() {
        let metrics = "# TYPE mp_sink_lag_messages gauge\nmp_sink_lag_messages{lane=\"a\"} 0\nmp_sink_lag_messages{lane=\"b\"} 2\n";
        assert_eq!(["a", "b", "c"].map(|lane| lag_in(metrics, lane)), [Some(0), Some(2), None]);
    }
}
