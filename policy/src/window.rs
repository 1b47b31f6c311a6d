//! Calendar windows: where a quota's period begins and ends in the tenant's time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit};
use serde::{Deserialize, Serialize};

/// How long a quota counts before it starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// A second of Unix time.
    Second,
    /// A minute of Unix time.
    Minute,
    /// An hour of the local clock.
    Hour,
    /// A local day: 23 to 25 hours when clocks change.
    Day,
    /// A local month.
    Month,
    /// Never starts anew.
    Total,
}

/// All windows, for whoever creates something for each.
pub const WINDOWS: [Window; 6] =
    [Window::Second, Window::Minute, Window::Hour, Window::Day, Window::Month, Window::Total];

/// One period of a window: `start_ms <= t < end_ms`, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    /// First millisecond.
    pub start_ms: i64,
    /// First millisecond of the next period; `i64::MAX` for `Total`.
    pub end_ms: i64,
}

impl Period {
    /// Whether `now_ms` lies in the period.
    pub fn contains(&self, now_ms: i64) -> bool {
        self.start_ms <= now_ms && now_ms < self.end_ms
    }
}

impl Window {
    /// As in bucket names: `hour`, `day`, …
    pub const fn label(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Whether its ledger may live in memory: a lost record then costs at most one short window.
    pub const fn is_rate(self) -> bool {
        matches!(self, Self::Second | Self::Minute)
    }

    /// The period that `now_ms` lies in.
    ///
    /// Local hours that occur twice when clocks go back are two periods, because each starts at its own instant.
    pub fn period(self, now_ms: i64, zone: &TimeZone) -> Period {
        let fixed = |length_ms: i64| {
            let start_ms = now_ms.div_euclid(length_ms) * length_ms;
            Period { start_ms, end_ms: start_ms + length_ms }
        };
        match self {
            Self::Second => fixed(1_000),
            Self::Minute => fixed(60_000),
            Self::Hour => hour(now_ms, zone),
            Self::Day => days(now_ms, zone, |date| date, 1.day()),
            Self::Month => days(now_ms, zone, |date| date.first_of_month(), 1.month()),
            Self::Total => Period { start_ms: 0, end_ms: i64::MAX },
        }
    }
}

const HOUR_MS: i64 = 3_600_000;

/// Zones are offset by quarters of an hour at the least, so local hours begin where Unix time plus offset does.
fn hour(now_ms: i64, zone: &TimeZone) -> Period {
    let now = timestamp(now_ms);
    let offset_ms = i64::from(zone.to_offset(now).seconds()) * 1_000;
    let mut start_ms = (now_ms + offset_ms).div_euclid(HOUR_MS) * HOUR_MS - offset_ms;
    let mut end_ms = start_ms + HOUR_MS;
    // A change of offset inside the hour cuts it (Lord Howe moves by 30 minutes): both parts are periods.
    if let Some(change) = zone.preceding(timestamp(end_ms)).next() {
        let at_ms = change.timestamp().as_millisecond();
        if at_ms > start_ms && at_ms <= now_ms {
            start_ms = at_ms;
        } else if at_ms > now_ms {
            end_ms = end_ms.min(at_ms);
        }
    }
    Period { start_ms, end_ms }
}

fn days(now_ms: i64, zone: &TimeZone, first: impl Fn(Date) -> Date, length: Span) -> Period {
    let date = first(timestamp(now_ms).to_zoned(zone.clone()).date());
    let begin = |date: Date| {
        // Where midnight does not exist, the day begins with the first instant that does.
        date.to_zoned(zone.clone()).map_or(i64::MAX, |start| start.timestamp().as_millisecond())
    };
    let next = date.checked_add(length).map_or(i64::MAX, begin);
    Period { start_ms: begin(date), end_ms: next }
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Reads an IANA zone name with the bundled database, so that every build agrees on it.
///
/// # Errors
/// When there is no such zone.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| format!("{name:?} is not an IANA time zone"))
}

/// How far from `now_ms` a period still has to run, in whole milliseconds, at least one.
pub fn remaining_ms(period: &Period, now_ms: i64) -> u64 {
    u64::try_from(period.end_ms.saturating_sub(now_ms)).unwrap_or(0).max(1)
}

/// Start of a period as people read it (RFC 3339, UTC).
pub fn rfc3339(ms: i64) -> String {
    timestamp(ms).round(Unit::Millisecond).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn period(window: Window, zone_name: &str, now: &str) -> (String, String) {
        let period = window.period(ms(now), &zone(zone_name).unwrap());
        assert!(period.contains(ms(now)), "{period:?} holds {now}");
        (rfc3339(period.start_ms), rfc3339(period.end_ms))
    }

    #[test]
    fn periods_begin_by_the_local_calendar() {
        let cases = [
            (
                Window::Day,
                "Europe/Zurich",
                "2026-07-01T12:00:00Z",
                "2026-06-30T22:00:00Z",
                "2026-07-01T22:00:00Z",
            ),
            // Clocks go forward: 23 hours; back: 25 hours.
            (
                Window::Day,
                "Europe/Zurich",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                "2026-03-29T22:00:00Z",
            ),
            (
                Window::Day,
                "Europe/Zurich",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
            // Midnight that does not exist.
            (
                Window::Day,
                "America/Asuncion",
                "2023-10-01T12:00:00Z",
                "2023-10-01T04:00:00Z",
                "2023-10-02T03:00:00Z",
            ),
            (Window::Month, "UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (
                Window::Month,
                "Asia/Tokyo",
                "2026-12-31T15:00:00Z",
                "2026-12-31T15:00:00Z",
                "2027-01-31T15:00:00Z",
            ),
            (
                Window::Hour,
                "Asia/Kolkata",
                "2026-01-01T00:10:00Z",
                "2025-12-31T23:30:00Z",
                "2026-01-01T00:30:00Z",
            ),
            // The repeated hour is two periods.
            (
                Window::Hour,
                "Europe/Zurich",
                "2026-10-25T00:30:00Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
            ),
            (
                Window::Hour,
                "Europe/Zurich",
                "2026-10-25T01:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z",
            ),
            (
                Window::Minute,
                "UTC",
                "2026-01-01T00:00:59.999Z",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:01:00Z",
            ),
        ];
        for (window, zone_name, now, start, end) in cases {
            assert_eq!(
                period(window, zone_name, now),
                (start.to_owned(), end.to_owned()),
                "{window:?} {zone_name}"
            );
        }
    }

    #[test]
    fn hours_tile_the_day_where_clocks_move_by_half_an_hour() {
        let zone = zone("Australia/Lord_Howe").unwrap();
        let (mut at, end) = (ms("2026-04-04T00:00:00Z"), ms("2026-04-06T00:00:00Z"));
        at = Window::Hour.period(at, &zone).start_ms;
        while at < end {
            let period = Window::Hour.period(at, &zone);
            assert_eq!(period.start_ms, at, "periods neither overlap nor leave gaps");
            assert_eq!(
                Window::Hour.period(period.end_ms - 1, &zone),
                period,
                "a period is the same all through"
            );
            at = period.end_ms;
        }
    }

    #[test]
    fn unknown_zones_are_refused() {
        assert!(zone("Mars/Olympus").is_err());
        assert!(zone("").is_err());
    }
}
