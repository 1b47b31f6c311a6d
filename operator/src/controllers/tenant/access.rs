//! Our rights on Secrets: one RoleBinding in each namespace that a tenant holds, none anywhere else.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use policy::snapshot::Snapshot;

use crate::context::Context;
use crate::errors::{Failure, status_code};

/// Name of the ClusterRole that is bound, and of the RoleBinding.
const ROLE: &str = "meterplane-operator-secrets";
const SERVICE_ACCOUNT: &str = "operator";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Grants rights in every held namespace and takes them back where the tenant no longer is. Returns the namespaces that do
/// not exist (yet).
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn settle(
    ctx: &Context,
    held: &[String],
    before: Option<&Snapshot>,
) -> Result<Vec<String>, Failure> {
    let left = before.map_or(&[][..], |snapshot| &snapshot.namespaces).iter();
    for namespace in left.filter(|namespace| !held.contains(namespace)) {
        if ctx.belonging.holder(namespace).is_none() {
            revoke(ctx, namespace).await?;
        }
    }
    let mut missing = Vec::new();
    for namespace in held.iter().filter(|namespace| !ctx.slices.is_granted(namespace)) {
        match grant(ctx, namespace).await? {
            true => {
                ctx.slices.note_granted(namespace, true);
                for key in ctx.caches.keys.in_namespace(namespace) {
                    ctx.queues.api_key.add(crate::engine::ObjectKey::of(key.as_ref()));
                }
            }
            false => missing.push(namespace.clone()),
        }
    }
    Ok(missing)
}

/// Takes back our rights in a namespace.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn revoke(ctx: &Context, namespace: &str) -> Result<(), Failure> {
    ctx.slices.note_granted(namespace, false);
    let api: Api<RoleBinding> = Api::namespaced(ctx.kube.clone(), namespace);
    match api.delete(ROLE, &DeleteParams::default()).await {
        Err(error) if status_code(&error) != Some(404) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether the namespace exists and the binding is there now.
async fn grant(ctx: &Context, namespace: &str) -> Result<bool, Failure> {
    let api: Api<RoleBinding> = Api::namespaced(ctx.kube.clone(), namespace);
    match api.create(&PostParams::default(), &binding(&ctx.settings.namespace)).await {
        Ok(_) => Ok(true),
        Err(error) => match status_code(&error) {
            Some(409) => Ok(true),
            Some(404) => Ok(false),
            // A namespace on its way out takes nothing new.
            Some(403) if is_terminating(&error) => Ok(false),
            _ => Err(error.into()),
        },
    }
}

/// Whether the apiserver refused because the namespace is being deleted: the cause that its admission names.
fn is_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn binding(install: &str) -> RoleBinding {
    let label = ("app.kubernetes.io/managed-by".to_owned(), "meterplane".to_owned());
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(ROLE.to_owned()),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: RBAC.to_owned(),
            kind: "ClusterRole".to_owned(),
            name: ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: SERVICE_ACCOUNT.to_owned(),
            namespace: Some(install.to_owned()),
            api_group: None,
        }]),
    }
}
