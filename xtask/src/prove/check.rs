//! The verdict: what ClickHouse holds by limit and period against the caps, and what the ledger says became of the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::limits::Limit;
use super::nats;
use super::world::World;
use crate::{Error, Result};

/// Shards of a ledger bucket.
const SHARDS: u8 = event::names::LEDGER_SHARDS;

/// Stored events by feature, user and day of receipt.
#[derive(Debug, Default)]
pub struct Stored(BTreeMap<(String, String, String), u64>);

/// What became of one limit's units, summed over its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    /// Records.
    pub records: u64,
    /// Caps.
    pub caps: u64,
    /// Reported as used.
    pub used: u64,
    /// Held by pods that live.
    pub held_live: u64,
    /// Held by pods that are gone.
    pub held_gone: u64,
}

/// What one limit gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Stored events of the period and subject that holds most of them.
    pub most: u64,
    /// Events beyond the cap, over all periods and subjects.
    pub over: u64,
    /// Stored events of all subjects.
    pub stored: u64,
}

impl Stored {
    /// Reads them.
    ///
    /// # Errors
    /// ClickHouse's words.
    pub fn read(world: &World, tenant: &str) -> Result<Self> {
        let sql = format!(
            "SELECT feature, user, toString(toDate(received)), count() FROM tenant_{tenant}.events GROUP BY 1, 2, 3 FORMAT TSV"
        );
        let row = |line: String| {
            let parts: Vec<&str> = line.split('\t').collect();
            let [feature, user, day, count] = parts.as_slice() else { return None };
            Some(((*feature).into(), (*user).into(), (*day).into())).zip(count.parse().ok())
        };
        Ok(Self(world.clickhouse(&sql)?.into_iter().filter_map(row).collect()))
    }

    /// What is stored of one limit.
    pub fn of(&self, limit: &Limit) -> Outcome {
        let mut by_subject: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for ((feature, user, day), count) in &self.0 {
            if *feature == limit.feature {
                let subject = if limit.per_user { user.as_str() } else { "" };
                let period = if limit.total { "" } else { day.as_str() };
                *by_subject.entry((subject, period)).or_default() += count;
            }
        }
        Outcome {
            most: by_subject.values().max().copied().unwrap_or_default(),
            over: by_subject.values().map(|count| count.saturating_sub(limit.cap)).sum(),
            stored: by_subject.values().sum(),
        }
    }
}

/// Events that the sink recognised as repeats: each may have been charged twice.
///
/// # Errors
/// ClickHouse's words.
pub fn repeats(world: &World, tenant: &str) -> Result<u64> {
    let sql = format!("SELECT count() FROM tenant_{tenant}.removed WHERE reason = 'duplicate'");
    Ok(world.clickhouse(&sql)?.first().and_then(|line| line.parse().ok()).unwrap_or_default())
}

/// The ledger's records of days and of what never starts anew, by limit name. Incarnations that did not beat in the last ten seconds are gone.
///
/// # Errors
/// When NATS cannot be asked.
pub fn ledger(world: &World, tenant: &str) -> Result<BTreeMap<String, Units>> {
    let beats = nats::bucket(&world.platform, event::names::PODS_BUCKET)?;
    let newest = beats.iter().map(|entry| entry.at.clone()).max().unwrap_or_default();
    let second = |at: &str| at.parse::<jiff::Timestamp>().map_or(0, |at| at.as_second());
    let live: BTreeSet<String> = beats
        .into_iter()
        .filter(|entry| second(&newest) - second(&entry.at) <= 10)
        .map(|entry| entry.key)
        .collect();
    let mut limits: BTreeMap<String, Units> = BTreeMap::new();
    for (window, shard) in
        ["day", "total"].iter().flat_map(|window| (0..SHARDS).map(move |shard| (window, shard)))
    {
        for entry in nats::bucket(&world.platform, &event::names::ledger_bucket(window, shard))? {
            let Some(name) = entry.key.split(&format!(".ns.{tenant}.")).nth(1) else { continue };
            add(limits.entry(name.to_owned()).or_default(), &entry.value, &live)?;
        }
    }
    Ok(limits)
}

fn add(units: &mut Units, record: &Value, live: &BTreeSet<String>) -> Result<()> {
    let number = |value: &Value, what: &str| {
        value
            .as_u64()
            .ok_or_else(|| Error::Format { what: "a ledger record".into(), detail: format!("no {what}") })
    };
    units.records += 1;
    units.caps += number(&record["cap"], "cap")?;
    units.used += number(&record["used"], "used")?;
    for (pod, holder) in record["holders"].as_object().into_iter().flatten() {
        let held = number(&holder["held"], "held")?;
        *(if live.contains(pod) { &mut units.held_live } else { &mut units.held_gone }) += held;
    }
    Ok(())
}

/// One line of the result file.
pub fn line(limit: &Limit, outcome: &Outcome, units: &Units) -> Value {
    json!({
        "limit": limit.name, "cap": limit.cap, "perUser": limit.per_user, "total": limit.total, "stored": outcome.stored, "most": outcome.most,
        "over": outcome.over, "records": units.records, "unused": units.caps.saturating_sub(outcome.stored),
        "used": units.used, "heldLive": units.held_live, "heldGone": units.held_gone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_and_day_has_a_cap_of_its_own() {
        let stored =
            [("f", "ann", "1", 5), ("f", "ann", "2", 3), ("f", "bob", "1", 4), ("g", "ann", "1", 99)]
                .map(|(feature, user, day, count)| ((feature.into(), user.into(), day.into()), count));
        let stored = Stored(stored.into_iter().collect());
        let limit =
            |per_user| Limit { name: "l".into(), feature: "f".into(), cap: 4, total: false, per_user };
        assert_eq!(stored.of(&limit(true)), Outcome { most: 5, over: 1, stored: 12 });
        assert_eq!(stored.of(&limit(false)), Outcome { most: 9, over: 5, stored: 12 });
        let total = Limit { total: true, ..limit(false) };
        assert_eq!(stored.of(&total), Outcome { most: 12, over: 8, stored: 12 }, "days are no periods");
    }

    #[test]
    fn units_of_pods_that_are_gone_are_told_from_those_of_living_ones() {
        let record = json!({"cap": 10, "used": 3, "holders": {"a": {"held": 2}, "b": {"held": 4}}});
        let mut units = Units::default();
        add(&mut units, &record, &BTreeSet::from(["a".to_owned()])).unwrap();
        assert_eq!(units, Units { records: 1, caps: 10, used: 3, held_live: 2, held_gone: 4 });
        assert!(add(&mut units, &Value::Null, &BTreeSet::new()).is_err());
    }
}
