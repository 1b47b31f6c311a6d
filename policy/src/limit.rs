//! A limit as the snapshot carries it: resolved, numeric, with its provenance.

use event::violation::Effect;
use serde::{Deserialize, Serialize};

use crate::window::Window;

/// One quota or rate that every matching event must be admitted by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// `plan.<name>` or `ns.<namespace>.<name>`: survives delete-and-recreate, so a quota cannot be reset by it.
    pub identity: String,
    /// The name people know it by.
    pub name: String,
    /// Who shares the quota.
    pub per: Per,
    /// Units a window.
    pub max: u64,
    /// The window that `max` is for.
    pub window: Window,
    /// Saved units that a rate may admit on top; zero for quotas.
    #[serde(default)]
    pub burst: u64,
    /// Units an event counts.
    #[serde(default)]
    pub measure: Measure,
    /// Which events it counts.
    #[serde(default)]
    pub matches: Match,
    /// What happens at the limit.
    #[serde(default)]
    pub mode: Mode,
    /// Share of the users, in percent, for whom `mode` holds; the others are observed.
    #[serde(default = "everyone")]
    pub rollout_percent: u8,
    /// What happens when the ledger does not answer.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// Percentages of `max` at which answers warn.
    #[serde(default)]
    pub warn_at: Vec<u8>,
    /// Counting epoch: changes with window, zone, match and measure, so that a changed meaning starts a new count.
    pub epoch: String,
    /// Snapshot generation that last changed `max` or `burst`; a pod with an older one is refused by the ledger.
    pub cap_generation: u64,
    /// The resource that said so.
    pub origin: Origin,
    /// The Tenant's override that `max` comes from, if one holds.
    #[serde(default)]
    pub overridden: Option<Overridden>,
    /// What was used before the limit counted is being added: until then it charges everything and refuses nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub seeding: bool,
    /// Where it began to count when it was new.
    #[serde(default, skip_serializing_if = "CountFrom::is_creation")]
    pub count_from: CountFrom,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Limit {
    /// Units of the period that pods may hand out.
    pub fn cap(&self) -> u64 {
        // What is charged counts from nothing while a limit is seeded: beyond `max` of that alone it refuses rightly. One more, so
        // that the end of seeding lowers the cap, and what pods hold goes back.
        if self.seeding { self.max.saturating_add(1) } else { self.max }
    }

    /// Whether the stored events of a period tell what the limit would have charged: they do not carry their API key, and a
    /// rate has no past.
    pub fn has_history(&self) -> bool {
        !self.window.is_rate() && self.per != Per::ApiKey
    }

    /// What was used before the limit counted is in its ledger, as of the snapshot of `generation`.
    pub fn end_seeding(&mut self, generation: u64) {
        if self.seeding {
            (self.seeding, self.cap_generation) = (false, generation);
        }
    }
}

/// Where a quota begins to count when it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CountFrom {
    /// With the first event of its period that is stored.
    Period,
    /// With the first event that it is charged for.
    #[default]
    Creation,
}

impl CountFrom {
    fn is_creation(&self) -> bool {
        *self == Self::Creation
    }
}

/// An override that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// Units a window that the Plan says.
    pub declared: u64,
    /// Last millisecond that the override holds; `None` = no end.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

fn everyone() -> u8 {
    100
}

/// Who shares one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// The whole tenant.
    Tenant,
    /// Each user (events without a user share one).
    User,
    /// Each API key.
    ApiKey,
}

/// How many units an event counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Measure {
    /// One.
    #[default]
    Count,
    /// `data.<field>`: a whole number, not negative; absent counts zero.
    Sum {
        /// Member of `data`.
        field: String,
    },
}

/// Which events a limit counts. Empty lists match everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Match {
    /// Feature patterns: exact, or ending in `*`.
    #[serde(default)]
    pub features: Vec<String>,
    /// User names, exact.
    #[serde(default)]
    pub users: Vec<String>,
    /// CEL over `event`; an event for which it cannot be evaluated (a member is missing) does not match.
    #[serde(default)]
    pub expression: Option<String>,
}

/// What happens at the limit; a later variant is stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing; dashboards show it.
    Observe,
    /// Answers warn.
    Warn,
    /// Events beyond it are refused.
    #[default]
    Enforce,
}

impl Mode {
    /// What becomes of an attempt that the rule does not admit.
    pub fn effect(self) -> Effect {
        match self {
            Self::Observe => Effect::Observed,
            Self::Warn => Effect::Warned,
            Self::Enforce => Effect::Refused,
        }
    }
}

/// What a pod does while the ledger does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FailureMode {
    /// Refuse.
    #[default]
    Closed,
    /// Spend the slices already granted, then refuse.
    LastLease,
    /// Admit; only with Observe or Warn.
    Open,
}

/// The resource a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// `Plan`, `UsageLimit` or `AccessPolicy`.
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    #[serde(default)]
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// Its `metadata.generation`.
    pub generation: i64,
}
