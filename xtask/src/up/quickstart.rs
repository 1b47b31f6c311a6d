//! `examples/quickstart`, applied as a person applies it, and the keys that came of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::platform::Platform;
use crate::platform::kubectl::Kubectl;
use crate::{Cancel, Error, Progress, Result};

/// How long tenants and keys may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often keys are looked for.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// A tenant of the example with a key for its application and one for its dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenant {
    /// Name of the Tenant.
    pub name: String,
    /// Key with scope `ingest`.
    pub ingest: ApiKey,
    /// Key with scope `read`.
    pub read: ApiKey,
}

/// A key and the Secret that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiKey {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// The key itself.
    pub key: String,
}

/// Applies the example and waits until its tenants and keys are ready.
pub(super) fn apply(
    platform: &Platform,
    folder: &Path,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Vec<Tenant>> {
    let task = progress.task("quickstart", "applies examples/quickstart");
    let kubectl = platform.kubectl();
    kubectl.apply(&[folder.to_path_buf()])?;
    let declared = kubectl.json(&["get", &format!("--filename={}", folder.display())])?;
    task.note("waits until the operator has placed the tenants and every ingest pod enforces their policy");
    if let Err(failure) = wait_ready(&kubectl, &declared, READY_WITHIN) {
        // kubectl says that the time is over; the conditions say why.
        let now = kubectl.json(&["get", &format!("--filename={}", folder.display())])?;
        let reasons = unready(&now);
        return Err(if reasons.is_empty() {
            failure
        } else {
            Error::Program {
                program: "applying examples/quickstart".into(),
                detail: format!("{}; see `cargo xtask logs operator`", reasons.join("; ")),
            }
        });
    }
    task.note("reads the API keys from their Secrets");
    let mut last = None;
    let tenants = cancel.until(READY_WITHIN, ASK_EVERY, || {
        match tenants(&declared, |place| read_key(&kubectl, place)) {
            Ok(tenants) => Ok(Some(tenants)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        }
    })?;
    let tenants = match (tenants, last) {
        (Some(tenants), _) => tenants,
        (None, Some(error)) => return Err(error),
        (None, None) => vec![],
    };
    let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    task.done(&format!("{} are ready", names.join(" and ")));
    Ok(tenants)
}

/// Waits until every Tenant and ApiKey among these objects has condition Ready.
pub(super) fn wait_ready(kubectl: &Kubectl, declared: &Value, within: Duration) -> Result<()> {
    let tenants: Vec<String> =
        of_kind(declared, "Tenant").filter_map(|tenant| Some(format!("tenant/{}", name(tenant)?))).collect();
    let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
    if tenants.is_empty() {
        return Ok(());
    }
    kubectl.wait("condition=Ready", &tenants, within)?;
    for key in of_kind(declared, "ApiKey") {
        let (Some(name), Some(namespace)) = (name(key), key["metadata"]["namespace"].as_str()) else {
            continue;
        };
        kubectl.wait("condition=Ready", &[&format!("apikey/{name}"), "--namespace", namespace], within)?;
    }
    Ok(())
}

/// A sentence for each Tenant and ApiKey that is not ready.
fn unready(declared: &Value) -> Vec<String> {
    let objects = of_kind(declared, "Tenant").chain(of_kind(declared, "ApiKey"));
    let sentence = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let what = format!("{} {}", object["kind"].as_str()?, name(object)?);
        match ready {
            None => Some(format!("{what} has no condition Ready")),
            Some(ready) if ready["status"] == "True" => None,
            Some(ready) => {
                let text = |field: &str| ready[field].as_str().unwrap_or_default();
                Some(format!("{what} is not ready: {} {}", text("reason"), text("message")))
            }
        }
    };
    objects.filter_map(sentence).collect()
}

/// The tenants among these objects with a key of each kind.
fn tenants(declared: &Value, key: impl Fn(&Place) -> Result<String>) -> Result<Vec<Tenant>> {
    let mut places = BTreeMap::new();
    for object in of_kind(declared, "ApiKey") {
        let Some(place) = Place::of(object) else { continue };
        for scope in object["spec"]["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            places.entry((place.namespace.clone(), scope.to_owned())).or_insert(place.clone());
        }
    }
    let mut tenants = Vec::new();
    for object in of_kind(declared, "Tenant") {
        let namespaces: Vec<&str> =
            object["spec"]["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let with_scope = |scope: &str| {
            let place = namespaces
                .iter()
                .find_map(|namespace| places.get(&((*namespace).to_owned(), scope.to_owned())));
            let place = place.ok_or_else(|| Error::Missing {
                what: format!("an ApiKey of tenant {} with scope {scope}", name(object).unwrap_or_default()),
                remedy: "declare it in examples/quickstart".into(),
            })?;
            Ok::<_, Error>(ApiKey {
                namespace: place.namespace.clone(),
                secret: place.secret.clone(),
                key: key(place)?,
            })
        };
        let (ingest, read) = (with_scope("ingest")?, with_scope("read")?);
        tenants.push(Tenant { name: name(object).unwrap_or_default().to_owned(), ingest, read });
    }
    Ok(tenants)
}

/// Where a key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    namespace: String,
    secret: String,
}

impl Place {
    fn of(key: &Value) -> Option<Self> {
        let secret = key["spec"]["secretName"].as_str().map(str::to_owned);
        let secret = secret.unwrap_or_else(|| format!("{}-apikey", name(key).unwrap_or_default()));
        Some(Self { namespace: key["metadata"]["namespace"].as_str()?.to_owned(), secret })
    }
}

fn read_key(kubectl: &Kubectl, place: &Place) -> Result<String> {
    let Place { namespace, secret } = place;
    let object = kubectl.json(&["get", "secret", secret, "--namespace", namespace])?;
    let encoded = object["data"]["MP_API_KEY"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|key| !key.is_empty());
    key.ok_or_else(|| Error::Format {
        what: format!("Secret {namespace}/{secret}"),
        detail: "it holds no MP_API_KEY".into(),
    })
}

fn of_kind<'a>(list: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list["items"].as_array().into_iter().flatten().filter(move |object| object["kind"] == kind)
}

fn name(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str, namespace: &str, spec: &Value) -> Value {
        json!({"kind": "ApiKey", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    }

    #[test]
    fn keys_belong_to_the_tenant_of_their_namespace() {
        let tenant =
            json!({"kind": "Tenant", "metadata": {"name": "acme"}, "spec": {"namespaces": ["a", "b"]}});
        let keys = [
            key("checkout", "b", &json!({"scopes": ["ingest"], "secretName": "s"})),
            key("dashboard", "a", &json!({"scopes": ["read"]})),
            key("other", "c", &json!({"scopes": ["ingest", "read"]})),
        ];
        let declared = json!({"items": [tenant, keys[0], keys[1], keys[2]]});
        let found = tenants(&declared, |place| Ok(format!("{}/{}", place.namespace, place.secret))).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].ingest.key.as_str(), found[0].read.key.as_str()), ("b/s", "a/dashboard-apikey"));
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let tenant = |status: &str| {
            let ready = json!({"type": "Ready", "status": status, "reason": "Stalled", "message": "no room"});
            json!({"kind": "Tenant", "metadata": {"name": "acme"}, "status": {"conditions": [ready]}})
        };
        let declared = json!({"items": [tenant("True"), tenant("False"), key("k", "a", &json!({}))]});
        assert_eq!(
            unready(&declared),
            ["Tenant acme is not ready: Stalled no room", "ApiKey k has no condition Ready"]
        );
    }

    #[test]
    fn a_tenant_without_a_key_is_told_of() {
        let tenant = json!({"kind": "Tenant", "metadata": {"name": "acme"}, "spec": {"namespaces": ["a"]}});
        let error = tenants(&json!({"items": [tenant]}), |_| Ok(String::new())).unwrap_err().to_string();
        assert!(error.contains("tenant acme with scope ingest"), "{error}");
    }
}
