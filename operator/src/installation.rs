//! The objects of the installation itself: buckets, ledgers, the stream of denials. Observed, planned, executed at start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::names::{LEDGER_SHARDS, ledger_bucket};
use event::{Observed, Stamp};
use jetstream::streams::ViolationsSettings;
use jetstream::{BucketSpec, Expectation, LedgerWindow, Storage, StreamSpec, StreamState, Streams, streams};
use ring::rand::{SecureRandom, SystemRandom};

use crate::errors::{Failure, System};

/// Stands for the tenant in the stamps of the installation's own objects; no tenant can have this name.
const PLATFORM: &str = "_platform";
const VIOLATIONS_AGE: Duration = Duration::from_secs(30 * 86_400);
const VIOLATIONS_BYTES: u64 = 256 << 20;

/// The stamp of the installation's own objects.
pub fn stamp(installation: &str) -> Stamp {
    Stamp {
        installation: installation.to_owned(),
        tenant: PLATFORM.to_owned(),
        uid: installation.to_owned(),
        lineage: installation.to_owned(),
        released: false,
    }
}

/// Creates or repairs every bucket that holds no counts, and the stream of denials.
///
/// # Errors
/// When NATS fails, or an object belongs to another installation.
pub async fn ensure<S: Streams>(nats: &S, installation: &str, replicas: usize) -> Result<(), Failure> {
    let stamp = stamp(installation);
    let buckets = [
        BucketSpec::policy,
        BucketSpec::pods,
        BucketSpec::intents,
        BucketSpec::audits,
        BucketSpec::seats,
        BucketSpec::leases,
    ];
    for bucket in buckets.map(|spec| spec(replicas)) {
        settle(nats, &bucket.stream(&stamp)).await?;
    }
    let violations = ViolationsSettings { replicas, max_age: VIOLATIONS_AGE, max_bytes: VIOLATIONS_BYTES };
    settle(nats, &StreamSpec::violations(violations, &stamp)).await
}

/// The quota ledgers as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledgers {
    /// The id of each, by bucket: what the index tells pods.
    pub ids: BTreeMap<String, String>,
    /// Buckets that are gone with what they counted. The index does not name them, so their limits refuse.
    pub lost: BTreeSet<String>,
    /// The last sequence of each bucket of quotas that is there.
    pub sequences: BTreeMap<String, u64>,
}

/// Creates or repairs the quota ledgers; `index` is what pods were told, `None` when they were told nothing yet. A ledger of
/// quotas that is gone is not replaced by an empty one: counting anew would admit what was already used. Rates are kept in
/// memory and begin anew.
///
/// # Errors
/// When NATS fails, or a ledger belongs to another installation.
pub async fn ensure_ledgers<S: Streams>(
    nats: &S,
    installation: &str,
    replicas: usize,
    index: Option<&BTreeMap<String, String>>,
) -> Result<Ledgers, Failure> {
    let stamp = stamp(installation);
    let mut ledgers = Ledgers::default();
    for (window, shard) in LedgerWindow::ALL.into_iter().flat_map(|w| (0..LEDGER_SHARDS).map(move |s| (w, s)))
    {
        let bucket = ledger_bucket(window.as_str(), shard);
        let have = nats.observe(&BucketSpec::stream_name(&bucket)).await;
        let known = match index {
            None => Told::Nothing,
            Some(ids) => ids.get(&bucket).map_or(Told::Lost, |id| Told::Id(id)),
        };
        let pattern = BucketSpec::ledger(window, shard, replicas, "");
        let found = have.present().and_then(|state| id_of(state, &pattern));
        let persistent = pattern.storage == Storage::File;
        let last_seq = have.present().map_or(0, |state| state.last_seq);
        if let Observed::Unknown(reason) = have {
            return Err(Failure::unknown(System::Nats, reason));
        }
        let id = match ledger(known, found, persistent) {
            Ledger::Keep(id) => id,
            Ledger::Create => random_id()?,
            Ledger::Lost => {
                ledgers.lost.insert(bucket);
                continue;
            }
        };
        settle(nats, &BucketSpec::ledger(window, shard, replicas, &id).stream(&stamp)).await?;
        if persistent {
            ledgers.sequences.insert(bucket.clone(), last_seq);
        }
        ledgers.ids.insert(bucket, id);
    }
    Ok(ledgers)
}

/// Makes a ledger anew, empty, and gives its id. Whatever stands under its name is removed.
///
/// # Errors
/// When NATS fails, or what is there belongs to another installation.
pub async fn recreate_ledger<S: Streams>(
    nats: &S,
    installation: &str,
    replicas: usize,
    (window, shard): (LedgerWindow, u8),
) -> Result<String, Failure> {
    let (stamp, id) = (stamp(installation), random_id()?);
    let stream = BucketSpec::ledger(window, shard, replicas, &id).stream(&stamp);
    nats.delete(&stream.name, &stamp).await?;
    settle(nats, &stream).await?;
    Ok(id)
}

/// What pods were told of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told<'a> {
    /// There was no index yet.
    Nothing,
    /// The index leaves it out: it is lost, and whoever began to make it anew has not finished.
    Lost,
    /// Its id.
    Id(&'a str),
}

#[derive(Debug, PartialEq, Eq)]
enum Ledger {
    Keep(String),
    Create,
    Lost,
}

/// What to do about a ledger: `found` is the id that the bucket carries.
fn ledger(told: Told<'_>, found: Option<&str>, persistent: bool) -> Ledger {
    match (told, found) {
        (Told::Id(known), Some(found)) if known != found && persistent => Ledger::Lost,
        (Told::Id(_), None) | (Told::Lost, _) if persistent => Ledger::Lost,
        (_, Some(found)) => Ledger::Keep(found.to_owned()),
        // Rates live in memory and are gone with the server: a window later nothing of them matters.
        (_, None) => Ledger::Create,
    }
}

/// The id that a ledger's stream carries: the one piece of metadata that its spec asks for.
fn id_of<'a>(state: &'a StreamState, pattern: &BucketSpec) -> Option<&'a str> {
    pattern.metadata.keys().find_map(|key| state.metadata.get(key)).map(String::as_str)
}

fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::Defect {
        system: System::Nats,
        detail: "no randomness for a ledger id".to_owned(),
    })?;
    Ok(event::ids::base32(u128::from_be_bytes(bytes)))
}

/// Observes, plans and executes one stream.
async fn settle<S: Streams>(nats: &S, want: &StreamSpec) -> Result<(), Failure> {
    let have = nats.observe(&want.name).await;
    let plan = streams::plan(want, &have, Expectation::MayCreate);
    if let Some(blocked) = plan.blocked {
        return Err(match blocked {
            streams::Blocked::Unknown(reason) => Failure::unknown(System::Nats, reason),
            other => {
                let detail = format!("stream {} cannot be had: {other:?}", want.name);
                Failure::Defect { system: System::Nats, detail }
            }
        });
    }
    for step in &plan.steps {
        match step {
            streams::StreamStep::Create(_) => tracing::info!(stream = want.name, "creating"),
            streams::StreamStep::Update { fields, .. } => {
                tracing::info!(stream = want.name, ?fields, "repairing");
            }
            streams::StreamStep::Restamp { .. } => tracing::info!(stream = want.name, "stamping"),
        }
        nats.execute(step).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_ledger_is_not_replaced_by_an_empty_one() {
        let id = Told::Id("a");
        assert_eq!(ledger(Told::Nothing, None, true), Ledger::Create);
        assert_eq!(ledger(id, Some("a"), true), Ledger::Keep("a".into()));
        assert_eq!(ledger(Told::Nothing, Some("a"), true), Ledger::Keep("a".into()));
        assert_eq!(ledger(id, None, true), Ledger::Lost);
        assert_eq!(ledger(id, Some("b"), true), Ledger::Lost);
        assert_eq!(
            ledger(Told::Lost, Some("b"), true),
            Ledger::Lost,
            "half rebuilt by an operator that is gone"
        );
        assert_eq!(ledger(id, None, false), Ledger::Create, "rates live in memory");
        assert_eq!(ledger(id, Some("b"), false), Ledger::Keep("b".into()));
        assert_eq!(ledger(Told::Lost, None, false), Ledger::Create);
    }
}
