//! What was refused, or would have been: one record a limit, user and second, in stream
//! [`crate::names::VIOLATIONS_STREAM`] as JSON.
//!
//! The message id is `<incarnation>:<n>`, so that a repeated publish is stored once.

use serde::{Deserialize, Serialize};

use crate::ids::{TenantNumber, UserKey};
use crate::names::{Lane, TenantName};

/// Attempts of one user that one rule refused, or would have refused, within one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The tenant.
    pub tenant: TenantName,
    /// Its lineage as a number.
    pub number: TenantNumber,
    /// Its lane: whose table takes the row.
    pub lane: Lane,
    /// Identity of the rule: `plan.<name>` or `ns.<namespace>.<name>`.
    pub rule: String,
    /// What kind of rule it is.
    #[serde(default)]
    pub kind: RuleKind,
    /// What became of the attempts.
    #[serde(default)]
    pub effect: Effect,
    /// Pseudonym of the user.
    pub user_key: UserKey,
    /// Unix seconds of receipt.
    pub second: i64,
    /// Attempts.
    pub count: u64,
    /// First and last receipt, Unix milliseconds.
    pub first_ms: i64,
    /// See `first_ms`.
    pub last_ms: i64,
    /// Ids of the first attempts, at most three.
    pub samples: Vec<String>,
}

/// The kind of rule that an attempt ran against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum RuleKind {
    /// A quota or a rate.
    #[default]
    Limit,
    /// An access policy.
    Access,
}

/// What a rule does to an attempt that it does not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Effect {
    /// It is not admitted.
    #[default]
    Refused,
    /// It is admitted and the client is told.
    Warned,
    /// It is admitted and nobody but the dashboard is told.
    Observed,
}
