//! A snapshot made ready to decide: expressions compiled, zone loaded, keys of quota records prepared.

use event::ledger_key::LedgerKey;
use event::violation::Effect;
use event::{TenantName, UserKey};
use jiff::tz::TimeZone;

use crate::access::{Access, InvalidRule};
use crate::limit::{Limit, Per};
use crate::matching::{InvalidMatch, Matcher};
use crate::snapshot::{ApiKey, Snapshot};
use crate::window::{self, Period, Window};

/// One tenant's policy as a pod holds it.
#[derive(Debug)]
pub struct TenantPolicy {
    snapshot: Snapshot,
    zone: TimeZone,
    rules: Vec<Rule>,
    access: Vec<Access>,
    windows: Vec<Window>,
}

/// A limit ready to decide; whatever its mode, its units are counted.
#[derive(Debug)]
pub struct Rule {
    /// The limit.
    pub limit: Limit,
    /// Which events it counts.
    pub matcher: Matcher,
    /// Hash of tenant lineage, limit identity and counting epoch: names the quota in memory.
    pub id: u64,
    /// Hash of tenant lineage and limit identity: which users a partial rollout reaches.
    rollout: u64,
}

impl Rule {
    /// What becomes of an attempt of `user` when the limit is used up. Users whom the rollout has not reached are
    /// observed.
    pub fn effect_for(&self, user: UserKey) -> Effect {
        let reached = match self.limit.rollout_percent {
            100.. => true,
            0 => false,
            percent => share_of(self.rollout, user) < u64::from(percent),
        };
        if reached { self.limit.mode.effect() } else { Effect::Observed }
    }
}

/// A number below 100 that stays the same for a user and a limit.
fn share_of(rollout: u64, user: UserKey) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&rollout.to_le_bytes());
    hasher.update(&user.0.to_le_bytes());
    first_eight(&hasher) % 100
}

/// Why a verified snapshot is still not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The zone is unknown to this build.
    #[error("{0}")]
    Zone(String),
    /// A rule does not compile in this build.
    #[error("{identity}: {error}")]
    Rule {
        /// The limit.
        identity: String,
        /// What is wrong with its match.
        error: InvalidMatch,
    },
    /// An access policy does not compile in this build.
    #[error("{identity}: {error}")]
    Access {
        /// The policy.
        identity: String,
        /// What is wrong with it.
        error: InvalidRule,
    },
}

impl TenantPolicy {
    /// Compiles a snapshot.
    ///
    /// # Errors
    /// [`Unusable`]: the caller keeps the older one and says so in its heartbeat.
    pub fn new(snapshot: Snapshot) -> Result<Self, Unusable> {
        let zone = window::zone(&snapshot.time_zone).map_err(Unusable::Zone)?;
        let rules = snapshot
            .limits
            .iter()
            .map(|limit| {
                let matcher = Matcher::compile(&limit.matches)
                    .map_err(|error| Unusable::Rule { identity: limit.identity.clone(), error })?;
                let id = hash_of([&snapshot.lineage, &limit.identity, &limit.epoch]);
                let rollout = hash_of([&snapshot.lineage, &limit.identity]);
                Ok(Rule { limit: limit.clone(), matcher, id, rollout })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let access = snapshot
            .access
            .iter()
            .map(|policy| {
                let identity = || policy.identity.clone();
                Access::compile(policy.clone())
                    .map_err(|error| Unusable::Access { identity: identity(), error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut windows: Vec<Window> = rules.iter().map(|rule| rule.limit.window).collect();
        windows.sort_unstable();
        windows.dedup();
        Ok(Self { snapshot, zone, rules, access, windows })
    }

    /// The snapshot behind it.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The tenant.
    pub fn name(&self) -> &TenantName {
        &self.snapshot.tenant
    }

    /// Limits, in the order in which they are checked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Access policies.
    pub fn access(&self) -> &[Access] {
        &self.access
    }

    /// The zone in which its days begin.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The periods that a moment lies in, for every window the tenant's limits have.
    pub fn periods(&self, now_ms: i64) -> Periods {
        Periods(self.windows.iter().map(|window| (*window, window.period(now_ms, &self.zone))).collect())
    }
}

/// The periods of a tenant's windows that one moment lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periods(Vec<(Window, Period)>);

impl Periods {
    /// The period of one window.
    pub fn of(&self, window: Window) -> Option<Period> {
        self.0.iter().find(|(known, _)| *known == window).map(|(_, period)| *period)
    }
}

/// Names one quota record: a limit, whose share, and the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuotaKey {
    /// [`Rule::id`].
    pub rule: u64,
    /// Who shares it: zero for the tenant, a user's pseudonym, or a hash of the API key's id.
    pub subject: u128,
    /// Start of the period, Unix milliseconds.
    pub period_start_ms: i64,
}

impl QuotaKey {
    /// The key of the record in its ledger bucket.
    pub fn record_key(&self, lineage: &str, limit: &Limit) -> String {
        let subject = event::ids::base32(self.subject);
        let period_start_s = self.period_start_ms.div_euclid(1_000);
        let (epoch, identity) = (&limit.epoch, &limit.identity);
        LedgerKey { lineage, epoch, period_start_s, subject: &subject, identity }.to_string()
    }

    /// The quota of a record.
    pub fn of_record(key: &LedgerKey<'_>) -> Option<Self> {
        let subject = key.subject.parse::<UserKey>().ok()?.0;
        let rule = hash_of([key.lineage, key.identity, key.epoch]);
        Some(Self { rule, subject, period_start_ms: key.period_start_s.checked_mul(1_000)? })
    }

    /// The same for a rate, which has one record for all its windows.
    pub fn rate(&self) -> Self {
        Self { period_start_ms: 0, ..*self }
    }

    /// Ledger shard of the record.
    pub fn shard(&self) -> u8 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rule.to_le_bytes());
        hasher.update(&self.subject.to_le_bytes());
        hasher.update(&self.period_start_ms.to_le_bytes());
        hasher.finalize().as_bytes()[0] % event::names::LEDGER_SHARDS
    }
}

/// As pods name a quota to each other: `<rule>.<subject>.<period start>`.
impl std::fmt::Display for QuotaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.rule, self.subject, self.period_start_ms)
    }
}

impl std::str::FromStr for QuotaKey {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self { rule: next().parse()?, subject: next().parse()?, period_start_ms: next().parse()? })
    }
}

/// Who shares a limit's quota, for one event.
pub fn subject(per: Per, user: UserKey, key: &ApiKey) -> u128 {
    match per {
        Per::Tenant => 0,
        Per::User => user.0,
        Per::ApiKey => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&blake3::hash(key.id.as_bytes()).as_bytes()[..16]);
            u128::from_le_bytes(bytes)
        }
    }
}

fn hash_of<const N: usize>(parts: [&str; N]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    first_eight(&hasher)
}

fn first_eight(hasher: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
