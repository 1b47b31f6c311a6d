//! A tenant of a test, and what its app and its admin do.

use serde_json::{Value, json};

use crate::{Answer, Call, World, eventually};

/// A ready tenant and its keys.
#[derive(Debug, Clone)]
pub struct TestTenant {
    /// Its name, and its namespace's.
    pub name: String,
    /// Scope `ingest`.
    pub ingest_key: String,
    /// Scope `read`.
    pub read_key: String,
}

impl TestTenant {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let key = |secret: &str| Self::secret(world, name, secret);
        Self { name: name.into(), ingest_key: key("app-apikey"), read_key: key("dashboard-apikey") }
    }

    /// The key in a Secret of the tenant's namespace.
    pub fn secret(world: &World, namespace: &str, secret: &str) -> String {
        let path = "--output=go-template={{.data.MP_API_KEY | base64decode}}";
        world.kubectl(&["get", "secret", secret, "--namespace", namespace, path]).trim().to_owned()
    }

    /// Posts events (a JSON object or array) to one of the pods.
    pub fn post(&self, world: &World, pod: usize, events: &Value) -> Answer {
        Call::post(world.events_url(pod))
            .key(&self.ingest_key)
            .body("application/json", events.to_string())
            .send()
    }

    /// Posts `count` events with ids `<prefix>-<n>` and asserts that all are accepted.
    pub fn post_many(&self, world: &World, prefix: &str, count: usize) {
        for first in (0..count).step_by(500) {
            let events: Vec<Value> = (first..count.min(first + 500))
                .map(|n| event(&format!("{prefix}-{n}"), "login", "ann"))
                .collect();
            let answer = self.post(world, first / 500, &Value::Array(events.clone()));
            assert_eq!(
                (answer.status, &answer.json()["accepted"]),
                (202, &json!(events.len())),
                "{}",
                answer.body
            );
        }
    }

    /// Reads a path of the console.
    pub fn read(&self, world: &World, path: &str) -> Answer {
        Call::get(world.console_url(path)).key(&self.read_key).send()
    }

    /// Events of the last 24 hours on the dashboard.
    pub fn events_shown(&self, world: &World) -> u64 {
        let answer = self.read(world, "/v1/dashboard/summary");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["events"].as_u64().unwrap_or_else(|| panic!("{}", answer.body))
    }

    /// Waits until the dashboard shows exactly `count` events, and that it stays so after the lane is idle.
    pub fn shows(&self, world: &World, count: u64) {
        eventually(&format!("{} shows {count} events", self.name), || {
            let shown = self.events_shown(world);
            (shown == count).then_some(()).ok_or_else(|| format!("it shows {shown}"))
        });
    }
}

/// An event as an app sends it.
pub fn event(id: &str, feature: &str, user: &str) -> Value {
    json!({"id": id, "type": feature, "subject": user, "data": {"value": 1}})
}
