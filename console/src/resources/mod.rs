//! Custom resources as the Admin API writes them: server-side apply under a field manager of our own, never forced.
//!
//! What somebody else declares stays theirs: an object that a GitOps tool tracks, and a field that another manager owns, are
//! answered with 409, the manager and the YAML to commit.

mod owners;
mod refusal;

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::problem::Problem;
use owners::{managers, tracker};
use refusal::{conflicting, refused, yaml};

/// Our field manager.
pub const MANAGER: &str = "meterplane-console";
/// Most objects of a kind that are listed of a namespace.
const LIST_MAX: u32 = 500;

/// Where an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Namespace: one of the tenant's.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Objects of one kind.
#[derive(Clone)]
pub struct Resources {
    kube: kube::Client,
    kind: ApiResource,
}

impl Resources {
    /// Objects of `kind` in the cluster behind `kube`.
    pub fn new(kube: kube::Client, kind: ApiResource) -> Self {
        Self { kube, kind }
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.kube.clone(), namespace, &self.kind)
    }

    /// The object, if there is one.
    ///
    /// # Errors
    /// 503 when the kube-apiserver does not answer.
    pub async fn get(&self, place: &Place) -> Result<Option<DynamicObject>, Problem> {
        self.api(&place.namespace).get_opt(&place.name).await.map_err(|error| refused(&error))
    }

    /// The objects of a namespace.
    ///
    /// # Errors
    /// 503 when the kube-apiserver does not answer.
    pub async fn list(&self, namespace: &str) -> Result<Vec<DynamicObject>, Problem> {
        let params = ListParams::default().limit(LIST_MAX);
        let list = self.api(namespace).list(&params).await.map_err(|error| refused(&error))?;
        Ok(list.items)
    }

    /// Creates the object, or makes `found` of it what `spec` says.
    ///
    /// # Errors
    /// 409 when it, or a field of it, is somebody else's, or it was changed meanwhile; 422 naming the field that the
    /// kube-apiserver does not accept; 503.
    pub async fn apply(
        &self,
        place: &Place,
        spec: &Value,
        found: Option<&DynamicObject>,
    ) -> Result<DynamicObject, Problem> {
        let wanted = self.document(place, spec);
        if let Some(tool) = found.and_then(tracker) {
            let detail = format!("{} is managed by {}: commit the change there", self.called(place), tool.by);
            return Err(Problem::owned(detail, "metadata", tool.manager, yaml(&wanted)));
        }
        // No resourceVersion: the operator writes status at any time, and fields of others are conflicts without it.
        let params = PatchParams::apply(MANAGER).validation_strict();
        match self.api(&place.namespace).patch(&place.name, &params, &Patch::Apply(&wanted)).await {
            Ok(written) => Ok(written),
            Err(error) => Err(match conflicting(&error) {
                Some(field) if !field.is_empty() => {
                    let manager = found.and_then(|found| managers(found, &field).into_iter().next());
                    let manager = manager.unwrap_or_else(|| "another manager".to_owned());
                    let detail = format!("{field} of {} is owned by {manager}", self.called(place));
                    Problem::owned(detail, field, manager, yaml(&wanted))
                }
                Some(_) => {
                    Problem::conflict(format!("{} was changed meanwhile: try again", self.called(place)))
                }
                None => refused(&error),
            }),
        }
    }

    /// Deletes `found`, if everything in it is ours.
    ///
    /// # Errors
    /// 409 when it, or a field of it, is somebody else's, or it was changed meanwhile; 503.
    pub async fn delete(&self, place: &Place, found: &DynamicObject) -> Result<(), Problem> {
        let other = tracker(found).map(|tool| tool.manager);
        let other = other.or_else(|| managers(found, "spec").into_iter().next());
        if let Some(manager) = other {
            let detail = format!("{} is owned by {manager}: delete it there", self.called(place));
            let spec = found.data.get("spec").cloned().unwrap_or_default();
            return Err(Problem::owned(detail, "metadata", manager, yaml(&self.document(place, &spec))));
        }
        // The object that was looked at, whatever its status says by now.
        let preconditions = Preconditions { uid: found.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        match self.api(&place.namespace).delete(&place.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if conflicting(&error).is_some() => {
                Err(Problem::conflict(format!("{} was changed meanwhile: try again", self.called(place))))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    fn called(&self, place: &Place) -> String {
        format!("{} {}/{}", self.kind.kind, place.namespace, place.name)
    }

    fn document(&self, place: &Place, spec: &Value) -> Value {
        json!({
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": {"name": place.name, "namespace": place.namespace},
            "spec": spec,
        })
    }
}
