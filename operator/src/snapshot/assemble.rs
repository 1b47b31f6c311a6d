//! One tenant's snapshot from everything declared about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crds::{ApiKey, api_key};
use event::{Lane, TenantName};
use policy::access::AccessPolicy;
use policy::apikey::{KeyDigest, Scope};
use policy::compile::{self, Inputs, InvalidTenant, Override, RuleInput};
use policy::snapshot::{self, EventWindow, Snapshot, TenantState};

use super::judge::Judged;
use super::keys::{KeyEntry, KeyRecords, key_id};
use super::rules::PLAN;
use crate::conditions::Why;
use crate::engine::ObjectKey;

/// What the Tenant itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// For people.
    pub display_name: String,
    /// IANA zone.
    pub time_zone: String,
    /// Accepted event times.
    pub event_window: EventWindow,
    /// Other maxima for limits of the plan.
    pub overrides: Vec<Override>,
}

/// Where a tenant's data are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// UID of the first Tenant that owned the data.
    pub lineage: String,
    /// Where its events go.
    pub lane: Lane,
    /// Days after their time for which events are kept.
    pub retention_days: u32,
}

impl Place {
    /// As the snapshot in force says.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            lineage: snapshot.lineage.clone(),
            lane: snapshot.lane.clone(),
            retention_days: snapshot.retention_days,
        }
    }
}

/// Terms and plan, as far as they are accepted.
#[derive(Debug, Clone)]
pub enum Entitlement {
    /// As declared now; single rules may still be refused.
    Declared {
        /// What the Tenant says.
        terms: Terms,
        /// Limits of its plan.
        rules: Vec<(String, Result<RuleInput, Why>)>,
    },
    /// Not accepted: what was last accepted stays in force.
    Kept,
}

/// Everything a snapshot is assembled from.
#[derive(Debug)]
pub struct Material<'a> {
    /// The tenant.
    pub tenant: &'a TenantName,
    /// The epoch under which it is written.
    pub epoch: u64,
    /// Whose data they are, and where they go.
    pub place: Place,
    /// Whether its keys are served.
    pub state: TenantState,
    /// Terms and plan.
    pub entitlement: Entitlement,
    /// Limits of its namespaces.
    pub limits: Vec<Judged>,
    /// Identities of limits that exist but cannot be read.
    pub unreadable_limits: Vec<String>,
    /// Access policies of its namespaces.
    pub access: Vec<Judged<AccessPolicy>>,
    /// Identities of access policies that exist but cannot be read.
    pub unreadable_access: Vec<String>,
    /// Keys of its namespaces.
    pub keys: Vec<snapshot::ApiKey>,
    /// Namespaces that it holds.
    pub namespaces: Vec<String>,
    /// resourceVersion of every input list.
    pub versions: BTreeMap<String, String>,
    /// See [`Inputs::has_history`].
    pub has_history: bool,
    /// See [`Inputs::seeded`].
    pub seeded: BTreeSet<String>,
    /// The snapshot in force.
    pub previous: Option<&'a Snapshot>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

/// An assembled snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// When it changes by time alone, Unix milliseconds.
    pub next_change_ms: Option<i64>,
}

/// Why nothing can be assembled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unassembled {
    /// Nothing was ever accepted, so there is nothing to keep.
    #[error("nothing of the tenant was accepted yet")]
    NothingAccepted,
    /// The tenant itself is wrong.
    #[error(transparent)]
    Tenant(#[from] InvalidTenant),
}

/// Assembles the snapshot. Every rule that is not accepted keeps its last accepted form.
///
/// # Errors
/// See [`Unassembled`].
pub fn assemble(material: Material<'_>) -> Result<Assembled, Unassembled> {
    let previous = material.previous;
    let mut order: Vec<String> = Vec::new();
    let mut kept: Vec<String> = material.unreadable_limits;
    let (terms, plan_limits) = match material.entitlement {
        Entitlement::Declared { terms, rules } => {
            let mut accepted = Vec::new();
            for (identity, rule) in rules {
                order.push(identity.clone());
                match rule {
                    Ok(rule) => accepted.push(rule),
                    Err(_) => kept.push(identity),
                }
            }
            (terms, accepted)
        }
        Entitlement::Kept => {
            let previous = previous.ok_or(Unassembled::NothingAccepted)?;
            let plan = previous.limits.iter().filter(|limit| limit.origin.kind == PLAN);
            kept.extend(plan.map(|limit| limit.identity.clone()));
            order.clone_from(&kept);
            (kept_terms(previous), Vec::new())
        }
    };
    let mut usage_limits = Vec::new();
    for judged in material.limits {
        order.push(judged.identity.clone());
        match judged.verdict {
            Ok(rule) => usage_limits.extend(rule),
            Err(_) => kept.push(judged.identity),
        }
    }
    let (access, kept_access) = access(material.access, material.unreadable_access);
    let compiled = compile::compile(Inputs {
        tenant: material.tenant.clone(),
        display_name: terms.display_name,
        lineage: material.place.lineage,
        state: material.state,
        lane: material.place.lane,
        retention_days: material.place.retention_days,
        time_zone: terms.time_zone,
        event_window: terms.event_window,
        keys: material.keys,
        plan_limits,
        overrides: terms.overrides,
        usage_limits,
        access,
        namespaces: material.namespaces,
        versions: material.versions,
        previous,
        has_history: material.has_history,
        seeded: material.seeded.clone(),
        generation: next_generation(previous, material.now_ms),
        now_ms: material.now_ms,
    })?;
    let mut snapshot = Snapshot { epoch: material.epoch, ..compiled.snapshot };
    keep(&mut snapshot, previous, &kept, &order, &material.seeded);
    keep_access(&mut snapshot, previous, &kept_access);
    Ok(Assembled { snapshot, next_change_ms: compiled.next_change_ms })
}

/// Policies that are accepted, and identities of those that keep their last accepted form.
fn access(judged: Vec<Judged<AccessPolicy>>, unreadable: Vec<String>) -> (Vec<AccessPolicy>, Vec<String>) {
    let (mut accepted, mut kept) = (Vec::new(), unreadable);
    for judged in judged {
        match judged.verdict {
            Ok(policy) => accepted.extend(policy),
            Err(_) => kept.push(judged.identity),
        }
    }
    (accepted, kept)
}

/// Puts the last accepted form of every `kept` policy back. Order means nothing among them, so it is that of names.
fn keep_access(snapshot: &mut Snapshot, previous: Option<&Snapshot>, kept: &[String]) {
    let old = previous.into_iter().flat_map(|previous| &previous.access);
    for policy in old.filter(|policy| kept.contains(&policy.identity)) {
        if !snapshot.access.iter().any(|present| present.identity == policy.identity) {
            snapshot.access.push(policy.clone());
        }
    }
    snapshot.access.sort_by(|a, b| a.identity.cmp(&b.identity));
}

fn kept_terms(previous: &Snapshot) -> Terms {
    Terms {
        display_name: previous.display_name.clone(),
        time_zone: previous.time_zone.clone(),
        event_window: previous.event_window,
        overrides: Vec::new(),
    }
}

/// Rises with every write and never falls behind the clock, so that a bucket that was lost and rebuilt is newer.
fn next_generation(previous: Option<&Snapshot>, now_ms: i64) -> u64 {
    let after = previous.map_or(0, |snapshot| snapshot.generation + 1);
    after.max(u64::try_from(now_ms).unwrap_or_default())
}

/// Puts the last accepted form of every `kept` rule back, each in its place.
fn keep(
    snapshot: &mut Snapshot,
    previous: Option<&Snapshot>,
    kept: &[String],
    order: &[String],
    seeded: &BTreeSet<String>,
) {
    let old = previous.into_iter().flat_map(|previous| &previous.limits);
    for limit in old.filter(|limit| kept.contains(&limit.identity)) {
        if !snapshot.limits.iter().any(|present| present.identity == limit.identity) {
            let mut limit = limit.clone();
            if seeded.contains(&limit.identity) {
                limit.end_seeding(snapshot.generation);
            }
            snapshot.limits.push(limit);
        }
    }
    let place: HashMap<&str, usize> =
        order.iter().enumerate().map(|(at, identity)| (identity.as_str(), at)).collect();
    snapshot.limits.sort_by_key(|limit| place.get(limit.identity.as_str()).copied().unwrap_or(usize::MAX));
}

/// The keys that a tenant's ApiKeys stand for. One whose Secret was not looked at yet keeps the keys it had.
pub fn keys(
    declared: &[Arc<ApiKey>],
    unreadable: &[ObjectKey],
    accepted: impl Fn(&ObjectKey) -> bool,
    records: &KeyRecords,
    previous: Option<&Snapshot>,
    now_ms: i64,
) -> Vec<snapshot::ApiKey> {
    let had = |id: &str| -> Vec<snapshot::ApiKey> {
        previous.into_iter().flat_map(|old| &old.keys).filter(|key| key.id == id).cloned().collect()
    };
    let mut keys: Vec<snapshot::ApiKey> = unreadable.iter().flat_map(|key| had(&key_id(key))).collect();
    for object in declared {
        let key = ObjectKey::of(object.as_ref());
        let id = key_id(&key);
        if is_revoked(object, now_ms) {
            continue;
        }
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let entries = match digest_of(object) {
            Some(digest) => Some(vec![KeyEntry { digest, not_after_ms: None }]).filter(|_| accepted(&key)),
            None => records.get(&key, uid),
        };
        match entries {
            Some(entries) => {
                keys.extend(entries.into_iter().filter_map(|entry| served(object, &id, entry, now_ms)));
            }
            None => keys.extend(had(&id)),
        }
    }
    keys.sort_by(|a, b| (&a.id, a.digest).cmp(&(&b.id, b.digest)));
    keys
}

/// Whether an ApiKey stands for no key at all.
fn is_revoked(object: &ApiKey, now_ms: i64) -> bool {
    let expired = object.spec.expires.is_some_and(|end| end.as_millisecond() <= now_ms);
    object.spec.suspend || expired || object.metadata.deletion_timestamp.is_some()
}

/// The digest of a key that people brought themselves.
fn digest_of(object: &ApiKey) -> Option<KeyDigest> {
    let brought = object.spec.source == api_key::Source::Digest;
    object.spec.sha256.as_deref().filter(|_| brought).and_then(KeyDigest::from_hex)
}

fn served(object: &ApiKey, id: &str, entry: KeyEntry, now_ms: i64) -> Option<snapshot::ApiKey> {
    let expires = object.spec.expires.map(|end| end.as_millisecond());
    let not_after_ms = [expires, entry.not_after_ms].into_iter().flatten().min();
    let mut scopes: Vec<Scope> = object
        .spec
        .scopes
        .iter()
        .map(|scope| match scope {
            api_key::Scope::Ingest => Scope::Ingest,
            api_key::Scope::Read => Scope::Read,
            api_key::Scope::Admin => Scope::Admin,
        })
        .collect();
    scopes.sort();
    let valid = not_after_ms.is_none_or(|end| now_ms <= end);
    valid.then(|| snapshot::ApiKey { id: id.to_owned(), digest: entry.digest, scopes, not_after_ms })
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
pub(crate) mod tests;
