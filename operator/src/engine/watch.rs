//! Keeps a [`Cache`] current and tells what changed.

use std::fmt::Debug;

use futures_util::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::{Cache, ObjectKey};

/// Watches for ever; the watch heals itself with growing delays. Listeners hear of a change after the cache holds it.
pub async fn run<K>(client: kube::Client, cache: &Cache<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list.clear(),
            Ok(Event::InitApply(object)) => list.push(trimmed(object)),
            Ok(Event::InitDone) => {
                let list = std::mem::take(&mut list);
                cache.heard(|cache| cache.replace(list));
                cache.mark_synced();
            }
            Ok(Event::Apply(object)) => {
                cache.heard(|cache| cache.apply(trimmed(object)).into_iter().collect());
            }
            Ok(Event::Delete(object)) => {
                cache.heard(|cache| cache.delete(&ObjectKey::of(&object)).into_iter().collect());
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed; trying again"),
        }
    }
}

/// Managed fields are as large as the object and nobody here reads them.
fn trimmed<K: Resource>(mut object: DeserializeGuard<K>) -> DeserializeGuard<K> {
    object.meta_mut().managed_fields = None;
    object
}
