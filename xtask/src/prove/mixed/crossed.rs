//! Which version wrote a pack, and which one stored it: that both read what both write is not to be taken for granted from totals.
//!
//! Rows say which incarnation of a pod wrote them, and under which intent they went in; buckets `pods`, `leases` and `intents`, looked
//! at again and again, say whose these are. An intent between two looks at which a lane had the same owner is that owner's.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use event::names::{INTENTS_BUCKET, LEASES_BUCKET, PODS_BUCKET, RAW_TABLE};
use event::{Incarnation, Lane};
use serde_json::{Value, json};

use super::rollout::{Fleet, Version};
use crate::prove::nats;
use crate::prove::world::World;
use crate::{Cancel, Error, Result};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// What was seen.
#[derive(Debug, Default)]
pub struct Sightings {
    pods: BTreeMap<String, Version>,
    sinks: BTreeMap<String, Version>,
    /// Intents and their owners by lane, in order.
    intents: BTreeMap<String, Vec<(u64, String)>>,
}

/// Packs of one intent that one pod wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packs {
    lane: String,
    intent: u64,
    pod: String,
    count: u64,
}

/// Packs by who wrote and who stored them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    known: BTreeMap<(Version, Version), u64>,
    /// Of whom that was not seen.
    unknown: u64,
}

impl Crossed {
    /// Packs that `writer` wrote and `storer` stored.
    pub fn of(&self, writer: Version, storer: Version) -> u64 {
        self.known.get(&(writer, storer)).copied().unwrap_or_default()
    }

    /// For the result file.
    pub fn json(&self) -> Value {
        let line = |((writer, storer), packs): (&(Version, Version), &u64)| json!({"writtenBy": writer.name(), "storedBy": storer.name(), "packs": packs});
        json!({"seen": self.known.iter().map(line).collect::<Vec<_>>(), "notSeen": self.unknown})
    }
}

/// Looks until `over`.
pub fn watch(fleet: &Fleet<'_>, seen: &Mutex<Sightings>, over: &Cancel) {
    while over.pause(LOOK_EVERY).is_ok() {
        // A server that does not answer: next time.
        let _ = look(fleet, &mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn look(fleet: &Fleet<'_>, seen: &mut Sightings) -> Result<()> {
    let platform = &fleet.world.platform;
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    for entry in nats::bucket(platform, PODS_BUCKET)? {
        if let Some(version) = fleet.version(&text(&entry.value, "pod")) {
            seen.pods.entry(text(&entry.value, "incarnation")).or_insert(version);
        }
    }
    for entry in nats::bucket(platform, LEASES_BUCKET)? {
        let Some(sink) = entry.key.strip_prefix("sink.") else { continue };
        if let Some(version) = fleet.version(&text(&entry.value, "pod")) {
            seen.sinks.entry(sink.to_owned()).or_insert(version);
        }
    }
    for entry in nats::bucket(platform, INTENTS_BUCKET)? {
        let found = (entry.value["intent"].as_u64().unwrap_or_default(), text(&entry.value, "owner"));
        let known = seen.intents.entry(entry.key).or_default();
        if known.last() != Some(&found) {
            known.push(found);
        }
    }
    Ok(())
}

/// Counts packs of all lanes by their rows.
///
/// # Errors
/// ClickHouse's words.
pub fn count(world: &World, lanes: &[Lane], seen: &Sightings) -> Result<Crossed> {
    let mut packs = Vec::new();
    for lane in lanes {
        let (database, name) = (lane.database(), lane.to_string());
        let sql = format!(
            "SELECT intent, toString(incarnation), uniqExact(epoch, seq) FROM {database}.{RAW_TABLE} WHERE lane = '{name}' \
             GROUP BY 1, 2 FORMAT TSV"
        );
        for line in world.clickhouse(&sql)? {
            let found = read(&name, &line);
            packs.push(found.ok_or_else(|| Error::Format { what: sql.clone(), detail: line })?);
        }
    }
    Ok(crossed(&packs, seen))
}

fn read(lane: &str, line: &str) -> Option<Packs> {
    let mut parts = line.split('\t');
    let (intent, pod, count) = (parts.next()?, parts.next()?, parts.next()?);
    let pod = Incarnation(pod.parse().ok()?).to_string();
    Some(Packs { lane: lane.to_owned(), intent: intent.parse().ok()?, pod, count: count.parse().ok()? })
}

fn crossed(packs: &[Packs], seen: &Sightings) -> Crossed {
    let mut crossed = Crossed::default();
    for Packs { lane, intent, pod, count } in packs {
        let storer = seen.intents.get(lane).and_then(|intents| owner(intents, *intent));
        let storer = storer.and_then(|sink| seen.sinks.get(sink));
        match (seen.pods.get(pod), storer) {
            (Some(writer), Some(storer)) => *crossed.known.entry((*writer, *storer)).or_default() += count,
            _ => crossed.unknown += count,
        }
    }
    crossed
}

/// Whose an intent is, if its lane had the same owner at the looks before and behind it.
fn owner(intents: &[(u64, String)], intent: u64) -> Option<&str> {
    let around = intents.windows(2).find(|pair| pair[0].0 < intent && intent <= pair[1].0);
    around.filter(|pair| pair[0].1 == pair[1].1).map(|pair| pair[0].1.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_counted_for_who_wrote_and_who_stored_it_when_both_were_seen() {
        let named = |names: &[(&str, Version)]| {
            names.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect()
        };
        let intents = [(3, "s1"), (7, "s1"), (7, "s2"), (9, "s2"), (12, "s1")];
        let seen = Sightings {
            pods: named(&[("p1", Version::Old), ("p2", Version::New)]),
            sinks: named(&[("s1", Version::Old), ("s2", Version::New)]),
            intents: [("acme".to_owned(), intents.map(|(intent, sink)| (intent, sink.to_owned())).to_vec())]
                .into(),
        };
        let of = |intent, pod: &str| {
            let packs = Packs { lane: "acme".into(), intent, pod: pod.into(), count: 2 };
            crossed(&[packs], &seen)
        };
        let known = |writer, storer| Crossed { known: [((writer, storer), 2)].into(), unknown: 0 };
        let unknown = Crossed { unknown: 2, ..Crossed::default() };
        assert_eq!(of(5, "p2"), known(Version::New, Version::Old));
        assert_eq!(of(7, "p1"), known(Version::Old, Version::Old));
        assert_eq!(of(8, "p1"), known(Version::Old, Version::New));
        assert_eq!(of(3, "p1"), unknown, "it may have been opened by an earlier owner");
        assert_eq!(of(11, "p1"), unknown, "the lane changed hands meanwhile");
        assert_eq!((of(13, "p1"), of(8, "p3")), (unknown, Crossed { unknown: 2, ..Crossed::default() }));
    }
}
