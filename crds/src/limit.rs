//! What a limit says, in a Plan as in a UsageLimit.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, IntOrQuantity};

/// A quota or a rate, what it counts and for whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitRule {
    /// Who has the limit: the tenant as a whole, each of its users, or each of its API keys. Immutable.
    pub per: Per,
    /// Which events count. Without it, all do.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// What is counted: events, or the sum of a number they carry. Immutable; without it, events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// A number of units a calendar period. Exactly one of quota and rate is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// A number of units a second or minute. Exactly one of quota and rate is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What happens beyond the limit: Observe records it, Warn also tells the client, Enforce refuses.
    #[serde(default)]
    pub mode: Mode,
    /// Share of the users (in percent, by a stable hash) for whom the mode holds; the others are observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub rollout_percent: Option<u8>,
    /// What happens while the quota ledger cannot be reached: Closed refuses, LastLease spends what is already leased,
    /// Open admits (only with mode Observe or Warn).
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// Percentages of the limit from which answers carry a warning header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(range(min = 1, max = 100)), extend("x-kubernetes-list-type" = "set"))]
    pub warn_at: Vec<u8>,
    /// Where a quota starts counting when it is new, or when what it counts changes: Period (the default) also counts what
    /// is stored of the current period, and refuses nothing until that is in; Creation counts from now on. With per ApiKey it
    /// is always Creation: stored events do not carry their key. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_from: Option<CountFrom>,
}

/// Who has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// The tenant as a whole.
    Tenant,
    /// Each user of the tenant.
    User,
    /// Each API key of the tenant.
    ApiKey,
}

/// Which events a limit counts: those that fit all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Features (event types): exact, or with `*` at the end, like report.*.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128), regex(pattern = r"^[^*]*\*?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub features: Vec<String>,
    /// Users (event subjects), exact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 128),
        inner(length(min = 1, max = 256)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub users: Vec<String>,
    /// CEL over `event` (id, source, type, subject, data), true for events that count. An event on which it cannot be
    /// evaluated, because a member is missing, does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub expression: Option<String>,
}

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Sum') == has(self.field)")
    .message("field is required with type Sum and not allowed with type Count").field_path(".field"))]
pub struct Measure {
    /// Count counts events, Sum adds up a number they carry.
    #[serde(rename = "type")]
    pub kind: MeasureKind,
    /// Member of the event's data that Sum adds up: a whole number; an event without it adds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_-]*$"))]
    pub field: Option<String>,
}

/// How a measure is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeasureKind {
    /// One an event.
    Count,
    /// A number of the event.
    Sum,
}

/// So many units a calendar period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Units that are admitted a period: a whole number, or a text like 5M, 10k or 2Gi.
    pub max: IntOrQuantity,
    /// The period, which begins in the tenant's time zone. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("period is immutable: create a limit of another name"))]
    pub period: QuotaPeriod,
}

/// Period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QuotaPeriod {
    /// From full hour to full hour.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first of the month.
    Month,
    /// For ever.
    Total,
}

/// So many units a second or minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Units that are admitted a second or minute.
    pub max: IntOrQuantity,
    /// The window. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("period is immutable: create a limit of another name"))]
    pub period: RatePeriod,
    /// Units that quiet time saves up, at most, to be spent beyond the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<IntOrQuantity>,
}

/// Window of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatePeriod {
    /// A second.
    Second,
    /// A minute.
    Minute,
}

/// What happens beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It is recorded.
    Observe,
    /// It is recorded and the client is told.
    Warn,
    /// The event is refused.
    #[default]
    Enforce,
}

/// What happens while the quota ledger cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum FailureMode {
    /// Events are refused.
    #[default]
    Closed,
    /// What is already leased is spent, then events are refused.
    LastLease,
    /// Events are admitted.
    Open,
}

/// Where counting starts when a limit is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CountFrom {
    /// With the first event of the current period that is stored.
    Period,
    /// With the first event after the limit is created.
    Creation,
}

/// How long data are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = outlives_what_is_late("events"), validation = outlives_what_is_late("rollups"),
    validation = rollups_outlive_events())]
pub struct Retention {
    /// Events, counted from their time: whole days, at least 10d, because an event may be 7d late and waits in its lane for a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Duration>,
    /// Hourly and daily sums, from which dashboards are drawn: at least as long as events; 730d where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollups: Option<Duration>,
}

/// A duration's seconds in CEL.
fn seconds(of: &str) -> String {
    let unit = |letter: &str, seconds: u32| format!("{of}.endsWith('{letter}') ? {seconds} : ");
    let units = [unit("d", 86_400), unit("h", 3_600), unit("m", 60)].concat();
    format!("int({of}.substring(0, {of}.size() - 1)) * ({units}1)")
}

/// A day is summed up and sealed before its first row goes, and nothing comes for a sealed day: 7d of backfill, a day in the lane,
/// a day to sum up, and one because a day's rows do not end at once.
fn outlives_what_is_late(field: &str) -> Rule {
    let of = format!("self.{field}");
    Rule::new(format!("!has({of}) || {} >= 864000", seconds(&of)))
        .message(format!("{field} must be kept for at least 10d: events may be that late").as_str())
        .field_path(format!(".{field}"))
}

/// Whoever reads rollups does not expect to know more of events.
fn rollups_outlive_events() -> Rule {
    let (events, rollups) = (seconds("self.events"), seconds("self.rollups"));
    Rule::new(format!("!has(self.events) || !has(self.rollups) || {rollups} >= {events}"))
        .message("rollups must be kept at least as long as events")
        .field_path(".rollups")
}

/// Exactly one of quota and rate.
pub(crate) fn quota_xor_rate() -> Rule {
    Rule::new("has(self.quota) != has(self.rate)").message("exactly one of quota and rate is required")
}

/// Per and measure never change, and a quota never becomes a rate: the counted amounts would change their meaning.
pub(crate) fn same_per() -> Rule {
    Rule::new("self.per == oldSelf.per")
        .message("per is immutable: create a limit of another name")
        .field_path(".per")
}

/// See [`same_per`].
pub(crate) fn same_measure() -> Rule {
    let measured = |of: &str| {
        format!(
            "(has({of}.measure) ? {of}.measure.type + '/' + (has({of}.measure.field) ? {of}.measure.field : '') : 'Count/')"
        )
    };
    Rule::new(format!("{} == {}", measured("self"), measured("oldSelf")))
        .message("measure is immutable: create a limit of another name")
}

/// See [`same_per`].
pub(crate) fn same_kind() -> Rule {
    Rule::new("has(self.quota) == has(oldSelf.quota)")
        .message("a quota cannot become a rate or the reverse: create a limit of another name")
}

/// What was counted stays counted.
pub(crate) fn same_start() -> Rule {
    Rule::new("has(self.countFrom) == has(oldSelf.countFrom) && (!has(self.countFrom) || self.countFrom == oldSelf.countFrom)")
        .message("countFrom is immutable: create a limit of another name")
        .field_path(".countFrom")
}

/// Open would make an enforced limit none at the worst moment.
pub(crate) fn open_is_not_enforced() -> Rule {
    Rule::new(
        "!has(self.failureMode) || self.failureMode != 'Open' || (has(self.mode) && self.mode != 'Enforce')",
    )
    .message("failureMode Open is allowed with mode Observe or Warn only")
    .field_path(".failureMode")
}
