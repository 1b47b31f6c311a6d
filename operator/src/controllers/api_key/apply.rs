//! Writes the Secret of an ApiKey.

use crds::ApiKey;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use policy::apikey::{KeyDigest, generate, shown_prefix};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use super::build::{Step, build};
use super::dereference;
use super::secret::{self, Held};
use crate::clock;
use crate::context::Context;
use crate::controllers::write::MANAGER;
use crate::errors::{Failure, System};

/// Executes a step; afterwards the Secret holds what is returned.
///
/// # Errors
/// When the kube-apiserver fails, or somebody else wrote in between.
pub async fn apply(ctx: &Context, object: &ApiKey, step: Step) -> Result<Step, Failure> {
    let Step::Write { mint, exists, held } = step else { return Ok(step) };
    let api: Api<Secret> = Api::namespaced(ctx.kube.clone(), &object.namespace().unwrap_or_default());
    let (params, name) = (
        PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() },
        secret::name(object),
    );
    if mint {
        let key = new_key()?;
        let held = Held { digest: KeyDigest::of(&key), prefix: shown_prefix(&key).to_owned(), ..*held };
        let wanted = secret::write(object, &key, &held);
        if exists {
            let patch = guarded(
                &api,
                object,
                json!({
                    "metadata": {"annotations": wanted.metadata.annotations}, "data": wanted.data,
                }),
            );
            api.patch(&name, &params, &Patch::Merge(patch.await?)).await?;
        } else {
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            api.create(&params, &wanted).await?;
        }
        let (namespace, prefix) = (object.namespace(), &held.prefix);
        tracing::info!(api_key = object.name_any(), namespace, prefix, "key minted");
    } else {
        let patch = guarded(&api, object, secret::without_key(&held));
        api.patch(&name, &params, &Patch::Merge(patch.await?)).await?;
    }
    // What counts is what is there now, not what we meant to write.
    let found = dereference::secret(ctx, object).await?;
    Ok(build(object, &found, &ctx.settings.endpoint, clock::now()))
}

/// The patch with the resourceVersion of a Secret that is still ours: nothing else is ever written.
async fn guarded(
    api: &Api<Secret>,
    object: &ApiKey,
    mut patch: serde_json::Value,
) -> Result<serde_json::Value, Failure> {
    let conflict = |detail: &str| Failure::Conflict { system: System::Kubernetes, detail: detail.to_owned() };
    let current = api.get_opt(&secret::name(object)).await?.ok_or_else(|| conflict("the Secret is gone"))?;
    match secret::read(object, Some(&current)) {
        secret::Found::Whole(_) | secret::Found::Damaged => {}
        _ => return Err(conflict("the Secret is not ours any more")),
    }
    patch["metadata"]["resourceVersion"] = json!(current.resource_version());
    Ok(patch)
}

fn new_key() -> Result<String, Failure> {
    let mut random = [0; 32];
    let failed =
        |_| Failure::Defect { system: System::Kubernetes, detail: "no randomness for a key".to_owned() };
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    Ok(generate(&random))
}
