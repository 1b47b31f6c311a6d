//! What stands of one tenant, told without its name, its UIDs and the time, so that tenants which came about differently compare.

use event::TenantNumber;
use serde_json::{Value, json};

use crate::Result;
use crate::prove::outside::{self, State};
use crate::prove::proxy::{KINDS, Proxy};
use crate::prove::world::World;
use crate::prove::{nats, steady};

/// Lists at the apiserver in which a tenant's objects are, by kind.
const LISTS: [&str; 6] = [
    "/apis/meterplane.io/v1alpha1/tenants",
    "/apis/meterplane.io/v1alpha1/usagelimits",
    "/apis/meterplane.io/v1alpha1/accesspolicies",
    "/apis/meterplane.io/v1alpha1/apikeys",
    "/api/v1/secrets",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
];
/// Fields that are another each time: who, when, which try, and keys themselves.
const OWN: [&str; 17] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "lastTransitionTime",
    "kubectl.kubernetes.io/last-applied-configuration",
    "meterplane.io/changed-by",
    "enforcedRevision",
    "created",
    "creation_time",
    "prefix",
    "minted",
    "id",
    // Versions of a key of Vault, each with the time at which it was made.
    "keys",
    "meterplane.io/key-sha256",
    "meterplane.io/key-minted",
];
/// Buckets that others than the operator write, in their own time.
const OF_OTHERS: [&str; 3] = ["KV_pods", "KV_leases", "KV_audits"];

/// A tenant, and the names that it has had in what is kept.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name, and that of its namespace.
    pub name: String,
    /// Its UIDs, and those of its objects.
    pub uids: Vec<String>,
}

impl Subject {
    /// With what the apiserver calls it and its objects by now.
    ///
    /// # Errors
    /// When the apiserver does not answer.
    pub fn met(mut self, proxy: &Proxy) -> Result<Self> {
        for object in objects(proxy, &self.name)? {
            let uid = object.1["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if !uid.is_empty() && !self.uids.contains(&uid) {
                self.uids.push(uid);
            }
        }
        Ok(self)
    }

    /// Whether a text names it, by its name, a UID, or the number that is made of one.
    fn is_in(&self, text: &str) -> bool {
        let number = |uid: &String| {
            TenantNumber::from_lineage(uid).is_ok_and(|number| text.contains(&number.to_string()))
        };
        text.contains(&self.name) || self.uids.iter().any(|uid| text.contains(uid.as_str()) || number(uid))
    }

    fn plain(&self, text: &str) -> String {
        let named = self.uids.iter().fold(text.to_owned(), |text, uid| {
            let text = text.replace(uid, "UID");
            // Tables name a tenant by a number that is made of its UID.
            TenantNumber::from_lineage(uid)
                .map_or(text.clone(), |number| text.replace(&number.to_string(), "NUMBER"))
        });
        named.replace(&self.name, "NAME")
    }
}

/// Reads it, everywhere.
///
/// # Errors
/// When a system does not answer.
pub fn read(world: &World, proxy: &Proxy, subject: &Subject) -> Result<State> {
    let subject = subject.clone().met(proxy)?;
    let mut all = State::new();
    let mut note = |name: &str, is: &Value| {
        if subject.is_in(name) || subject.is_in(&is.to_string()) {
            all.insert(subject.plain(name), subject.plain(&without_own(is).to_string()));
        }
    };
    for (name, object) in objects(proxy, &subject.name)? {
        note(&name, &object);
    }
    for stream in outside::streams(world)? {
        let name = stream["config"]["name"].as_str().unwrap_or_default();
        if subject.is_in(name) {
            note(&format!("stream {name}"), &stream["config"]);
        }
        if name.starts_with("KV_") && !OF_OTHERS.contains(&name) {
            for key in keys(world, name)? {
                note(&format!("{name} {key}"), &Value::Null);
            }
        }
    }
    for row in outside::rows(world)? {
        note(&row.name, &Value::String(row.is));
    }
    for (name, is) in outside::vault(world)? {
        note(&name, &is);
    }
    Ok(all)
}

/// The objects of a tenant: by name, itself.
fn objects(proxy: &Proxy, tenant: &str) -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for list in LISTS {
        let kind = list.rsplit('/').next().unwrap_or(list);
        for mut object in proxy.get(list)?["items"].as_array().cloned().unwrap_or_default() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if object["metadata"]["namespace"] == tenant || name == tenant {
                // Keys are another for each tenant; which there are is not.
                if let Some(data) = object["data"].as_object_mut() {
                    data.values_mut().for_each(|value| *value = Value::Null);
                }
                all.push((format!("{kind} {name}"), object));
            }
        }
    }
    Ok(all)
}

/// Keys of a bucket that have a value or had one.
fn keys(world: &World, stream: &str) -> Result<Vec<String>> {
    let ask = r#"{"subjects_filter":">"}"#;
    let info = nats::request(&world.platform, &format!("$JS.API.STREAM.INFO.{stream}"), ask)?;
    Ok(info["state"]["subjects"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect())
}

fn without_own(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), without_own(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_own).collect()),
        other => other.clone(),
    }
}

/// Every status of our kinds, by the path of its object.
///
/// # Errors
/// When the apiserver does not answer.
pub fn statuses(proxy: &Proxy) -> Result<State> {
    let mut all = State::new();
    for list in KINDS {
        for object in proxy.get(list)?["items"].as_array().into_iter().flatten() {
            all.insert(path(list, object), without_own(&object["status"]).to_string());
        }
    }
    Ok(all)
}

/// Takes every status away.
///
/// # Errors
/// When the apiserver refuses.
pub fn wipe(proxy: &Proxy) -> Result<()> {
    statuses(proxy)?
        .keys()
        .try_for_each(|path| proxy.patch(&format!("{path}/status"), &json!({"status": null})).map(drop))
}

/// Path of an object of a list.
fn path(list: &str, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match (object["metadata"]["namespace"].as_str(), list.rsplit_once('/')) {
        (Some(namespace), Some((group, kind))) => format!("{group}/namespaces/{namespace}/{kind}/{name}"),
        _ => format!("{list}/{name}"),
    }
}

/// Whether everything of a tenant is ready and in force.
///
/// # Errors
/// When the apiserver does not answer.
pub fn is_in_force(proxy: &Proxy, tenant: &str) -> Result<bool> {
    let ours = |name: &str| !name.starts_with("secrets ") && !name.starts_with("rolebindings ");
    let objects = objects(proxy, tenant)?;
    let ready = objects.iter().filter(|(name, _)| ours(name)).all(|(_, object)| steady::is(object, "Ready"));
    let decided = |name: &str| name.starts_with("usagelimits ") || name.starts_with("accesspolicies ");
    let enforced = objects.iter().filter(|(name, _)| decided(name)).all(|(_, o)| steady::is(o, "Enforced"));
    Ok(ready && enforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_uids_and_times_are_left_out_and_nothing_else() {
        let subject = Subject { name: "acme".into(), uids: vec!["u-1".into()] };
        let object = json!({"metadata": {"uid": "u-1", "labels": {"owner": "u-1"}}, "spec": [{"created": 5, "max": 7}]});
        let plain = subject.plain(&without_own(&object).to_string());
        assert_eq!(
            plain,
            json!({"metadata": {"labels": {"owner": "UID"}}, "spec": [{"max": 7}]}).to_string()
        );
        assert_eq!(subject.plain("stream USAGE_acme"), "stream USAGE_NAME");
        assert!(
            subject.is_in("KV_ledger u-1.x") && subject.is_in("USAGE_acme") && !subject.is_in("USAGE_other")
        );
    }
}
