//! HTTP as a test sees it: every status is an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// One call, built up and sent.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A status, the headers (names in lower case) and the body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body as text.
    pub body: String,
}

impl Call {
    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET".into(), url: url.into(), headers: vec![], body: vec![] }
    }

    /// A POST.
    pub fn post(url: impl Into<String>) -> Self {
        Self { method: "POST".into(), ..Self::get(url) }
    }

    /// A PUT.
    pub fn put(url: impl Into<String>) -> Self {
        Self { method: "PUT".into(), ..Self::get(url) }
    }

    /// A DELETE.
    pub fn delete(url: impl Into<String>) -> Self {
        Self { method: "DELETE".into(), ..Self::get(url) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds an API key.
    pub fn key(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    /// Sets the body.
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.header("Content-Type", content_type) }
    }

    /// Sets a body without saying of what type it is.
    pub fn bare_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends it.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_send(&self) -> Result<Answer, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .proxy(None)
            .build();
        let mut request = ureq::http::Request::builder().method(self.method.as_str()).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let agent = Agent::new_with_config(config);
        let request = request.body(self.body.clone()).map_err(|error| error.to_string())?;
        let mut response = if matches!(self.method.as_str(), "GET" | "DELETE") {
            agent.run(request.map(|_| ()))
        } else {
            agent.run(request)
        }
        .map_err(|error| format!("{} {}: {error}", self.method, self.url))?;
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok(Answer { status, headers, body })
    }

    /// Sends it to a server that is there.
    pub fn send(&self) -> Answer {
        self.try_send().unwrap()
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Asserts that this is a problem document of a status, and returns it.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(
            problem["title"].is_string() && problem["type"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        problem
    }
}
