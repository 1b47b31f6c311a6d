//! The ingest pods, as their heartbeats tell: what `Enforced` rests on.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use event::{Incarnation, TenantName};
use parking_lot::RwLock;
use policy::heartbeat::{DROPPED_AFTER_MS, Heartbeat, Recalling, Refused, SELF_FENCE_MS};
use tokio::sync::watch;
use tokio::time::Instant;

/// A pod whose heartbeat is older is lagging.
const LAGGING_AFTER: Duration = Duration::from_millis(SELF_FENCE_MS);
/// A pod whose heartbeat is older is not counted.
const DROPPED_AFTER: Duration = Duration::from_millis(DROPPED_AFTER_MS);

/// All pods that were heard of.
#[derive(Default)]
pub struct Fleet {
    pods: RwLock<HashMap<Incarnation, Pod>>,
    synced: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Pod {
    name: String,
    applied: u64,
    drained: u64,
    refused: Vec<Refused>,
    recalling: Vec<Recalling>,
    beat: u64,
    heard: Instant,
}

/// How far a revision has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// There is no live pod.
    NoPods,
    /// Every live pod has applied it.
    All,
    /// These pods have not applied it yet.
    Lagging(Vec<String>),
    /// Every live pod has applied it; these still hold units of a higher cap than it brings, and are giving them back.
    Recalling(Vec<String>),
    /// What was used before it counted is being added: pods charge by it and refuse nothing yet.
    Seeding,
    /// The ledger of this name is gone, and being made anew: what the limit counts is answered 503.
    LedgerLost(String),
    /// A pod has processed it and did not take it over.
    Refused {
        /// The pod.
        pod: String,
        /// Its words.
        reason: String,
    },
}

/// Live pods by what they decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// By the newest policy.
    pub current: u32,
    /// By an older one.
    pub lagging: u32,
    /// Not at all: they were silent for so long that they refuse events themselves.
    pub fenced: u32,
}

/// What decides about every tenant's reach; when it stays the same, so do they.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Number of live pods.
    pub live: usize,
    /// Number of live pods that are late.
    pub lagging: usize,
    /// Lowest revision that a live pod has applied.
    pub applied: u64,
    /// Refusals of live pods: tenant and revision.
    pub refused: BTreeMap<TenantName, u64>,
    /// Tenants of which a live pod still holds units of a cap that was lowered, and by which revision.
    pub recalling: BTreeMap<TenantName, u64>,
}

impl Reach {
    /// The same for limits of which some are still seeded.
    #[must_use]
    pub fn while_seeding(self, seeding: bool) -> Self {
        match self {
            Self::All | Self::Recalling(_) if seeding => Self::Seeding,
            other => other,
        }
    }

    /// The same for limits of which a ledger may be lost.
    #[must_use]
    pub fn without(self, lost: Option<String>) -> Self {
        match lost {
            Some(ledger) if self.is_applied() && self != Self::NoPods => Self::LedgerLost(ledger),
            _ => self,
        }
    }

    /// Whether every live pod decides by it.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::NoPods | Self::All | Self::Recalling(_) | Self::Seeding)
    }
}

impl Fleet {
    /// Takes over a heartbeat that was stored `age` ago.
    pub fn heard(&self, heartbeat: Heartbeat, age: Duration, now: Instant) {
        let heard = now.checked_sub(age).unwrap_or(now);
        let pod = Pod {
            name: heartbeat.pod,
            applied: heartbeat.applied_revision,
            drained: heartbeat.drained_revision,
            refused: heartbeat.refused,
            recalling: heartbeat.recalling,
            beat: heartbeat.beat,
            heard,
        };
        let mut pods = self.pods.write();
        pods.retain(|_, pod| now.duration_since(pod.heard) < 10 * DROPPED_AFTER);
        let older = pods.get(&heartbeat.incarnation).is_some_and(|known| known.beat > pod.beat);
        if !older {
            pods.insert(heartbeat.incarnation, pod);
        }
    }

    /// Forgets a pod that said good-bye.
    pub fn left(&self, incarnation: Incarnation) {
        self.pods.write().remove(&incarnation);
    }

    /// Every heartbeat that was stored has been heard.
    pub fn mark_synced(&self) {
        self.synced.send_replace(true);
    }

    /// Returns once every heartbeat that was stored has been heard.
    pub async fn wait_synced(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Forgets all pods: the bucket was replaced.
    pub fn reset(&self) {
        self.pods.write().clear();
    }

    /// How far `revision` of the tenant's snapshot has come.
    pub fn reach(&self, tenant: &TenantName, revision: u64, now: Instant) -> Reach {
        let pods = self.pods.read();
        let live: Vec<&Pod> = pods.values().filter(|pod| pod.is_live(now)).collect();
        if live.is_empty() {
            return Reach::NoPods;
        }
        let refusal = |pod: &&Pod| {
            let refused = pod
                .refused
                .iter()
                .find(|refused| refused.tenant == *tenant && refused.revision >= revision)?;
            Some(Reach::Refused { pod: pod.name.clone(), reason: refused.reason.clone() })
        };
        if let Some(refused) = live.iter().find_map(refusal) {
            return refused;
        }
        let behind = names(&live, |pod| pod.applied < revision);
        if !behind.is_empty() {
            return Reach::Lagging(behind);
        }
        let recalling = names(&live, |pod| pod.recalling.iter().any(|recalling| recalling.tenant == *tenant));
        if recalling.is_empty() { Reach::All } else { Reach::Recalling(recalling) }
    }

    /// Live pods on which something may still be under way that was decided by policy before `revision`, sorted. None is
    /// left when nobody can charge any more as that policy said: a pod that is not live refuses, and takes newer policy over
    /// before it serves again.
    pub fn undrained(&self, revision: u64, now: Instant) -> Vec<String> {
        let pods = self.pods.read();
        let live: Vec<&Pod> = pods.values().filter(|pod| pod.is_live(now)).collect();
        names(&live, |pod| pod.drained < revision)
    }

    /// How many pods decide by `newest`, the newest revision of the policy bucket.
    pub fn counts(&self, newest: u64, now: Instant) -> Counts {
        let pods = self.pods.read();
        let mut counts = Counts::default();
        for pod in pods.values().filter(|pod| pod.is_live(now)) {
            if now.duration_since(pod.heard) > LAGGING_AFTER {
                counts.fenced += 1;
            } else if pod.applied < newest || !pod.refused.is_empty() {
                counts.lagging += 1;
            } else {
                counts.current += 1;
            }
        }
        counts
    }

    /// What decides about every tenant's reach now.
    pub fn summary(&self, now: Instant) -> Summary {
        let pods = self.pods.read();
        let mut summary = Summary { applied: u64::MAX, ..Summary::default() };
        for pod in pods.values().filter(|pod| pod.is_live(now)) {
            summary.live += 1;
            summary.lagging += usize::from(now.duration_since(pod.heard) > LAGGING_AFTER);
            summary.applied = summary.applied.min(pod.applied);
            for refused in &pod.refused {
                summary.refused.insert(refused.tenant.clone(), refused.revision);
            }
            for recalling in &pod.recalling {
                summary.recalling.insert(recalling.tenant.clone(), recalling.revision);
            }
        }
        summary
    }
}

fn names(pods: &[&Pod], wanted: impl Fn(&Pod) -> bool) -> Vec<String> {
    let mut names: Vec<String> = pods.iter().filter(|pod| wanted(pod)).map(|pod| pod.name.clone()).collect();
    names.sort();
    names
}

impl Pod {
    fn is_live(&self, now: Instant) -> bool {
        now.duration_since(self.heard) <= DROPPED_AFTER
    }
}

impl Summary {
    /// Whether the reach of a revision of this tenant may differ between `self` and `other`.
    pub fn differs_for(&self, other: &Self, tenant: &TenantName, revision: u64) -> bool {
        let reached = |summary: &Self| (summary.live > 0, summary.live > 0 && summary.applied >= revision);
        reached(self) != reached(other)
            || self.refused.get(tenant) != other.refused.get(tenant)
            || self.recalling.contains_key(tenant) != other.recalling.contains_key(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(id: u128, applied: u64, refused: Vec<Refused>) -> Heartbeat {
        Heartbeat {
            incarnation: Incarnation(id),
            pod: format!("ingest-{id}"),
            applied_revision: applied,
            drained_revision: applied.saturating_sub(1),
            refused,
            recalling: vec![],
            pack_version: 1,
            beat: applied,
        }
    }

    #[test]
    fn a_revision_is_reached_when_every_live_pod_has_applied_it() {
        let (fleet, now, acme) = (Fleet::default(), Instant::now(), "acme".parse::<TenantName>().unwrap());
        assert_eq!(fleet.reach(&acme, 1, now), Reach::NoPods);
        fleet.heard(beat(1, 7, vec![]), Duration::ZERO, now);
        fleet.heard(beat(2, 6, vec![]), Duration::from_secs(5), now);
        assert_eq!(fleet.reach(&acme, 6, now), Reach::All);
        assert_eq!(fleet.reach(&acme, 7, now), Reach::Lagging(vec!["ingest-2".into()]));
        let later = now + Duration::from_secs(2);
        assert_eq!(fleet.reach(&acme, 7, later), Reach::All, "a silent pod is dropped after 6 s");
        assert_eq!(fleet.reach(&acme, 7, later + Duration::from_secs(9)), Reach::NoPods);
    }

    #[test]
    fn a_revision_is_drained_when_no_live_pod_works_by_an_older_one() {
        let (fleet, now) = (Fleet::default(), Instant::now());
        assert!(fleet.undrained(7, now).is_empty(), "nobody decides at all");
        fleet.heard(beat(1, 8, vec![]), Duration::ZERO, now);
        fleet.heard(beat(2, 7, vec![]), Duration::from_secs(5), now);
        assert_eq!(fleet.undrained(7, now), ["ingest-2"], "applied is not drained");
        assert!(
            fleet.undrained(7, now + Duration::from_secs(2)).is_empty(),
            "a silent pod refuses by itself"
        );
    }

    #[test]
    fn silent_pods_count_as_fenced_before_they_are_dropped() {
        let (fleet, now) = (Fleet::default(), Instant::now());
        fleet.heard(beat(1, 7, vec![]), Duration::ZERO, now);
        fleet.heard(beat(2, 6, vec![]), Duration::ZERO, now);
        fleet.heard(beat(3, 7, vec![]), Duration::from_secs(4), now);
        assert_eq!(fleet.counts(7, now), Counts { current: 1, lagging: 1, fenced: 1 });
        let later = now + Duration::from_secs(5);
        assert_eq!(fleet.counts(7, later), Counts { current: 0, lagging: 0, fenced: 2 });
    }

    #[test]
    fn a_refusal_is_not_a_lag() {
        let (fleet, now, acme) = (Fleet::default(), Instant::now(), "acme".parse::<TenantName>().unwrap());
        let refused = Refused { tenant: acme.clone(), revision: 7, reason: "zone".into() };
        fleet.heard(beat(1, 7, vec![refused]), Duration::ZERO, now);
        assert!(matches!(fleet.reach(&acme, 7, now), Reach::Refused { .. }));
        assert_eq!(fleet.reach(&acme, 8, now), Reach::Lagging(vec!["ingest-1".into()]));
        assert_eq!(fleet.reach(&"wayne".parse().unwrap(), 7, now), Reach::All);
    }

    #[test]
    fn a_lowered_cap_is_reached_when_its_units_are_back() {
        let (fleet, now, acme) = (Fleet::default(), Instant::now(), "acme".parse::<TenantName>().unwrap());
        let mut late = beat(1, 7, vec![]);
        late.recalling = vec![Recalling { tenant: acme.clone(), revision: 7 }];
        fleet.heard(late, Duration::ZERO, now);
        assert_eq!(fleet.reach(&acme, 7, now), Reach::Recalling(vec!["ingest-1".into()]));
        let before = fleet.summary(now);
        let back = Heartbeat { beat: 8, ..beat(1, 7, vec![]) };
        fleet.heard(back, Duration::ZERO, now);
        assert_eq!(fleet.reach(&acme, 7, now), Reach::All);
        assert!(fleet.summary(now).differs_for(&before, &acme, 7));
    }

    #[test]
    fn summaries_differ_only_for_the_tenants_concerned() {
        let (acme, wayne) = ("acme".parse::<TenantName>().unwrap(), "wayne".parse::<TenantName>().unwrap());
        let old = Summary { live: 2, applied: 5, ..Summary::default() };
        let new = Summary { applied: 8, refused: BTreeMap::from([(wayne.clone(), 8)]), ..old.clone() };
        assert!(new.differs_for(&old, &acme, 6));
        assert!(!new.differs_for(&old, &acme, 5) && !new.differs_for(&old, &acme, 9));
        assert!(new.differs_for(&old, &wayne, 5));
        let none = Summary { applied: u64::MAX, ..Summary::default() };
        assert!(none.differs_for(&old, &acme, 1));
    }
}
