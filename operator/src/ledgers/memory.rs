//! What is remembered of the quota ledgers over restarts, in a ConfigMap: the id and the last sequence of each, so that one
//! that was put back to an older state is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::controllers::write::MANAGER;
use crate::errors::status_code;

/// The ConfigMap, in the platform's namespace.
const NAME: &str = "meterplane-ledgers";
/// Time between two writes, at least.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The newest id and sequence of each ledger.
#[derive(Debug, Default)]
pub struct Memory {
    ledgers: BTreeMap<String, (String, u64)>,
    saved: BTreeMap<String, (String, u64)>,
    saved_at: Option<Instant>,
    /// What a write must expect; `None` while there is no ConfigMap.
    version: Option<String>,
}

impl Memory {
    /// What was remembered; nothing when it cannot be read.
    pub async fn load(ctx: &Context) -> Self {
        let found = match api(ctx).get_opt(NAME).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "what is remembered of the quota ledgers cannot be read");
                None
            }
        };
        let version = found.as_ref().and_then(ResourceExt::resource_version);
        let data = found.and_then(|map| map.data).unwrap_or_default();
        let ledgers: BTreeMap<_, _> =
            data.into_iter().filter_map(|(name, text)| Some((name, parse(&text)?))).collect();
        Self { saved: ledgers.clone(), ledgers, saved_at: None, version }
    }

    /// Remembers a sequence; `false` when this ledger had a higher one before.
    pub fn remember(&mut self, bucket: &str, id: &str, sequence: u64) -> bool {
        match self.ledgers.get(bucket) {
            Some((known, last)) if known == id && *last > sequence => false,
            _ => {
                self.ledgers.insert(bucket.to_owned(), (id.to_owned(), sequence));
                true
            }
        }
    }

    /// The ledger begins anew.
    pub fn forget(&mut self, bucket: &str) {
        self.ledgers.remove(bucket);
    }

    /// Writes it when it has changed, and not too often.
    pub async fn save(&mut self, ctx: &Context, now: Instant) {
        let due = self.saved_at.is_none_or(|at| now.duration_since(at) >= SAVE_EVERY);
        if !due || self.saved == self.ledgers {
            return;
        }
        self.saved_at = Some(now);
        let data: BTreeMap<&String, String> =
            self.ledgers.iter().map(|(name, (id, sequence))| (name, format!("{id} {sequence}"))).collect();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "resourceVersion": self.version}, "data": data,
        });
        // With the version that it rests on, or as a new one: a leader of yesterday overwrites nothing.
        let written = match &self.version {
            Some(_) => api(ctx).patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map)).await,
            None => create(ctx, map).await,
        };
        match written {
            Ok(map) => (self.saved, self.version) = (self.ledgers.clone(), map.resource_version()),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {
                tracing::warn!(%error, "what is known of the quota ledgers was changed by somebody else; it is read again");
                self.version =
                    api(ctx).get_opt(NAME).await.ok().flatten().and_then(|map| map.resource_version());
            }
            Err(error) => tracing::warn!(%error, "what is known of the quota ledgers was not remembered"),
        }
    }
}

async fn create(ctx: &Context, map: Value) -> Result<ConfigMap, kube::Error> {
    let map = serde_json::from_value(map).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api(ctx).create(&params, &map).await
}

fn api(ctx: &Context) -> Api<ConfigMap> {
    Api::namespaced(ctx.kube.clone(), &ctx.settings.namespace)
}

/// `<id> <last sequence>`.
fn parse(text: &str) -> Option<(String, u64)> {
    let (id, sequence) = text.split_once(' ')?;
    Some((id.to_owned(), sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_ledger_can_go_back() {
        let mut memory = Memory::default();
        assert!(
            memory.remember("l", "a", 5) && memory.remember("l", "a", 5) && !memory.remember("l", "a", 4)
        );
        assert!(memory.remember("l", "b", 1), "another one begins where it begins");
        memory.forget("l");
        assert!(memory.remember("l", "b", 0));
        assert_eq!(parse("a 7"), Some(("a".into(), 7)));
    }
}
