//! Everything that an operator may change, as it is now, so that two moments can be compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::nats;
use super::super::proxy::Proxy;
use super::super::world::World;
use crate::{Error, Result};

/// Things by name, with what tells one state of them from another.
pub type State = BTreeMap<String, String>;

/// Lists at the apiserver whose objects the operator writes. Not the Leases: holding one is writing it.
const LISTS: [&str; 10] = [
    "/apis/meterplane.io/v1alpha1/plans",
    "/apis/meterplane.io/v1alpha1/tenants",
    "/apis/meterplane.io/v1alpha1/lanepools",
    "/apis/meterplane.io/v1alpha1/usagelimits",
    "/apis/meterplane.io/v1alpha1/accesspolicies",
    "/apis/meterplane.io/v1alpha1/apikeys",
    "/apis/meterplane.io/v1alpha1/dataplanes",
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
];
/// Streams that others write all the time: only their settings are compared.
const OF_OTHERS: [&str; 4] = ["KV_pods", "KV_leases", "KV_audits", "KV_intents"];

/// Reads all of it.
///
/// # Errors
/// When a system does not answer.
pub fn read(world: &World, proxy: &Proxy) -> Result<State> {
    let mut state = State::new();
    for list in LISTS {
        let kind = list.rsplit('/').next().unwrap_or(list);
        for object in proxy.get(list)?["items"].as_array().into_iter().flatten() {
            let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let name = format!("{kind} {}/{}", meta("namespace"), meta("name"));
            state.insert(name, format!("{} {}", meta("uid"), meta("resourceVersion")));
        }
    }
    streams(world, &mut state)?;
    let tables = "SELECT concat('table ', database, '.', name), concat(toString(uuid), ' ', \
        toString(metadata_modification_time), ' ', toString(cityHash64(create_table_query))) \
        FROM system.tables WHERE database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') \
        UNION ALL SELECT concat('database ', name), concat(toString(uuid), ' ', comment) FROM system.databases \
        UNION ALL SELECT concat('user ', name), toString(id) FROM system.users FORMAT TSV";
    for line in world.clickhouse(tables)? {
        if let Some((name, is)) = line.split_once('\t') {
            state.insert(name.to_owned(), is.to_owned());
        }
    }
    keys(world, &mut state)?;
    Ok(state)
}

fn streams(world: &World, state: &mut State) -> Result<()> {
    let names = nats::request(&world.platform, "$JS.API.STREAM.NAMES", "{}")?;
    for name in names["streams"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let info = nats::request(&world.platform, &format!("$JS.API.STREAM.INFO.{name}"), "{}")?;
        let others = OF_OTHERS.contains(&name);
        let last = if others { Value::Null } else { info["state"]["last_seq"].clone() };
        state.insert(format!("stream {name}"), format!("{} {last} {}", info["created"], info["config"]));
    }
    Ok(())
}

fn keys(world: &World, state: &mut State) -> Result<()> {
    let token = world.platform.vault_root_token()?;
    let (vault, headers) = (world.platform.url("vault")?, [("X-Vault-Token", token.as_str())]);
    let get = |path: &str| -> Result<Value> {
        let url = format!("{vault}/v1/{path}");
        Ok(world.http.get(&url, &headers)?.accepted(&url)?.json())
    };
    for (folder, each) in [("transit/keys", "transit/keys"), ("sys/policy", "sys/policy")] {
        for name in get(&format!("{folder}?list=true"))?["data"]["keys"].as_array().into_iter().flatten() {
            let name = name
                .as_str()
                .ok_or_else(|| Error::Format { what: folder.into(), detail: "a name is no text".into() })?;
            state.insert(format!("{each}/{name}"), get(&format!("{each}/{name}"))?["data"].to_string());
        }
    }
    Ok(())
}

/// What differs, by name.
pub fn differences(before: &State, after: &State) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let differs = names.filter(|name| before.get(*name) != after.get(*name));
    differs
        .map(|name| match (before.get(name), after.get(name)) {
            (Some(_), None) => format!("{name} is gone"),
            (None, Some(_)) => format!("{name} is new"),
            _ => format!("{name} is another"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_gone_or_changed_is_told() {
        let state = |entries: &[(&str, &str)]| -> State {
            entries.iter().map(|(name, is)| ((*name).to_owned(), (*is).to_owned())).collect()
        };
        let before = state(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert!(differences(&before, &before).is_empty());
        let after = state(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(differences(&before, &after), ["b is another", "c is gone", "d is new"]);
    }
}
