//! Whether a Tenant is accepted, together with its plan and with what already stands under its name.

use clickhouse::databases::Kept;
use crds::{Plan, Tenant, tenant};
use event::TenantName;
use kube::ResourceExt;
use policy::compile::{Override, RuleInput};
use policy::limit::Measure;
use policy::snapshot::EventWindow;
use policy::window::{self, Window};

use super::build::Placed;
use crate::conditions::Why;
use crate::context::Settings;
use crate::controllers::orders::Orders;
use crate::controllers::ownership::Owner;
use crate::snapshot::assemble::Terms;
use crate::snapshot::judge;
use crate::snapshot::rules::not_supported;

/// Retention where neither the tenant nor its plan says anything.
const DEFAULT_RETENTION_DAYS: u32 = 90;
/// The same of rollups.
const DEFAULT_ROLLUP_DAYS: u32 = 730;
/// Pool where the plan names none.
const DEFAULT_POOL: &str = "default";
/// Longest retention.
const MAX_RETENTION_DAYS: u64 = 3_650;
const DAY_SECONDS: u64 = 86_400;
/// Storage that a lane reserves an event of the monthly quota.
const BYTES_AN_EVENT: u64 = 1_024;

/// A tenant that is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// UID of the Tenant.
    pub uid: String,
    /// What the Tenant says, for the snapshot.
    pub terms: Terms,
    /// Limits of its plan; each may be refused by itself.
    pub rules: Vec<(String, Result<RuleInput, Why>)>,
    /// Overrides that name no limit of the plan.
    pub idle_overrides: Vec<String>,
    /// Days for which its data are kept, as far as the Tenant says so itself.
    pub own_retention: Placed,
    /// Days for which the plan keeps them, for a tenant that is placed now.
    pub plan_retention: Kept,
    /// Bytes that the lane should reserve.
    pub lane_bytes: u64,
    /// Whether data of an earlier tenant may be taken over.
    pub adoption: tenant::Adoption,
    /// Whether it has a lane of its own, if the Tenant says so itself.
    pub own_isolation: Option<tenant::Isolation>,
    /// Whether it gets one when it is placed now.
    pub plan_isolation: tenant::Isolation,
    /// The pool that it goes to when it is placed now, and pooled.
    pub pool: String,
    /// What its annotations ask for.
    pub orders: Orders,
}

impl Validated {
    /// Who claims what stands under the tenant's names.
    pub fn owner<'a>(&'a self, installation: &'a str, name: &'a TenantName) -> Owner<'a> {
        let name = name.as_str();
        let (uid, adoption) = (self.uid.as_str(), self.adoption);
        Owner { installation, kind: "tenant", name, stamped: name, uid, adoption }
    }
}

/// Why a tenant is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Something it refers to may still come.
    Waiting(Why),
    /// Somebody has to change the Tenant.
    Final(Why),
}

impl Refusal {
    /// Reason and sentence.
    pub fn why(&self) -> &Why {
        match self {
            Self::Waiting(why) | Self::Final(why) => why,
        }
    }
}

/// Validates a Tenant with its plan.
///
/// # Errors
/// Why it is not accepted, naming the field.
pub fn validate(tenant: &Tenant, plan: Option<&Plan>, settings: &Settings) -> Result<Validated, Refusal> {
    let spec = &tenant.spec;
    let plan = plan.ok_or_else(|| {
        Refusal::Waiting(Why::new(
            "WaitingForPlan",
            format!("spec.planRef.name: there is no Plan {:?}", spec.plan_ref.name),
        ))
    })?;
    window::zone(&spec.time_zone).map_err(|message| invalid("spec.timeZone", &message))?;
    if spec.backfill.as_ref().is_some_and(|backfill| backfill.millis() != EventWindow::default().past_ms) {
        return Err(Refusal::Final(not_supported("spec.backfill", "a backfill other than 7d")));
    }
    let own_retention = retention(spec.retention.as_ref(), "spec.retention", settings)?;
    let plan_retention = retention(plan.spec.retention.as_ref(), "the plan's spec.retention", settings)?;
    within_ceiling(tenant, plan)?;
    let rules = judge::plan_rules(plan);
    Ok(Validated {
        uid: tenant.uid().unwrap_or_default(),
        terms: terms(tenant),
        idle_overrides: idle_overrides(tenant, plan),
        lane_bytes: lane_bytes(&rules, settings.lane_max_bytes),
        rules,
        own_retention,
        plan_retention: Kept {
            events_days: plan_retention.events_days.unwrap_or(DEFAULT_RETENTION_DAYS),
            rollups_days: plan_retention.rollups_days.unwrap_or(DEFAULT_ROLLUP_DAYS),
        },
        adoption: spec.adoption,
        own_isolation: spec.isolation,
        plan_isolation: plan.spec.isolation.unwrap_or_default(),
        pool: plan.spec.pool.clone().unwrap_or_else(|| DEFAULT_POOL.to_owned()),
        orders: Orders::of(tenant),
    })
}

fn invalid(field: &str, message: &str) -> Refusal {
    Refusal::Final(Why::new("Invalid", format!("{field}: {message}")))
}

fn terms(tenant: &Tenant) -> Terms {
    let spec = &tenant.spec;
    let overrides = spec.overrides.iter().map(|over| Override {
        name: over.name.clone(),
        max: over.max.value(),
        until_ms: over.until.map(|until| until.as_millisecond()),
    });
    Terms {
        display_name: spec.display_name.clone().unwrap_or_else(|| tenant.name_any()),
        time_zone: spec.time_zone.clone(),
        event_window: EventWindow::default(),
        overrides: overrides.collect(),
    }
}

fn idle_overrides(tenant: &Tenant, plan: &Plan) -> Vec<String> {
    let known = |name: &str| plan.spec.limits.iter().any(|limit| limit.name == name);
    tenant.spec.overrides.iter().map(|over| over.name.clone()).filter(|name| !known(name)).collect()
}

fn retention(
    retention: Option<&crds::limit::Retention>,
    field: &str,
    settings: &Settings,
) -> Result<Placed, Refusal> {
    let late = EventWindow::default().past_ms / 1_000 + settings.lane_age.as_secs();
    // A day is summed up for the last time in the day behind the last event that can come for it, and its first rows go a day
    // earlier than its last.
    let least = late.div_ceil(DAY_SECONDS) + 2;
    let days = |of: &str, kept: Option<&crds::Duration>| {
        kept.map(|kept| whole_days(&format!("{field}.{of}"), kept, least)).transpose()
    };
    Ok(Placed {
        events_days: days("events", retention.and_then(|retention| retention.events.as_ref()))?,
        rollups_days: days("rollups", retention.and_then(|retention| retention.rollups.as_ref()))?,
    })
}

/// Whole days, as many as are needed to store and sum up what is late.
fn whole_days(field: &str, kept: &crds::Duration, least: u64) -> Result<u32, Refusal> {
    let days = kept.seconds() / DAY_SECONDS;
    if !kept.seconds().is_multiple_of(DAY_SECONDS) {
        return Err(invalid(field, &format!("{kept} is not a number of whole days")));
    }
    if days < least || days > MAX_RETENTION_DAYS {
        let message =
            format!("{kept} is not between {least}d (events may be that late) and {MAX_RETENTION_DAYS}d");
        return Err(invalid(field, &message));
    }
    u32::try_from(days).map_err(|error| invalid(field, &error.to_string()))
}

fn within_ceiling(tenant: &Tenant, plan: &Plan) -> Result<(), Refusal> {
    let ceiling = plan.spec.ceilings.as_ref().and_then(|ceilings| ceilings.retention.as_ref());
    let (Some(own), Some(ceiling)) = (&tenant.spec.retention, ceiling) else { return Ok(()) };
    for (field, own, most) in
        [("events", &own.events, &ceiling.events), ("rollups", &own.rollups, &ceiling.rollups)]
    {
        if let (Some(own), Some(most)) = (own, most)
            && own.millis() > most.millis()
        {
            let message = format!("spec.retention.{field}: {own} is more than the plan's ceiling, {most}");
            return Err(Refusal::Final(Why::new("CeilingExceeded", message)));
        }
    }
    Ok(())
}

/// Room for a month's events, as far as the plan limits them.
fn lane_bytes(rules: &[(String, Result<RuleInput, Why>)], most: u64) -> u64 {
    let monthly = rules.iter().filter_map(|(_, rule)| rule.as_ref().ok()).filter(|rule| {
        rule.window == Window::Month
            && rule.measure == Measure::Count
            && rule.matches == policy::limit::Match::default()
    });
    monthly.map(|rule| rule.max.saturating_mul(BYTES_AN_EVENT)).min().unwrap_or(most).min(most)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
pub(crate) mod tests;
