//! Whether every packed event is accounted for: by the audit's word, by our own count of the tables, and by what the operator says.

use std::time::Duration;

use event::audit::Audit;
use event::names::{AUDITS_BUCKET, INTENTS_BUCKET, RAW_TABLE, REMOVED_TABLE};
use event::{Lane, Position};
use serde_json::{Value, json};

use super::tenants;
use super::traffic::Traffic;
use crate::prove::Job;
use crate::prove::nats::{self, Entry};
use crate::prove::report::Round;
use crate::prove::world::World;
use crate::{Error, Result};

/// How long sinks and auditor may take to deal with all that was sent.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);
/// How long the operator may take to say what the audit says.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    lane: Lane,
    /// Last sequence of the stream.
    last: u64,
    /// Up to where the sink has dealt with it.
    sunk: u64,
    audit: Audit,
}

impl Account {
    fn is_settled(&self) -> bool {
        self.sunk == self.last && self.audit.upto == self.last && self.audit.open.is_empty()
    }
}

/// Waits until every lane is sunk to its end and audited.
///
/// # Errors
/// When NATS cannot be asked. A lane that never gets there is told by [`judge`].
pub fn settle(job: &Job<'_>, world: &World) -> Result<()> {
    let task = job.progress.task("settling", "waits until every lane is sunk and audited to its end");
    let mut last = String::new();
    let settled = job.cancel.until(SETTLED_WITHIN, Duration::from_secs(1), || {
        let accounts = read(world)?;
        let behind = accounts.iter().find(|account| !account.is_settled());
        last = behind.map_or_else(String::new, |account| {
            let Account { lane, last, sunk, audit } = account;
            format!("lane {lane}: {sunk} of {last} sunk, {} audited, {} differ", audit.upto, audit.open.len())
        });
        task.comment(&last);
        Ok(behind.is_none().then_some(()))
    })?;
    task.done(if settled.is_some() { "all of them" } else { &last });
    Ok(())
}

/// Where every lane ends at this moment.
///
/// # Errors
/// When NATS cannot be asked.
pub fn ends(world: &World) -> Result<Vec<u64>> {
    Ok(read(world)?.iter().map(|account| account.last).collect())
}

/// How far a lane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub lane: Lane,
    /// Last sequence of its stream.
    pub last: u64,
    /// Up to where it is sunk.
    pub sunk: u64,
}

/// How far every lane is at this moment.
///
/// # Errors
/// When NATS cannot be asked.
pub fn places(world: &World) -> Result<Vec<Place>> {
    let place = |Account { lane, last, sunk, .. }| Place { lane, last, sunk };
    Ok(read(world)?.into_iter().map(place).collect())
}

/// Whether every lane is sunk up to where it ended then.
///
/// # Errors
/// When NATS cannot be asked.
pub fn are_sunk(world: &World, ends: &[u64]) -> Result<bool> {
    Ok(read(world)?.iter().zip(ends).all(|(account, end)| account.sunk >= *end))
}

/// Messages that are not sunk, over all lanes.
///
/// # Errors
/// When NATS cannot be asked.
pub fn behind(world: &World) -> Result<u64> {
    Ok(read(world)?.iter().map(|account| account.last.saturating_sub(account.sunk)).sum())
}

fn read(world: &World) -> Result<Vec<Account>> {
    let (intents, audits) =
        (nats::bucket(&world.platform, INTENTS_BUCKET)?, nats::bucket(&world.platform, AUDITS_BUCKET)?);
    let of = |entries: &[Entry], lane: &Lane| {
        let entry = entries.iter().find(|entry| entry.key == lane.to_string());
        entry.map(|entry| entry.value.to_string().into_bytes())
    };
    let account = |lane: Lane| {
        let info = nats::request(&world.platform, &format!("$JS.API.STREAM.INFO.{}", lane.stream()), "")?;
        let wrong = |detail: String| Error::Format { what: format!("lane {lane}"), detail };
        let last = info["state"]["last_seq"].as_u64().ok_or_else(|| wrong("no last sequence".into()))?;
        let sunk = match of(&intents, &lane) {
            Some(value) => Position::decode(&value).map_err(|error| wrong(error.to_string()))?.sequence,
            None => 0,
        };
        let audit = of(&audits, &lane).and_then(|value| Audit::decode(&value));
        Ok(Account { last, sunk, audit: audit.unwrap_or_else(|| Audit::first(0)), lane })
    };
    tenants::lanes()?.into_iter().chain(world.lanes.iter().cloned()).map(account).collect()
}

/// Puts what the accounts say into the round.
///
/// # Errors
/// When a part cannot be asked.
pub fn judge(job: &Job<'_>, world: &World, traffic: &Traffic, round: &mut Round) -> Result<()> {
    let (mut unaccounted, mut twice, mut lines) = (0_u64, 0, Vec::new());
    for account in read(world)? {
        let rows = count(world, &account.lane)?;
        twice += rows.twice;
        let total = account.audit.total;
        let agree = account.is_settled()
            && total.add_up()
            && account.audit.gone == 0
            && (total.stored, total.duplicates + total.dead) == (rows.stored, rows.removed);
        unaccounted += u64::from(!agree);
        lines.push(line(&account, &rows));
    }
    round.number("lanes", lines);
    round.at_most("rows beyond the first of a (lane, epoch, sequence, index)", twice as f64, 0.0);
    round.at_most("lanes whose packed events are not all stored, repeats or dead", unaccounted as f64, 0.0);
    let mut last = Vec::new();
    job.cancel.until(SAID_WITHIN, Duration::from_secs(1), || {
        last = unreconciled(world, traffic)?;
        Ok(last.is_empty().then_some(()))
    })?;
    round.number("notReconciled", last.clone());
    round.at_most("tenants whose CountsReconciled is not True", last.len() as f64, 0.0);
    Ok(())
}

/// Rows of a lane.
struct Rows {
    stored: u64,
    removed: u64,
    /// Rows of either table beyond the first of a position.
    twice: u64,
}

fn count(world: &World, lane: &Lane) -> Result<Rows> {
    let (database, lane) = (lane.database(), lane.to_string());
    let of = |table: &str, number: u8| {
        format!("SELECT {number} AS kind, epoch, seq, idx FROM {database}.{table} WHERE lane = '{lane}'")
    };
    let sql = format!(
        "SELECT countIf(kind = 0), countIf(kind = 1), count() - uniqExact(epoch, seq, idx) FROM ({} UNION ALL {}) FORMAT TSV",
        of(RAW_TABLE, 0),
        of(REMOVED_TABLE, 1)
    );
    let answer = world.clickhouse(&sql)?;
    let numbers: Vec<u64> = answer.iter().flat_map(|line| line.split('\t')).flat_map(str::parse).collect();
    match numbers.as_slice() {
        [stored, removed, twice] => Ok(Rows { stored: *stored, removed: *removed, twice: *twice }),
        _ => Err(Error::Format { what: format!("rows of lane {lane}"), detail: answer.join(" ") }),
    }
}

fn line(account: &Account, rows: &Rows) -> Value {
    let total = account.audit.total;
    json!({
        "lane": account.lane.to_string(), "messages": account.last, "sunk": account.sunk, "audited": account.audit.upto,
        "packed": total.packed, "stored": total.stored, "duplicates": total.duplicates, "dead": total.dead,
        "gone": account.audit.gone, "differences": account.audit.open.len(),
        "rowsStored": rows.stored, "rowsRemoved": rows.removed, "rowsTwice": rows.twice,
    })
}

/// Tenants of whom the operator does not say that their counts add up.
fn unreconciled(world: &World, traffic: &Traffic) -> Result<Vec<String>> {
    let list = world.platform.kubectl().json(&["get", "tenants.meterplane.io"])?;
    let is_true = |name: &str| {
        let mut items = list["items"].as_array().into_iter().flatten();
        let tenant = items.find(|item| item["metadata"]["name"] == name);
        let conditions = tenant.and_then(|tenant| tenant["status"]["conditions"].as_array());
        conditions.into_iter().flatten().any(|c| c["type"] == "CountsReconciled" && c["status"] == "True")
    };
    let names = traffic.books().map(|(tenant, _)| tenant.name.clone());
    Ok(names.filter(|name| !is_true(name)).collect())
}
