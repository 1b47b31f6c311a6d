//! What the kube-apiserver asks and is answered: `admission.k8s.io/v1`, as far as it is looked at.

use crds::{AccessPolicy, Plan, Tenant, UsageLimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";

/// A question.
#[derive(Debug, Deserialize)]
pub struct Question {
    /// What is asked.
    pub request: Request,
}

/// What is asked: may this object be written?
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Repeated in the answer.
    pub uid: String,
    kind: Kind,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
}

/// An object as it is to be, and as it was.
#[derive(Debug)]
pub struct Edit<K> {
    /// As it is to be.
    pub new: K,
    /// As it was; `None` for one that is created, or that this build cannot read.
    pub old: Option<K>,
}

/// What is to be written.
#[derive(Debug)]
pub enum Proposed {
    /// A Plan.
    Plan(Box<Edit<Plan>>),
    /// A Tenant.
    Tenant(Box<Edit<Tenant>>),
    /// A UsageLimit.
    UsageLimit(Box<Edit<UsageLimit>>),
    /// An AccessPolicy.
    AccessPolicy(Box<Edit<AccessPolicy>>),
}

impl Request {
    /// What is to be written; `None` when there is nothing to say about it: another kind, or a form that this build cannot read.
    pub fn proposed(self) -> Option<Proposed> {
        Some(match self.kind.kind.as_str() {
            "Plan" => Proposed::Plan(self.edit()?),
            "Tenant" => Proposed::Tenant(self.edit()?),
            "UsageLimit" => Proposed::UsageLimit(self.edit()?),
            "AccessPolicy" => Proposed::AccessPolicy(self.edit()?),
            _ => return None,
        })
    }

    fn edit<K: DeserializeOwned>(self) -> Option<Box<Edit<K>>> {
        let new = serde_json::from_value(self.object).ok()?;
        Some(Box::new(Edit { new, old: serde_json::from_value(self.old_object).ok() }))
    }
}

/// What is said about an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Why it is refused, if it is: a sentence that names the field.
    pub refused: Option<String>,
    /// What whoever writes it should know.
    pub warnings: Vec<String>,
}

/// The answer on its way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
    details: Details,
}

/// The same for programs: the console names the field by it.
#[derive(Debug, Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Status {
    /// A sentence of the controllers begins with the field's path, where one field is at fault.
    fn refusing(message: String) -> Self {
        let cause = message.split_once(": ").filter(|(path, _)| path.starts_with("spec."));
        let cause = cause.map(|(path, why)| Cause {
            reason: "FieldValueInvalid",
            field: path.to_owned(),
            message: why.to_owned(),
        });
        Self {
            code: 422,
            reason: "Invalid",
            details: Details { causes: cause.into_iter().collect() },
            message,
        }
    }
}

impl Answered {
    /// The answer to question `uid`.
    pub fn new(uid: String, answer: Answer) -> Self {
        let status = answer.refused.map(Status::refusing);
        let response = Response { uid, allowed: status.is_none(), status, warnings: answer.warnings };
        Self { api_version: VERSION, kind: "AdmissionReview", response }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(kind: &str, object: Value, old: Value) -> Option<Proposed> {
        let question = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": {"group": "meterplane.io", "version": "v1alpha1", "kind": kind},
            "operation": "UPDATE", "object": object, "oldObject": old, "dryRun": false}});
        serde_json::from_value::<Question>(question).unwrap().request.proposed()
    }

    #[test]
    fn what_cannot_be_read_is_not_judged() {
        let plan = |limits| json!({"apiVersion": "meterplane.io/v1alpha1", "kind": "Plan", "metadata": {"name": "a"}, "spec": {"limits": limits}});
        let Some(Proposed::Plan(edit)) = asked("Plan", plan(json!([])), plan(json!([]))) else {
            panic!("a plan")
        };
        assert!(edit.old.is_some());
        let Some(Proposed::Plan(edit)) = asked("Plan", plan(json!([])), Value::Null) else {
            panic!("a plan")
        };
        assert!(edit.old.is_none());
        assert!(asked("Plan", plan(json!("?")), Value::Null).is_none());
        assert!(asked("LanePool", plan(json!([])), Value::Null).is_none());
    }

    #[test]
    fn a_refusal_says_why_and_warnings_stand_beside_it() {
        let answer = Answer { refused: Some("spec.x: no".into()), warnings: vec!["w".into()] };
        assert_eq!(
            serde_json::to_value(Answered::new("u".into(), answer)).unwrap(),
            json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": {"uid": "u", "allowed": false,
                "status": {"code": 422, "reason": "Invalid", "message": "spec.x: no",
                    "details": {"causes": [{"reason": "FieldValueInvalid", "field": "spec.x", "message": "no"}]}}, "warnings": ["w"]}})
        );
        let quiet = serde_json::to_value(Answered::new("u".into(), Answer::default())).unwrap();
        assert_eq!(quiet["response"], json!({"uid": "u", "allowed": true}));
    }
}
