//! The apiserver over plain HTTP: `kubectl proxy`, so that a thousand changes do not start a thousand programs.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Job;
use super::world::World;
use crate::http::Http;
use crate::{Error, Paths, Result};

/// Lists of our kinds, whose statuses the operator writes.
pub const KINDS: [&str; 7] = [
    "/apis/meterplane.io/v1alpha1/plans",
    "/apis/meterplane.io/v1alpha1/tenants",
    "/apis/meterplane.io/v1alpha1/lanepools",
    "/apis/meterplane.io/v1alpha1/usagelimits",
    "/apis/meterplane.io/v1alpha1/accesspolicies",
    "/apis/meterplane.io/v1alpha1/apikeys",
    "/apis/meterplane.io/v1alpha1/dataplanes",
];

/// A running proxy; dropping it ends it.
pub struct Proxy {
    child: Child,
    base: String,
    http: Http,
}

impl Proxy {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start(world: &World, job: &Job<'_>) -> Result<Self> {
        let port = free_port()?;
        let child = Command::new(world.platform.kubectl().program())
            .env_clear()
            .envs(Paths::inherited())
            .env("KUBECONFIG", world.platform.kubeconfig())
            .args(["proxy", &format!("--port={port}"), "--reject-methods=^$"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("cannot start kubectl proxy"))?;
        let http = Http::new(Duration::from_secs(30));
        let proxy = Self { child, base: format!("http://127.0.0.1:{port}"), http };
        let up = job
            .cancel
            .until(Duration::from_secs(20), Duration::from_millis(50), || Ok(proxy.get("/version").ok()))?;
        up.map(|_| proxy).ok_or_else(|| Error::Program {
            program: "kubectl proxy".into(),
            detail: "it did not answer".into(),
        })
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn get(&self, path: &str) -> Result<Value> {
        Ok(self.http.get(&format!("{}{path}", self.base), &[])?.accepted(path)?.json())
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn post(&self, path: &str, object: &Value) -> Result<Value> {
        let headers = [("content-type", "application/json")];
        let answer = self.http.send("POST", &format!("{}{path}", self.base), &headers, object.to_string())?;
        Ok(answer.accepted(path)?.json())
    }

    /// Merges a change into an object and returns it.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        Ok(self.patch_warned(path, change)?.0)
    }

    /// The same, with what people are warned of.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn patch_warned(&self, path: &str, change: &Value) -> Result<(Value, Vec<String>)> {
        let headers = [("content-type", "application/merge-patch+json")];
        let answer =
            self.http.send("PATCH", &format!("{}{path}", self.base), &headers, change.to_string())?;
        let answer = answer.accepted(path)?;
        Ok((answer.json(), answer.warnings))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The apiserver's words.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.http
            .send("DELETE", &format!("{}{path}", self.base), &[], String::new())?
            .accepted(path)
            .map(drop)
    }

    /// Every change from now on, a line each.
    ///
    /// # Errors
    /// When the apiserver refuses.
    pub fn watch(&self, path: &str) -> Result<impl std::io::Read + Send + use<>> {
        // From now on: without a version the apiserver first tells all that there is, and ten thousand objects take seconds to read.
        let list = self.get(&format!("{path}?limit=1"))?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let url = format!("{}{path}?watch=true&resourceVersion={version}", self.base);
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let failed = |source| Error::Http { what: url.clone(), source: Box::new(source) };
        Ok(agent.get(&url).call().map_err(failed)?.into_body().into_reader())
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Error::io("no port is free"))?;
    Ok(listener.local_addr().map_err(Error::io("no port is free"))?.port())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
