//! Whose an object is, and each of its fields.

use kube::api::DynamicObject;
use serde_json::Value;

use super::MANAGER;

/// A GitOps tool that writes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// For people: the tool and what of it.
    pub by: String,
    /// Its field manager.
    pub manager: String,
}

const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";
const ARGO_INSTANCE: &str = "argocd.argoproj.io/instance";
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label prefixes of Flux, and what stands behind them.
const FLUX: [(&str, &str, &str); 2] = [
    ("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomize-controller"),
    ("helm.toolkit.fluxcd.io", "HelmRelease", "helm-controller"),
];

/// The GitOps tool that tracks an object, if one does.
pub fn tracker(object: &DynamicObject) -> Option<Tool> {
    let label = |name: &str| object.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(ARGO_TRACKING));
    let argo_manager = || entries(object).map(|(manager, _)| manager).find(|name| name.starts_with("argocd"));
    // The last label is everybody's: it tells of Argo CD only where Argo CD has written.
    let application = annotation
        .map(|id| id.split(':').next().unwrap_or(id).to_owned())
        .or_else(|| label(ARGO_INSTANCE))
        .or_else(|| argo_manager().and_then(|_| label(INSTANCE)));
    if let Some(application) = application {
        let manager = argo_manager().unwrap_or("argocd-controller").to_owned();
        return Some(Tool { by: format!("Argo CD (application {application})"), manager });
    }
    FLUX.iter().find_map(|(prefix, kind, manager)| {
        let name = label(&format!("{prefix}/name"))?;
        let namespace = label(&format!("{prefix}/namespace")).unwrap_or_default();
        Some(Tool { by: format!("Flux ({kind} {namespace}/{name})"), manager: (*manager).to_owned() })
    })
}

/// Other managers that own something at `field` (`.spec.quota.max`) or below, in the order in which they are listed.
/// The operator's writes of the status are not among them.
pub fn managers(object: &DynamicObject, field: &str) -> Vec<String> {
    let path: Vec<String> = field
        .split('.')
        .filter(|part| !part.is_empty())
        // Lists are owned as a whole or by item: the item's owner is among the list's.
        .map(|part| format!("f:{}", part.split('[').next().unwrap_or(part)))
        .collect();
    let owns = |fields: &Value| path.iter().try_fold(fields, |at, part| at.get(part)).is_some();
    let others = entries(object).filter(|(manager, fields)| *manager != MANAGER && owns(fields));
    let mut names: Vec<String> = Vec::new();
    for (manager, _) in others {
        if !names.iter().any(|known| known == manager) {
            names.push(manager.to_owned());
        }
    }
    names
}

fn entries(object: &DynamicObject) -> impl Iterator<Item = (&str, &Value)> {
    object.metadata.managed_fields.iter().flatten().filter_map(|entry| {
        let fields = entry.fields_v1.as_ref().map_or(&Value::Null, |fields| &fields.0);
        entry.manager.as_deref().map(|manager| (manager, fields))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(labels: Value, annotations: Value, managed: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "meterplane.io/v1alpha1", "kind": "UsageLimit",
            "metadata": {"name": "x", "namespace": "acme", "labels": labels, "annotations": annotations,
                "managedFields": managed},
        }))
        .unwrap()
    }

    fn managed(manager: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn gitops_tools_are_recognised_by_what_they_leave_behind() {
        let argo = json!([managed("argocd-controller", json!({"f:spec": {}}))]);
        let cases = [
            (
                json!({}),
                json!({ARGO_TRACKING: "shop:meterplane.io/UsageLimit:acme/x"}),
                json!([]),
                Some("Argo CD (application shop)"),
            ),
            (json!({INSTANCE: "shop"}), json!({}), argo, Some("Argo CD (application shop)")),
            (json!({INSTANCE: "shop"}), json!({}), json!([]), None),
            (
                json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"}),
                json!({}),
                json!([]),
                Some("Flux (Kustomization flux/apps)"),
            ),
            (json!({}), json!({}), json!([managed(MANAGER, json!({"f:spec": {}}))]), None),
        ];
        for (labels, annotations, managed, by) in cases {
            let found = tracker(&object(labels.clone(), annotations, managed)).map(|tool| tool.by);
            assert_eq!(found.as_deref(), by, "{labels}");
        }
    }

    #[test]
    fn a_fields_owner_is_found_by_its_path() {
        let fields = json!({"f:spec": {"f:quota": {"f:max": {}}, "f:warnAt": {"v:80": {}}}});
        let object = object(
            json!({}),
            json!({}),
            json!([
                managed(MANAGER, json!({"f:spec": {"f:per": {}}})),
                managed("kubectl", fields),
                managed("operator", json!({"f:status": {"f:conditions": {}}})),
            ]),
        );
        assert_eq!(managers(&object, ".spec.quota.max"), ["kubectl"]);
        assert_eq!(managers(&object, ".spec.warnAt[80]"), ["kubectl"]);
        assert_eq!(managers(&object, "spec"), ["kubectl"]);
        assert!(managers(&object, ".spec.per").is_empty(), "our own");
    }
}
