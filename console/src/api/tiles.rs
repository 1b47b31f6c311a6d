//! Cuts a range into buckets by the tenant's calendar.

use jiff::tz::TimeZone;
use policy::tenant::TenantPolicy;
use policy::window::{self, Window};

use super::range::Range;
use crate::problem::Problem;

/// The tenant's zone.
///
/// # Errors
/// 500: a policy in force has a zone that is known.
pub fn zone(policy: &TenantPolicy) -> Result<TimeZone, Problem> {
    window::zone(&policy.snapshot().time_zone).map_err(|error| {
        tracing::error!(tenant = %policy.name(), error, "a policy in force has an unknown zone");
        Problem::internal()
    })
}

/// Starts of the periods that touch the range, in order; the first begins at or before the range. `None` when there
/// are more than `max`.
pub fn starts(range: Range, window: Window, zone: &TimeZone, max: usize) -> Option<Vec<i64>> {
    let mut starts = Vec::new();
    let mut at = range.from_ms;
    while at < range.to_ms {
        if starts.len() == max {
            return None;
        }
        let period = window.period(at, zone);
        starts.push(period.start_ms);
        // A period always ends after the moment it holds; the bound keeps a broken calendar from looping.
        at = period.end_ms.max(at + 1);
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    fn tile(from: &str, to: &str, window: Window, zone: &str) -> Vec<String> {
        let range = Range { from_ms: ms(from), to_ms: ms(to) };
        let starts = starts(range, window, &window::zone(zone).unwrap(), 1_000).unwrap();
        starts.into_iter().map(window::rfc3339).collect()
    }

    #[test]
    fn buckets_follow_the_local_calendar() {
        let days = tile("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", Window::Day, "Europe/Zurich");
        assert_eq!(
            days,
            ["2026-10-23T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"],
            "a day of 25 hours"
        );
        let hours = tile("2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", Window::Hour, "Europe/Zurich");
        assert_eq!(
            hours,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"],
            "the repeated hour is two buckets"
        );
        let quarter = tile("2026-01-01T00:00:00Z", "2026-01-01T00:30:00.001Z", Window::Hour, "Asia/Kolkata");
        assert_eq!(quarter, ["2025-12-31T23:30:00Z", "2026-01-01T00:30:00Z"]);
    }

    #[test]
    fn their_number_is_bounded() {
        let zone = TimeZone::UTC;
        let range = Range { from_ms: 0, to_ms: 1_000 * 60_000 };
        assert_eq!(starts(range, Window::Minute, &zone, 1_000).map(|starts| starts.len()), Some(1_000));
        let longer = Range { to_ms: range.to_ms + 1, ..range };
        assert_eq!(starts(longer, Window::Minute, &zone, 1_000), None);
    }
}
