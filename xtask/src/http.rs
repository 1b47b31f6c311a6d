//! Plain HTTP to servers on this machine.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::{Error, Result};

/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 32 * 1024 * 1024;

/// A client that treats every status as an answer and knows no proxy.
#[derive(Debug, Clone)]
pub struct Http(ureq::Agent);

/// A status and a body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
    /// Its `Warning` headers: what the apiserver has to say beside the answer.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The body's first line, cut to what fits a sentence.
    pub fn summary(&self) -> String {
        self.body.lines().next().unwrap_or_default().chars().take(300).collect()
    }

    /// This answer if its status is 2xx.
    ///
    /// # Errors
    /// [`Error::Answer`] otherwise.
    pub fn accepted(self, what: &str) -> Result<Self> {
        if self.ok() {
            return Ok(self);
        }
        Err(Error::Answer { what: what.into(), status: self.status, detail: self.summary() })
    }
}

impl Http {
    /// A client whose requests take at most `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .proxy(None)
            .build();
        Self(config.into())
    }

    /// `GET` with headers.
    ///
    /// # Errors
    /// [`Error::Http`] when there is no answer.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send("GET", url, headers, String::new())
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// [`Error::Http`] when there is no answer.
    pub fn send_json(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send(method, url, &all, body.to_string())
    }

    /// A request.
    ///
    /// # Errors
    /// [`Error::Http`] when there is no answer.
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: String) -> Result<Answer> {
        let failed =
            |source: ureq::Error| Error::Http { what: format!("{method} {url}"), source: Box::new(source) };
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = if body.is_empty() && matches!(method, "GET" | "HEAD" | "DELETE") {
            self.0.run(request.body(()).map_err(|e| failed(e.into()))?)
        } else {
            self.0.run(request.body(body).map_err(|e| failed(e.into()))?)
        };
        let mut answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.filter_map(|text| Some(text.to_str().ok()?.to_owned())).collect();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string().map_err(failed)?;
        Ok(Answer { status, body, warnings })
    }
}
