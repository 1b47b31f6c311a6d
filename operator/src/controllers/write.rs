//! Writes to our own objects: status when it differs, finalizers.

use std::fmt::Debug;

use crds::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::events;
use crate::clock;
use crate::engine::Cache;
use crate::errors::{Failure, status_code};

/// Name under which our writes appear.
pub const MANAGER: &str = "meterplane-operator";

/// What stands on an object that `owner` controls: it goes with its owner.
pub fn controller_of<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Writes the status if it differs, and tells what turned. Carries the resourceVersion, so a write that rests on an older object fails.
///
/// # Errors
/// When the kube-apiserver fails, or the object changed meanwhile.
pub async fn status<K, S>(
    api: &Api<K>,
    cache: &Cache<K>,
    object: &K,
    old: Option<&S>,
    new: &S,
) -> Result<(), Failure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize + PartialEq + Default,
{
    if old == Some(new) {
        return Ok(());
    }
    let (old, new) = (to_value(old), to_value(Some(new)));
    let said = |status: &Value| -> Vec<Condition> {
        serde_json::from_value(status["conditions"].clone()).unwrap_or_default()
    };
    let (before, after) = (said(&old), said(&new));
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version()},
        "status": replacement(&old, new),
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&object.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(written) => {
            cache.apply(DeserializeGuard(Ok(written)));
            events::tell(api.clone().into_client(), object, (&before, &after), clock::now()).await;
            Ok(())
        }
        // It is gone; the watch will tell.
        Err(error) if status_code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sets or removes our finalizer. Carries the resourceVersion.
///
/// # Errors
/// When the kube-apiserver fails, or the object changed meanwhile.
pub async fn finalizer<K>(
    api: &Api<K>,
    cache: &Cache<K>,
    object: &K,
    name: &str,
    wanted: bool,
) -> Result<(), Failure>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|known| known == name) == wanted {
        return Ok(());
    }
    if wanted {
        finalizers.push(name.to_owned());
    } else {
        finalizers.retain(|known| known != name);
    }
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&object.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(written) => {
            // The last finalizer of a deleted object: the answer is the object as it was before it vanished.
            if wanted || written.meta().deletion_timestamp.is_none() {
                cache.apply(DeserializeGuard(Ok(written)));
            }
            Ok(())
        }
        Err(error) if status_code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn to_value<S: Serialize>(status: Option<&S>) -> Value {
    status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_else(|| json!({}))
}

/// A merge patch adds and changes; what is to go must be null.
fn replacement(old: &Value, mut new: Value) -> Value {
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object_mut()) {
        for name in old.keys() {
            if !new.contains_key(name) {
                new.insert(name.clone(), Value::Null);
            }
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_any_more_is_removed() {
        let patch = replacement(&json!({"a": 1, "b": 2}), json!({"b": 3}));
        assert_eq!(patch, json!({"a": null, "b": 3}));
    }
}
