//! What a limit would have done to the events of the last day, from what is stored: the question, and the sentence.
//!
//! An event of a limit that counts takes one unit, and one that is refused takes none: so of the events of a period, in the order of their
//! receipt, those behind the cap would have been refused. That is one statement; nothing of an event leaves the store but three sums.
//! What it cannot answer is left to the console's simulation: sums, expressions, saved bursts, keys, totals, partial rollouts.

use crds::limit::{Measure, MeasureKind, Per, QuotaPeriod, RatePeriod};
use crds::{LimitRule, UsageLimit};
use event::TenantName;
use jiff::tz::TimeZone;
use policy::window::Window;
use serde::Deserialize;

use super::plan_edit::is_stricter_mode;
use super::review::Edit;

/// What is looked back at, milliseconds.
const DAY_MS: i64 = 86_400_000;

/// What is asked of the stored events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose events.
    pub tenant: TenantName,
    /// Events a period.
    pub max: u64,
    /// Whether each user has the limit, or all together.
    pub per_user: bool,
    /// Features that count; all when there are none.
    pub features: Vec<String>,
    /// Users that count; all when there are none.
    pub users: Vec<String>,
    /// The periods.
    pub periods: Periods,
    /// First moment of receipt that is told about, Unix milliseconds.
    pub from_ms: i64,
    /// First moment after it.
    pub to_ms: i64,
}

/// Where periods begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Periods {
    /// At every multiple of so many milliseconds.
    Every(i64),
    /// At these moments; the first one is not later than what is told about.
    At(Vec<i64>),
}

impl Asked {
    /// Receipt from which on events are counted: the beginning of the first period.
    pub fn counts_from_ms(&self) -> i64 {
        match &self.periods {
            Periods::Every(length_ms) => self.from_ms.div_euclid(*length_ms) * length_ms,
            Periods::At(starts) => starts.first().copied().unwrap_or(self.from_ms),
        }
    }
}

/// What the limit would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Impact {
    /// Events that it counts.
    pub events: u64,
    /// Events among them that it would have refused.
    pub blocked: u64,
    /// Users of these.
    pub users: u64,
}

/// What is asked about an edit of a limit of `tenant`; `None`: there is nothing new to tell, or it cannot be told.
pub fn asked(edit: &Edit<UsageLimit>, tenant: TenantName, zone: &TimeZone, now_ms: i64) -> Option<Asked> {
    let (spec, old) = (&edit.new.spec, edit.old.as_ref().map(|old| &old.spec));
    let in_force = old.filter(|old| !old.suspend);
    if spec.suspend || in_force.is_some_and(|old| !is_stricter(&old.rule, &spec.rule)) {
        return None;
    }
    let rule = &spec.rule;
    let counts = rule.measure.as_ref().is_none_or(|Measure { kind, .. }| *kind == MeasureKind::Count);
    let matches = rule.matches.clone().unwrap_or_default();
    if !counts || matches.expression.is_some() || rule.rollout_percent.is_some_and(|share| share < 100) {
        return None;
    }
    let per_user = match rule.per {
        Per::Tenant => false,
        Per::User => true,
        Per::ApiKey => return None,
    };
    let (max, window) = amount(rule)?;
    let from_ms = now_ms - DAY_MS;
    let (features, users) = (matches.features, matches.users);
    let periods = periods(window, zone, from_ms, now_ms);
    Some(Asked { tenant, max, per_user, features, users, periods, from_ms, to_ms: now_ms })
}

/// Whether an edit may refuse what the old form admitted.
fn is_stricter(old: &LimitRule, new: &LimitRule) -> bool {
    let lower = match (amount(old), amount(new)) {
        (Some((old, _)), Some((new, _))) => new < old,
        _ => true,
    };
    let of_all = |rule: &LimitRule| rule.rollout_percent.unwrap_or(100);
    lower || old.matches != new.matches || is_stricter_mode(old.mode, new.mode) || of_all(old) < of_all(new)
}

/// What is admitted a period, where that can be told from stored events.
fn amount(rule: &LimitRule) -> Option<(u64, Window)> {
    match (&rule.quota, &rule.rate) {
        (Some(quota), None) => {
            let window = match quota.period {
                QuotaPeriod::Hour => Window::Hour,
                QuotaPeriod::Day => Window::Day,
                QuotaPeriod::Month => Window::Month,
                QuotaPeriod::Total => return None,
            };
            Some((quota.max.value(), window))
        }
        (None, Some(rate)) if rate.burst.as_ref().is_none_or(|burst| burst.value() == 0) => {
            let window = match rate.period {
                RatePeriod::Second => Window::Second,
                RatePeriod::Minute => Window::Minute,
            };
            Some((rate.max.value(), window))
        }
        _ => None,
    }
}

fn periods(window: Window, zone: &TimeZone, from_ms: i64, to_ms: i64) -> Periods {
    let first = window.period(from_ms, zone);
    if window.is_rate() {
        return Periods::Every(first.end_ms - first.start_ms);
    }
    let next = |start_ms: &i64| Some(window.period(*start_ms, zone).end_ms);
    Periods::At(
        std::iter::successors(Some(first.start_ms), next).take_while(|start_ms| *start_ms < to_ms).collect(),
    )
}

/// The sentence, if there is something to say.
pub fn sentence(impact: &Impact) -> Option<String> {
    let Impact { events, blocked, users } = *impact;
    if blocked == 0 || events == 0 {
        return None;
    }
    // In tenths of a percent; below that, no share that looks like none.
    let tenths = blocked.saturating_mul(1_000) / events;
    let share = match tenths {
        0 => "less than 0.1".to_owned(),
        _ => format!("{}.{}", tenths / 10, tenths % 10),
    };
    let users = if users == 1 { "1 user".to_owned() } else { format!("{} users", grouped(users)) };
    let (blocked, events) = (grouped(blocked), grouped(events));
    Some(format!(
        "this limit would have blocked {share} % of the last day's events ({blocked} of {events}, {users})"
    ))
}

/// 12,400
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW_MS: i64 = 1_790_000_000_000;

    fn limit(spec: Value) -> UsageLimit {
        UsageLimit::new("a", serde_json::from_value(spec).unwrap())
    }

    fn about(new: Value, old: Option<Value>) -> Option<Asked> {
        let edit = Edit { new: limit(new), old: old.map(limit) };
        let zone = policy::window::zone("Europe/Zurich").unwrap();
        asked(&edit, "acme".parse().unwrap(), &zone, NOW_MS)
    }

    fn daily(max: u32) -> Value {
        json!({"per": "User", "quota": {"max": max, "period": "Day"}})
    }

    #[test]
    fn a_new_limit_is_asked_about_and_one_that_is_stricter() {
        let new = about(daily(5), None).unwrap();
        assert_eq!((new.max, new.per_user, new.to_ms - new.from_ms), (5, true, DAY_MS));
        assert!(about(daily(4), Some(daily(5))).is_some());
        assert!(about(daily(5), Some(daily(5))).is_none() && about(daily(6), Some(daily(5))).is_none());
        let with = |name: &str, value: Value| {
            let mut spec = daily(5);
            spec[name] = value;
            spec
        };
        assert!(about(with("match", json!({"features": ["a"]})), Some(daily(5))).is_some());
        assert!(about(daily(5), Some(with("suspend", json!(true)))).is_some(), "it comes into force");
        assert!(about(daily(5), Some(with("mode", json!("Observe")))).is_some());
        assert!(about(with("mode", json!("Warn")), Some(daily(5))).is_none());
        assert!(about(with("warnAt", json!([80])), Some(daily(5))).is_none());
    }

    #[test]
    fn what_stored_events_cannot_tell_is_not_asked() {
        for spec in [
            json!({"per": "ApiKey", "quota": {"max": 5, "period": "Day"}}),
            json!({"per": "User", "quota": {"max": 5, "period": "Total"}}),
            json!({"per": "User", "rate": {"max": 5, "period": "Second", "burst": 3}}),
            json!({"per": "User", "quota": {"max": 5, "period": "Day"}, "measure": {"type": "Sum", "field": "tokens"}}),
            json!({"per": "User", "quota": {"max": 5, "period": "Day"}, "match": {"expression": "true"}}),
            json!({"per": "User", "quota": {"max": 5, "period": "Day"}, "rolloutPercent": 10}),
            json!({"per": "User", "quota": {"max": 5, "period": "Day"}, "suspend": true}),
        ] {
            assert_eq!(about(spec.clone(), None), None, "{spec}");
        }
    }

    #[test]
    fn periods_begin_where_the_tenants_do() {
        let starts =
            |period: &str| match about(json!({"per": "Tenant", "quota": {"max": 5, "period": period}}), None)
            {
                Some(Asked { periods: Periods::At(starts), .. }) => starts,
                other => panic!("{other:?}"),
            };
        let days = starts("Day");
        assert_eq!(days.len(), 2);
        assert!(days[0] <= NOW_MS - DAY_MS && days[1] < NOW_MS && days[1] - days[0] == DAY_MS);
        assert_eq!(starts("Hour").len(), 25);
        assert_eq!(starts("Month").len(), 1);
        let rate = about(json!({"per": "Tenant", "rate": {"max": 5, "period": "Minute"}}), None).unwrap();
        assert_eq!((rate.periods.clone(), rate.counts_from_ms() % 60_000), (Periods::Every(60_000), 0));
    }

    #[test]
    fn the_sentence_says_share_numbers_and_users() {
        let said = |events, blocked, users| sentence(&Impact { events, blocked, users });
        assert_eq!(
            said(400_000, 12_400, 17).unwrap(),
            "this limit would have blocked 3.1 % of the last day's events (12,400 of 400,000, 17 users)"
        );
        assert_eq!(
            said(1_234_567, 1, 1).unwrap(),
            "this limit would have blocked less than 0.1 % of the last day's events (1 of 1,234,567, 1 user)"
        );
        assert!(said(999_999_999, 999_999_999, 9_999_999).unwrap().len() <= 120);
        assert_eq!((said(5, 0, 0), said(0, 0, 0)), (None, None));
    }
}
