//! Whether sinks are ready for a move: all that live know seats, and those that do not are kept away from both lanes.

use std::time::Duration;

use event::Lane;
use event::lease;
use event::names::{INTENTS_BUCKET, LEASES_BUCKET};
use event::position::is_seated;
use jetstream::{Bucket, Entry};
use tokio::time::Instant;

use crate::errors::{Failure, System};
use crate::passage;

/// How old an entry may be that a sink renews every second; the others take it for dead after half of that.
const LIVES_FOR_MS: u64 = 10_000;
/// How often a lane's record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Living sinks that know no seats, by the names of their pods.
///
/// # Errors
/// When NATS fails.
pub async fn outdated(nats: &jetstream::Client) -> Result<Vec<String>, Failure> {
    let leases = Bucket::open(nats, LEASES_BUCKET).await?;
    let entries = leases.entries().await?;
    Ok(without_seats(&entries, leases.server_time().await?))
}

fn without_seats(entries: &[Entry], now_ms: u64) -> Vec<String> {
    let fresh = entries.iter().filter(|entry| entry.created_ms + LIVES_FOR_MS > now_ms);
    let mut pods: Vec<String> = fresh
        .filter_map(|entry| match lease::Entry::decode(&entry.value) {
            Some(sink) => (!sink.ended && !sink.knows_seats()).then_some(sink.pod),
            None => Some(entry.key.clone()),
        })
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

/// The first of `lanes` that a sink which knows no seats could still take, if there is one after `patience`. Their sinks see to it when
/// a seat names them; a lane without a stream has nothing to take.
///
/// # Errors
/// When NATS fails, or a sink is of a build that this one does not understand.
pub async fn unseated<'a>(
    nats: &jetstream::Client,
    lanes: &[&'a Lane],
    patience: Duration,
) -> Result<Option<&'a Lane>, Failure> {
    let begun = Instant::now();
    let intents = Bucket::open(nats, INTENTS_BUCKET).await?;
    for lane in lanes {
        while passage::exists(nats, lane).await? && !closed(&intents, lane).await? {
            if begun.elapsed() > patience {
                return Ok(Some(lane));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(None)
}

async fn closed(intents: &Bucket, lane: &Lane) -> Result<bool, Failure> {
    let record = intents.get(&lane.to_string()).await?.filter(|entry| !entry.deleted);
    let Some(record) = record else { return Ok(false) };
    is_seated(&record.value)
        .map_err(|error| Failure::Defect { system: System::Nats, detail: format!("lane {lane}: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_sinks_that_do_not_say_that_they_know_seats_are_told() {
        let entry = |sink: u128, created_ms, value: &str| Entry {
            key: lease::key(event::Incarnation(sink)),
            revision: 1,
            value: value.as_bytes().to_vec().into(),
            deleted: false,
            created_ms,
        };
        let told = |value: &str| without_seats(&[entry(1, 5_000, value)], 14_999);
        assert_eq!(told(r#"{"renewal":9,"ended":false,"pod":"sink-2"}"#), ["sink-2"]);
        assert!(told(r#"{"renewal":9,"ended":false,"pod":"sink-2","protocol":1}"#).is_empty());
        assert!(told(r#"{"renewal":9,"ended":true,"pod":"sink-2"}"#).is_empty(), "it has stopped");
        assert_eq!(told("?"), [lease::key(event::Incarnation(1))], "nobody knows what it is");
        let old = entry(1, 5_000, r#"{"renewal":9,"ended":false,"pod":"sink-2"}"#);
        assert!(without_seats(&[old], 15_000).is_empty(), "it is dead");
    }
}
