//! What the kube-apiserver's refusals mean to the one who asked.

use kube::core::Status;
use serde_json::Value;

use crate::problem::Problem;

/// Reason of a cause: a field has another manager.
const FIELD_CONFLICT: &str = "FieldManagerConflict";

fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The field that another manager owns; empty when the object was changed meanwhile; `None` for other errors.
pub fn conflicting(error: &kube::Error) -> Option<String> {
    let status = status(error).filter(|status| status.code == 409)?;
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let owned = causes.filter(|cause| cause.reason == FIELD_CONFLICT).map(|cause| cause.field.clone());
    Some(owned.into_iter().next().unwrap_or_default())
}

/// The answer to any other error.
pub fn refused(error: &kube::Error) -> Problem {
    let Some(status) = status(error) else {
        tracing::warn!(%error, "the kube-apiserver did not answer");
        return Problem::unavailable("the kube-apiserver does not answer");
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    match status.code {
        422 => {
            let (fields, messages): (Vec<&str>, Vec<&str>) =
                causes.map(|cause| (cause.field.as_str(), cause.message.as_str())).unzip();
            let field = fields.into_iter().find(|field| !field.is_empty() && *field != "<nil>");
            let detail = if messages.is_empty() { status.message.clone() } else { messages.join("; ") };
            Problem::unprocessable(field.unwrap_or("spec"), detail)
        }
        // The form was checked before: what is left is what the resource type does not know.
        400 => Problem::unprocessable("spec", status.message.clone()),
        403 => {
            tracing::error!(%error, "the kube-apiserver denies a write");
            Problem::unavailable("the cluster does not let this process, or anybody here, write that")
        }
        404 => Problem::not_found(),
        _ => {
            tracing::warn!(%error, "the kube-apiserver refused");
            Problem::unavailable("the kube-apiserver cannot do it now")
        }
    }
}

/// A document as it is committed.
pub fn yaml(document: &Value) -> String {
    // Plain JSON values always have a YAML form; JSON is one, if a poor one.
    serde_yaml_ng::to_string(document).unwrap_or_else(|_| document.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(status: Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_field_that_is_not_accepted_is_named() {
        let invalid = error(json!({"code": 422, "reason": "Invalid", "message": "m", "details": {"causes": [
            {"reason": "FieldValueInvalid", "message": "exactly one of quota and rate is required", "field": "spec"},
            {"reason": "FieldValueInvalid", "message": "per is immutable", "field": "spec.per"},
        ]}}));
        let problem = refused(&invalid);
        assert_eq!((problem.status(), problem.field()), (422, Some("spec")));
        assert_eq!(conflicting(&invalid), None);
    }

    #[test]
    fn a_foreign_field_is_told_from_a_lost_race() {
        let conflict = |causes: Value| {
            error(json!({"code": 409, "reason": "Conflict", "message": "m", "details": {"causes": causes}}))
        };
        let foreign =
            json!([{"reason": FIELD_CONFLICT, "message": "conflict with x", "field": ".spec.quota.max"}]);
        assert_eq!(conflicting(&conflict(foreign)), Some(".spec.quota.max".into()));
        assert_eq!(conflicting(&conflict(json!([]))), Some(String::new()));
    }

    #[test]
    fn what_is_to_be_committed_is_yaml() {
        let text = yaml(&json!({"kind": "UsageLimit", "spec": {"quota": {"max": 5, "period": "Day"}}}));
        assert_eq!(text, "kind: UsageLimit\nspec:\n  quota:\n    max: 5\n    period: Day\n");
    }
}
