//! Tenants for a load: creates what is missing as custom resources and waits for the keys.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::Target;
use crate::{Cancel, Error, Progress, Result};

/// How long tenants may take to be ready, besides [`READY_WITHIN_EACH`].
const READY_WITHIN: Duration = Duration::from_secs(120);
/// What each tenant adds to that.
const READY_WITHIN_EACH: Duration = Duration::from_millis(500);
/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Namespaces, tenants and keys, as kubectl names them.
const KINDS: &str = "plans.meterplane.io,tenants.meterplane.io,apikeys.meterplane.io,namespaces";

/// A tenant that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the Tenant.
    pub name: String,
    /// Name people read.
    pub display_name: String,
}

/// What tenants are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// Name of the plan and the keys, and the beginning of the namespaces.
    pub name: &'static str,
    /// Events that one of the tenants sends at most. The plan counts a month's events without refusing any (`mode: Observe`);
    /// what it expects decides how much room the tenants' streams reserve.
    pub events_max: u64,
}

/// Events a month that the plan expects at least.
const EVENTS_MIN: u64 = 100_000;

impl Purpose {
    /// The plan's number: so much that a load may be repeated.
    fn expected(self) -> u64 {
        self.events_max.saturating_mul(4).max(EVENTS_MIN)
    }

    /// The plan, if there is none or it expects too little.
    fn plan(self, present: &Value) -> Option<Value> {
        let plan = named(present, "Plan", None, self.name);
        let has = plan.and_then(|plan| plan["spec"]["limits"][0]["quota"]["max"].as_u64());
        if has.is_some_and(|has| has >= self.expected()) {
            return None;
        }
        let events = json!({
            "name": "events", "per": "Tenant", "mode": "Observe", "quota": {"max": self.expected(), "period": "Month"},
        });
        let display = format!("Tenants of `cargo xtask {}`", self.name);
        Some(object(
            "Plan",
            &json!({"name": self.name}),
            &json!({"displayName": display, "limits": [events]}),
        ))
    }
}

fn object(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "meterplane.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Where a tenant's key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    namespace: String,
    key: String,
}

/// Creates what is missing for these tenants: a Plan called as the purpose that refuses nothing, and for each a Tenant on it with
/// one namespace `<purpose>-<tenant>`, and in that an ApiKey called as the purpose that may ingest and read. A Tenant that is
/// there already is left as it is and gets the key in its first namespace. Returns the keys in the order of `wanted`.
///
/// # Errors
/// When the apiserver refuses, or something does not become ready: says what and why.
pub fn ensure(
    target: &Target,
    purpose: Purpose,
    wanted: &[Wanted],
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let task = progress.task("tenants", "looks which of them are there");
    let present = target.kubectl.json(&["get", KINDS, "--all-namespaces"])?;
    let places = places(&present, purpose, wanted)?;
    let missing = missing(&present, purpose, wanted, &places);
    if !missing.is_empty() {
        task.note(&format!("creates {} objects for {} tenants", missing.len(), wanted.len()));
        let file = target.dir.join(format!("{}.json", purpose.name));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": missing});
        std::fs::write(&file, list.to_string())
            .map_err(Error::io(format!("cannot write {}", file.display())))?;
        target.kubectl.apply(&[file])?;
    }
    let within = READY_WITHIN + READY_WITHIN_EACH * u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let mut last = "no answer".to_owned();
    let keys = cancel.until(within, ASK_EVERY, || {
        let present = target.kubectl.json(&["get", KINDS, "--all-namespaces"])?;
        let waiting = not_ready(&present, wanted, &places);
        if let Some(first) = waiting.first() {
            let ready = wanted.len() - waiting.len();
            task.comment(&format!("{ready} of {} are ready; {first}", wanted.len()));
            last.clone_from(first);
            return Ok(None);
        }
        task.note("reads their keys");
        let secrets = ["get", "secrets", "--all-namespaces", "--field-selector=type=meterplane.io/api-key"];
        let keys = keys(&present, &target.kubectl.json(&secrets)?, &places);
        match keys {
            Ok(keys) => Ok(Some(keys)),
            Err(which) => {
                last = which;
                Ok(None)
            }
        }
    })?;
    let keys = keys.ok_or_else(|| Error::Program {
        program: "creating tenants".into(),
        detail: format!("not ready within {} s: {last}; see `cargo xtask logs operator`", within.as_secs()),
    })?;
    task.done(&format!("{} are ready", wanted.len()));
    Ok(keys)
}

/// The items of a list of one kind.
fn of_kind<'a>(list: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list["items"].as_array().into_iter().flatten().filter(move |item| item["kind"] == kind)
}

fn named<'a>(list: &'a Value, kind: &'a str, namespace: Option<&str>, name: &str) -> Option<&'a Value> {
    of_kind(list, kind).find(|item| {
        item["metadata"]["name"] == name
            && namespace.is_none_or(|namespace| item["metadata"]["namespace"] == namespace)
    })
}

/// Where each tenant's key belongs: the first namespace of a Tenant that is there, or the one that it will get.
fn places(present: &Value, purpose: Purpose, wanted: &[Wanted]) -> Result<Vec<Place>> {
    let place = |tenant: &Wanted| {
        let namespace = match named(present, "Tenant", None, &tenant.name) {
            None => format!("{}-{}", purpose.name, tenant.name),
            Some(there) => {
                match there["spec"]["namespaces"][0].as_str() {
                    Some(namespace) => namespace.to_owned(),
                    None => {
                        return Err(Error::Format {
                        what: format!("Tenant {}", tenant.name),
                        detail: "it is there without a namespace: give it one, because its API key lives there".into(),
                    });
                    }
                }
            }
        };
        Ok(Place { namespace, key: purpose.name.to_owned() })
    };
    wanted.iter().map(place).collect()
}

/// The objects that are not there yet, each after what it refers to.
fn missing(present: &Value, purpose: Purpose, wanted: &[Wanted], places: &[Place]) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/created-by": format!("xtask-{}", purpose.name)});
    let (mut first, mut tenants, mut keys) = (vec![], vec![], vec![]);
    for (tenant, place) in wanted.iter().zip(places) {
        if named(present, "Namespace", None, &place.namespace).is_none() {
            let metadata = json!({"name": place.namespace, "labels": labels});
            first.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        }
        if named(present, "Tenant", None, &tenant.name).is_none() {
            let spec = json!({
                "displayName": tenant.display_name, "planRef": {"name": purpose.name}, "namespaces": [place.namespace],
            });
            tenants.push(object("Tenant", &json!({"name": tenant.name, "labels": labels}), &spec));
        }
        if named(present, "ApiKey", Some(&place.namespace), &place.key).is_none() {
            let metadata = json!({"name": place.key, "namespace": place.namespace, "labels": labels});
            keys.push(object("ApiKey", &metadata, &json!({"scopes": ["ingest", "read"]})));
        }
    }
    let on_plan = |tenant: &Wanted| {
        let there = named(present, "Tenant", None, &tenant.name);
        there.is_none_or(|there| there["spec"]["planRef"]["name"] == purpose.name)
    };
    if wanted.iter().any(on_plan) {
        first.extend(purpose.plan(present));
    }
    [first, tenants, keys].concat()
}

/// A sentence for each tenant that cannot be used yet.
fn not_ready(present: &Value, wanted: &[Wanted], places: &[Place]) -> Vec<String> {
    let both = wanted.iter().zip(places);
    let sentence = |(tenant, place): (&Wanted, &Place)| {
        let key = named(present, "ApiKey", Some(&place.namespace), &place.key);
        waiting_for(&format!("Tenant {}", tenant.name), named(present, "Tenant", None, &tenant.name))
            .or_else(|| waiting_for(&format!("ApiKey {}/{}", place.namespace, place.key), key))
    };
    both.filter_map(sentence).collect()
}

/// Why an object is not ready; `None` when it is.
fn waiting_for(what: &str, object: Option<&Value>) -> Option<String> {
    let Some(object) = object else { return Some(format!("{what} is not there")) };
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let Some(ready) = ready else { return Some(format!("{what} has no condition yet")) };
    // A condition about an older generation says nothing about this one.
    let current = object["status"]["observedGeneration"].is_null()
        || object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let text = |field: &str| ready[field].as_str().unwrap_or_default();
    (ready["status"] != "True" || !current)
        .then(|| format!("{what} is not ready: {} {}", text("reason"), text("message")))
}

/// The keys at these places, or the first that cannot be read.
fn keys(present: &Value, secrets: &Value, places: &[Place]) -> Result<Vec<String>, String> {
    let name =
        |meta: &Value| Some((meta["namespace"].as_str()?.to_owned(), meta["name"].as_str()?.to_owned()));
    let items = secrets["items"].as_array().into_iter().flatten();
    let by_name: BTreeMap<_, _> = items
        .filter_map(|secret| Some((name(&secret["metadata"])?, secret["data"]["MP_API_KEY"].as_str()?)))
        .collect();
    let key = |place: &Place| {
        let object = named(present, "ApiKey", Some(&place.namespace), &place.key);
        let secret = object.and_then(|object| object["status"]["secretName"].as_str());
        let secret = secret.map_or_else(|| format!("{}-apikey", place.key), str::to_owned);
        let encoded = by_name.get(&(place.namespace.clone(), secret.clone()));
        let bytes = encoded.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| format!("Secret {}/{secret} holds no MP_API_KEY", place.namespace))
    };
    places.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLAY: Purpose = Purpose { name: "replay", events_max: 50_000 };

    fn wanted(name: &str) -> Wanted {
        Wanted { name: name.to_owned(), display_name: format!("#{name}") }
    }

    fn list(items: impl serde::Serialize) -> Value {
        json!({"kind": "List", "items": items})
    }

    #[test]
    fn an_empty_cluster_gets_plan_namespace_tenant_and_key_in_this_order() {
        let (present, tenants) = (list(json!([])), [wanted("en")]);
        let places = places(&present, REPLAY, &tenants).unwrap();
        let objects = missing(&present, REPLAY, &tenants, &places);
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Namespace", "Plan", "Tenant", "ApiKey"]);
        assert_eq!(objects[2]["spec"]["displayName"], "#en");
        assert_eq!(objects[2]["spec"]["namespaces"], json!(["replay-en"]));
        assert_eq!(objects[3]["metadata"]["namespace"], "replay-en");
        assert!(missing(&list(json!(objects)), REPLAY, &tenants, &places).is_empty());
        let more = Purpose { events_max: 50_001, ..REPLAY };
        let objects = missing(&list(json!(objects)), more, &tenants, &places);
        assert_eq!(objects.len(), 1, "the plan expects more");
        assert_eq!(objects[0]["spec"]["limits"][0]["quota"]["max"], 200_004);
    }

    #[test]
    fn a_tenant_that_is_there_keeps_its_plan_and_gets_only_a_key() {
        let there =
            json!({"kind": "Tenant", "metadata": {"name": "acme"}, "spec": {"namespaces": ["a", "b"]}});
        let namespace = json!({"kind": "Namespace", "metadata": {"name": "a"}});
        let (present, tenants) = (list(json!([there, namespace])), [wanted("acme")]);
        let places = places(&present, REPLAY, &tenants).unwrap();
        let objects = missing(&present, REPLAY, &tenants, &places);
        assert_eq!(objects.len(), 1);
        assert_eq!(
            (&objects[0]["kind"], &objects[0]["metadata"]["namespace"]),
            (&json!("ApiKey"), &json!("a"))
        );
    }

    #[test]
    fn a_tenant_without_a_namespace_is_refused_with_what_to_do() {
        let there = json!({"kind": "Tenant", "metadata": {"name": "acme"}, "spec": {}});
        let error = places(&list(json!([there])), REPLAY, &[wanted("acme")]).unwrap_err().to_string();
        assert!(error.contains("give it one"), "{error}");
    }

    #[test]
    fn ready_means_ready_for_the_present_generation() {
        let object = |status: &str, observed: u64| {
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed,
                "conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "why"}]}})
        };
        assert_eq!(waiting_for("x", Some(&object("True", 2))), None);
        assert!(waiting_for("x", Some(&object("True", 1))).is_some());
        assert_eq!(waiting_for("x", Some(&object("False", 2))).unwrap(), "x is not ready: R why");
        assert_eq!(waiting_for("x", None).unwrap(), "x is not there");
    }

    #[test]
    fn keys_are_read_from_the_secret_that_the_status_names() {
        let present = list(json!([
            {"kind": "ApiKey", "metadata": {"name": "replay", "namespace": "a"}, "status": {"secretName": "s"}},
            {"kind": "ApiKey", "metadata": {"name": "replay", "namespace": "b"}},
        ]));
        let secret = |namespace: &str, name: &str, key: &str| {
            let key = base64::engine::general_purpose::STANDARD.encode(key);
            json!({"metadata": {"namespace": namespace, "name": name}, "data": {"MP_API_KEY": key}})
        };
        let secrets = list(json!([secret("a", "s", "k1"), secret("b", "replay-apikey", "k2")]));
        let place = |namespace: &str| Place { namespace: namespace.to_owned(), key: "replay".to_owned() };
        assert_eq!(keys(&present, &secrets, &[place("b"), place("a")]).unwrap(), ["k2", "k1"]);
        assert_eq!(
            keys(&present, &secrets, &[place("c")]).unwrap_err(),
            "Secret c/replay-apikey holds no MP_API_KEY"
        );
    }
}
