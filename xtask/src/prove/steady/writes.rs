//! What was written: to the apiserver by its audit log, elsewhere by what is there before and after.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::Result;
use crate::prove::nats;
use crate::prove::world::World;

/// Buckets that others than the operator write all the time: pods their heartbeats, sinks their leases and audits.
const OTHERS: [&str; 4] = ["KV_pods", "KV_leases", "KV_intents", "KV_audits"];
/// What an edited plan changes: the snapshots.
pub const POLICY: &str = "stream KV_policy";
/// Streams that one answer of NATS names at most.
const PAGE: usize = 256;

/// Writes of the operator to the apiserver so far.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    /// All of them but those of leases.
    pub calls: usize,
    /// The same by verb and resource.
    pub by_resource: BTreeMap<String, usize>,
}

impl Writes {
    /// Counts them.
    pub fn of_operator(world: &World) -> Result<Self> {
        let mut all = Self::default();
        for call in world.platform.audited()? {
            if call.account == "operator" && call.is_write() && call.resource != "leases" {
                all.calls += 1;
                *all.by_resource.entry(format!("{} {}", call.verb, call.resource)).or_default() += 1;
            }
        }
        Ok(all)
    }

    /// Those that came on top.
    pub fn since(&self, before: &Self) -> Self {
        let more = |(what, count): (&String, &usize)| {
            let more = count - before.by_resource.get(what).copied().unwrap_or(0);
            (more > 0).then(|| (what.clone(), more))
        };
        Self {
            calls: self.calls - before.calls,
            by_resource: self.by_resource.iter().filter_map(more).collect(),
        }
    }
}

/// What stands in NATS, ClickHouse and Vault, as far as the operator writes it: name, and what would change with a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<String, String>);

impl Kept {
    /// Names of what is not the same.
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != before.0.get(*name)).cloned().collect()
    }
}

/// Reads it.
pub fn kept(world: &World) -> Result<Kept> {
    let mut all = BTreeMap::new();
    for stream in streams(world)? {
        let name = stream["config"]["name"].as_str().unwrap_or_default().to_owned();
        let last = if OTHERS.contains(&name.as_str()) { &Value::Null } else { &stream["state"]["last_seq"] };
        all.insert(format!("stream {name}"), json!([stream["config"], stream["created"], last]).to_string());
    }
    vault(world, &mut all)?;
    let sql = "SELECT database, name, toString(metadata_modification_time), create_table_query FROM system.tables \
               WHERE database LIKE 'tenant_%' OR database LIKE 'pool_%' FORMAT JSONCompactEachRow";
    for line in world.clickhouse(sql)? {
        let row: Value = serde_json::from_str(&line).unwrap_or_default();
        all.insert(format!("table {}.{}", row[0], row[1]), line);
    }
    Ok(Kept(all))
}

fn streams(world: &World) -> Result<Vec<Value>> {
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

/// Each policy and each key of Vault, whole. Its files are no measure: Vault writes down every token that it gives out.
fn vault(world: &World, all: &mut BTreeMap<String, String>) -> Result<()> {
    let (url, token) = (world.platform.url("vault")?, world.platform.vault_root_token()?);
    let headers = [("X-Vault-Token", token.trim())];
    for folder in ["sys/policies/acl", "transit/keys"] {
        let read = |path: &str| -> Result<Value> {
            let url = format!("{url}/v1/{folder}{path}");
            Ok(world.http.get(&url, &headers)?.accepted(&url)?.json()["data"].clone())
        };
        for name in read("?list=true")?["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            all.insert(format!("vault {folder}/{name}"), read(&format!("/{name}"))?.to_string());
        }
    }
    Ok(())
}
