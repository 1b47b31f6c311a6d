//! Keeps a [`Cache`] current and tells what changed.

use std::fmt::Debug;

use futures_util::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Cache, Change, ObjectKey};

/// Watches for ever; the watch heals itself with growing delays. `on_change` runs after the cache holds the change.
pub async fn run<K>(client: kube::Client, cache: &Cache<K>, on_change: impl Fn(&Change<K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        let complete = matches!(event, Ok(Event::InitDone));
        let changes = match event {
            Ok(Event::Init) => {
                list.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                list.push(trimmed(object));
                Vec::new()
            }
            Ok(Event::InitDone) => cache.replace(std::mem::take(&mut list)),
            Ok(Event::Apply(object)) => cache.apply(trimmed(object)).into_iter().collect(),
            Ok(Event::Delete(object)) => cache.delete(&ObjectKey::of(&object)).into_iter().collect(),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed; trying again");
                Vec::new()
            }
        };
        changes.iter().for_each(&on_change);
        if complete {
            cache.mark_synced();
        }
    }
}

/// Managed fields are as large as the object and nobody here reads them.
fn trimmed<K: Resource>(mut object: DeserializeGuard<K>) -> DeserializeGuard<K> {
    object.meta_mut().managed_fields = None;
    object
}
