//! What stands in NATS, ClickHouse and Vault, read past all code of ours, so that two moments can be compared.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::nats;
use super::world::World;
use crate::{Error, Result};

/// Things by name, with what tells one state of them from another.
pub type State = BTreeMap<String, String>;

/// Streams that others than the operator write all the time: only their settings are compared.
const OF_OTHERS: [&str; 4] = ["KV_pods", "KV_leases", "KV_audits", "KV_intents"];
/// Streams that one answer of NATS names at most.
const PAGE: usize = 256;

/// Reads all of it.
///
/// # Errors
/// When a system does not answer.
pub fn read(world: &World) -> Result<State> {
    let mut state = State::new();
    for stream in streams(world)? {
        let name = stream["config"]["name"].as_str().unwrap_or_default().to_owned();
        let others = OF_OTHERS.contains(&name.as_str());
        let last = if others { &Value::Null } else { &stream["state"]["last_seq"] };
        state
            .insert(format!("stream {name}"), json!([stream["created"], last, stream["config"]]).to_string());
    }
    for Row { name, is, identity, .. } in rows(world)? {
        state.insert(name, format!("{identity} {is}"));
    }
    state.extend(vault(world)?.into_iter().map(|(name, is)| (name, is.to_string())));
    Ok(state)
}

/// Every stream as NATS tells of it.
///
/// # Errors
/// When NATS does not answer.
pub fn streams(world: &World) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let ask = json!({"offset": all.len()}).to_string();
        let answer = nats::request(&world.platform, "$JS.API.STREAM.LIST", &ask)?;
        let page = answer["streams"].as_array().cloned().unwrap_or_default();
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// A table, a database or a user of ClickHouse.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Row {
    /// `table DATABASE.NAME`, `database NAME` or `user NAME`.
    pub name: String,
    /// The statement that makes it, or its comment.
    pub is: String,
    /// Its UUID, and when it was last changed.
    pub identity: String,
}

/// All of ClickHouse's but its own.
///
/// # Errors
/// When ClickHouse does not answer.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let sql = "SELECT concat('table ', database, '.', name) AS name, create_table_query AS is, \
        concat(toString(uuid), ' ', toString(metadata_modification_time)) AS identity FROM system.tables \
        WHERE database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') \
        UNION ALL SELECT concat('database ', name), comment, toString(uuid) FROM system.databases \
        WHERE name NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA') \
        UNION ALL SELECT concat('user ', name), '', toString(id) FROM system.users FORMAT JSONEachRow";
    let failed = |error: serde_json::Error| Error::Format {
        what: "ClickHouse's tables".into(),
        detail: error.to_string(),
    };
    world.clickhouse(sql)?.iter().map(|line| serde_json::from_str(line).map_err(failed)).collect()
}

/// Each policy and each key of Vault, whole. Its files are no measure: Vault writes down every token that it gives out.
///
/// # Errors
/// When Vault does not answer.
pub fn vault(world: &World) -> Result<Vec<(String, Value)>> {
    let (url, token) = (world.platform.url("vault")?, world.platform.vault_root_token()?);
    let headers = [("X-Vault-Token", token.trim())];
    let mut all = Vec::new();
    for folder in ["sys/policies/acl", "transit/keys"] {
        let read = |path: &str| -> Result<Value> {
            let url = format!("{url}/v1/{folder}{path}");
            Ok(world.http.get(&url, &headers)?.accepted(&url)?.json()["data"].clone())
        };
        let list = read("?list=true")?;
        for name in list["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            all.push((format!("{folder}/{name}"), read(&format!("/{name}"))?));
        }
    }
    Ok(all)
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
