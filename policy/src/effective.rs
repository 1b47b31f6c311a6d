//! What a tenant's limits are in the end, and who said so: for statuses and for whoever asks the console.

use crate::limit::{Limit, Match, Mode, Origin, Overridden, Per};
use crate::snapshot::Snapshot;
use crate::window::Window;

/// One limit of a tenant as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The name people know it by.
    pub name: String,
    /// Its identity: `plan.<name>` or `ns.<namespace>.<name>`.
    pub identity: String,
    /// Who shares it.
    pub per: Per,
    /// Units a window, overrides counted in.
    pub max: u64,
    /// Saved units of a rate.
    pub burst: u64,
    /// The window.
    pub window: Window,
    /// What happens beyond it.
    pub mode: Mode,
    /// Share of the users, in percent, for whom the mode holds.
    pub rollout_percent: u8,
    /// The resource that declares it.
    pub source: Origin,
    /// The override that `max` comes from, if one holds.
    pub overridden: Option<Overridden>,
    /// Name of the plan's limit that is at least as strict, so that this one changes nothing.
    pub looser_than: Option<String>,
}

/// Every limit of a tenant, in the order in which they are checked.
pub fn effective(snapshot: &Snapshot) -> Vec<Effective> {
    let entry = |limit: &Limit| Effective {
        name: limit.name.clone(),
        identity: limit.identity.clone(),
        per: limit.per,
        max: limit.max,
        burst: limit.burst,
        window: limit.window,
        mode: limit.mode,
        rollout_percent: limit.rollout_percent,
        source: limit.origin.clone(),
        overridden: limit.overridden.clone(),
        looser_than: covering(limit, &snapshot.limits).map(|plan| plan.name.clone()),
    };
    snapshot.limits.iter().map(entry).collect()
}

/// The limit of the plan that makes `limit` of a namespace without effect: it counts at least what `limit` counts, for
/// at least as many, for every user, and admits no more.
pub fn covering<'a>(limit: &Limit, all: &'a [Limit]) -> Option<&'a Limit> {
    if limit.origin.kind == PLAN {
        return None;
    }
    all.iter().find(|plan| {
        plan.origin.kind == PLAN
            && plan.mode == Mode::Enforce
            && plan.rollout_percent >= 100
            && plan.window == limit.window
            && plan.measure == limit.measure
            && (plan.per == limit.per || plan.per == Per::Tenant)
            && (plan.matches == Match::default() || plan.matches == limit.matches)
            && plan.max.saturating_add(plan.burst) <= limit.max
    })
}

/// Kind of the origin of a plan's limits.
pub const PLAN: &str = "Plan";

#[cfg(test)]
#[path = "effective_tests.rs"]
mod tests;
