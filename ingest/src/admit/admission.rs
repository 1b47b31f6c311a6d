//! What became of a request's events, as it is answered.

use event::wire::Invalid;
use policy::access::AccessDenial;
use serde::Serialize;
use utoipa::ToSchema;

use crate::metrics::Metrics;
use crate::quota::{Limited, Standing};

/// What became of a request's events.
#[derive(Debug, Default)]
pub struct Admission {
    /// Events that are durable now.
    pub accepted: usize,
    /// Events whose id stood earlier in the same request.
    pub duplicates: usize,
    /// Events that were refused, in order.
    pub rejected: Vec<Rejected>,
    /// The first limit that refused one.
    pub limited: Option<Box<Limited>>,
    /// The first access policy that refused one.
    pub denied: Option<AccessDenial>,
    /// What accepted events were beyond, of limits and policies that only warn.
    pub warnings: Vec<Warning>,
    /// How the limits stand that the events met.
    pub standings: Vec<Standing>,
}

/// A limit or an access policy that an accepted event was beyond.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// The event's place in the request.
    pub index: usize,
    /// Machine-readable reason: what the event would have been refused with.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub limit: Option<String>,
    /// The access policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub policy: Option<String>,
}

/// Code of an event that is beyond a limit.
pub(super) const LIMIT_EXCEEDED: &str = "plan_limit_exceeded";
/// Code of an event that an access policy does not admit.
pub(super) const ACCESS_DENIED: &str = "access_denied";

/// One refused event.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its place in the request.
    pub index: usize,
    /// Machine-readable reason.
    pub code: &'static str,
    /// What to mend.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub field: String,
    /// For people.
    pub detail: String,
    /// The limit that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub limit: Option<String>,
    /// The access policy that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub policy: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after_ms: Option<u64>,
}

impl Admission {
    /// Adds the request to the tenant's counters.
    pub fn count(&self, metrics: &Metrics, tenant: &str) {
        let limited = self.rejected.iter().filter(|rejected| rejected.limit.is_some()).count();
        metrics.count_events(tenant, "accepted", self.accepted as u64);
        metrics.count_events(tenant, "duplicate", self.duplicates as u64);
        metrics.count_events(tenant, "limited", limited as u64);
        let denied = self.rejected.iter().filter(|rejected| rejected.policy.is_some()).count();
        metrics.count_events(tenant, "denied", denied as u64);
        metrics.count_events(tenant, "rejected", (self.rejected.len() - limited - denied) as u64);
    }

    pub(super) fn invalid(&mut self, index: usize, invalid: Invalid) {
        self.rejected.push(Rejected::invalid(index, invalid));
    }

    pub(super) fn limit(&mut self, index: usize, limited: Box<Limited>) {
        let retry_after_ms = limited.retry_after_ms;
        let rejected = Rejected::limited(index, &limited.limit, limited.used, limited.max, retry_after_ms);
        self.rejected.push(rejected);
        self.limited.get_or_insert(limited);
    }

    pub(super) fn deny(&mut self, index: usize, denial: AccessDenial) {
        self.rejected.push(Rejected::denied(index, &denial));
        self.denied.get_or_insert(denial);
    }
}

pub(super) fn used_up(used: u64, max: u64) -> String {
    format!("Plan Limit Exceeded: {used} of {max} used")
}

/// Says which access policy does not admit an event.
pub fn not_admitted(denial: &AccessDenial) -> String {
    match &denial.rule {
        Some(rule) => format!("access policy {} denies it by rule {rule}", denial.policy),
        None => format!("no rule of access policy {} or of another one allows it", denial.policy),
    }
}

impl Rejected {
    fn new(index: usize, code: &'static str, detail: String) -> Self {
        let (field, limit, policy, retry_after_ms) = (String::new(), None, None, None);
        Self { index, code, field, detail, limit, policy, retry_after_ms }
    }

    /// An event that is wrong itself.
    pub fn invalid(index: usize, Invalid { code, field, detail }: Invalid) -> Self {
        Self { field, ..Self::new(index, code, detail) }
    }

    /// An event that an access policy does not admit.
    pub fn denied(index: usize, denial: &AccessDenial) -> Self {
        Self { policy: Some(denial.policy.clone()), ..Self::new(index, ACCESS_DENIED, not_admitted(denial)) }
    }

    /// An event that is over a limit.
    pub fn limited(index: usize, limit: &str, used: u64, max: u64, retry_after_ms: Option<u64>) -> Self {
        let rejected = Self::new(index, LIMIT_EXCEEDED, used_up(used, max));
        Self { limit: Some(limit.to_owned()), retry_after_ms, ..rejected }
    }
}
