//! Reading the book of charges (table `charges`, `clickhouse::schema`).
//!
//! Every row states facts that are recorded in an intent before it is written, so a sum may be too small while a sink is at
//! work, and is never too large. A row that a repair has doubled counts once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use clickhouse::Query;
use event::names::CHARGES_TABLE;
use event::{Incarnation, Lane, TenantNumber};
use serde::Deserialize;

use super::wards::Ward;
use crate::context::Context;
use crate::errors::Failure;

/// Keys of one query.
const KEYS: usize = 500;
const LIMIT: Duration = Duration::from_secs(30);

/// Units by key and pod.
pub type Charged = HashMap<(String, Incarnation), u64>;

/// All that the dead pods of a ward ever charged to its records. Complete once they are fenced off and the sink has passed.
///
/// # Errors
/// When ClickHouse fails.
pub async fn charged(ctx: &Context, ward: &Ward) -> Result<Charged, Failure> {
    #[derive(Deserialize)]
    struct Row {
        key: String,
        pod: String,
        units: u64,
    }
    let mut by_tenant: BTreeMap<TenantNumber, Vec<&str>> = BTreeMap::new();
    for (tenant, orphan) in &ward.orphans {
        by_tenant.entry(*tenant).or_default().push(&orphan.key);
    }
    let pods: Vec<u128> = ward.pods().into_iter().map(|pod| pod.0).collect();
    let sql = |lane: &Lane| {
        format!(
            "SELECT key, toString(incarnation) AS pod, sum(units) AS units FROM \
             (SELECT key, incarnation, max(stored + repeated) AS units FROM {} \
             WHERE tenant = {{tenant:UInt64}} AND key IN {{keys:Array(String)}} AND incarnation IN {{pods:Array(UInt128)}} \
             GROUP BY key, incarnation, lane, epoch, intent) GROUP BY key, incarnation",
            table(lane)
        )
    };
    let mut asked = Vec::new();
    for lane in &ward.lanes {
        for (tenant, keys) in &by_tenant {
            asked.extend(keys.chunks(KEYS).map(|keys| (lane, *tenant, strings(keys))));
        }
    }
    let mut charged = Charged::new();
    for (lane, tenant, keys) in asked {
        let query = read(&sql(lane)).bind("tenant", tenant).bind("keys", keys).bind("pods", pods.clone());
        for row in query.fetch::<Row>(&ctx.events).await? {
            if let Ok(pod) = row.pod.parse() {
                *charged.entry((row.key, Incarnation(pod))).or_default() += row.units;
            }
        }
    }
    Ok(charged)
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Units of repeated events in one lane, by the key that they were charged to.
///
/// # Errors
/// When ClickHouse fails.
pub async fn repeated(
    ctx: &Context,
    lane: &Lane,
    tenants: &BTreeSet<TenantNumber>,
) -> Result<Vec<(String, u64)>, Failure> {
    #[derive(Deserialize)]
    struct Row {
        key: String,
        units: u64,
    }
    let sql = format!(
        "SELECT key, sum(units) AS units FROM (SELECT key, max(repeated) AS units FROM {} \
         WHERE tenant IN {{tenants:Array(UInt64)}} AND repeated > 0 \
         GROUP BY tenant, key, incarnation, lane, epoch, intent) GROUP BY key",
        table(lane)
    );
    let tenants: Vec<u64> = tenants.iter().map(|tenant| tenant.0).collect();
    let rows = read(&sql).bind("tenants", tenants).fetch::<Row>(&ctx.events).await?;
    Ok(rows.into_iter().map(|row| (row.key, row.units)).collect())
}

fn table(lane: &Lane) -> String {
    format!("{}.{CHARGES_TABLE}", lane.database())
}

fn read(sql: &str) -> Query {
    Query::new(sql).read_only().max_execution_time(LIMIT)
}
