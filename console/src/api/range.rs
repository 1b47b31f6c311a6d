//! The time range of a request: half-open, `from <= time < to`.

use jiff::Timestamp;

use crate::problem::Problem;

/// Longest range of one request.
pub const MAX_RANGE_DAYS: i64 = 400;
const MINUTE_MS: i64 = 60_000;
/// An hour of Unix time, milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// 24 hours, milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// 2200-01-01: beyond it a time is a mistake, and ClickHouse's calendar ends soon after.
const LATEST_MS: i64 = 7_258_118_400_000;

/// A range of event times, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First millisecond.
    pub from_ms: i64,
    /// First millisecond after it.
    pub to_ms: i64,
}

impl Range {
    /// Reads `from` and `to`; `to` defaults to now, `from` to `default_ms` before `to`.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn parse(
        from: Option<&str>,
        to: Option<&str>,
        now_ms: i64,
        default_ms: i64,
    ) -> Result<Self, Problem> {
        let to_ms = to.map_or(Ok(now_ms), |text| moment("to", text, now_ms))?;
        let from_ms = match from {
            Some(text) => moment("from", text, now_ms)?,
            None => (to_ms - default_ms).max(0),
        };
        if from_ms >= to_ms {
            return Err(Problem::bad_request("from", "must lie before to"));
        }
        if to_ms - from_ms > MAX_RANGE_DAYS * DAY_MS {
            let detail = format!("lies more than {MAX_RANGE_DAYS} days before to: ask for a shorter range");
            return Err(Problem::bad_request("from", detail));
        }
        Ok(Self { from_ms, to_ms })
    }

    /// Length in milliseconds.
    pub fn length_ms(self) -> i64 {
        self.to_ms - self.from_ms
    }
}

/// `now`, `now-24h` or an RFC 3339 time; fractions of a millisecond are rounded up, because events have none.
fn moment(field: &str, text: &str, now_ms: i64) -> Result<i64, Problem> {
    let ms = match text.strip_prefix("now") {
        Some(rest) => relative(rest).and_then(|back_ms| now_ms.checked_sub(back_ms)),
        None => text.parse::<Timestamp>().ok().map(milliseconds),
    };
    let ms = ms.ok_or_else(|| {
        let hint = if text.contains(' ') { "; write the + of an offset as %2B" } else { "" };
        let detail =
            format!("is neither a time such as 2026-01-31T09:30:00Z nor now, now-15m, now-24h, now-7d{hint}");
        Problem::bad_request(field, detail)
    })?;
    if (0..=LATEST_MS).contains(&ms) {
        Ok(ms)
    } else {
        Err(Problem::bad_request(field, "must lie between 1970 and 2200"))
    }
}

fn milliseconds(time: Timestamp) -> i64 {
    let ms = time.as_millisecond();
    // `as_millisecond` cuts towards zero: only what lies after it is rounded up.
    if time.as_nanosecond() > i128::from(ms) * 1_000_000 { ms + 1 } else { ms }
}

/// Milliseconds of `` (none), `-15m`, `-24h`, `-7d` or `-2w`.
fn relative(rest: &str) -> Option<i64> {
    if rest.is_empty() {
        return Some(0);
    }
    let rest = rest.strip_prefix('-')?;
    let unit_ms = match rest.chars().next_back()? {
        's' => 1_000,
        'm' => MINUTE_MS,
        'h' => HOUR_MS,
        'd' => DAY_MS,
        'w' => 7 * DAY_MS,
        _ => return None,
    };
    let digits = &rest[..rest.len() - 1];
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_132_800_000;

    fn parse(from: Option<&str>, to: Option<&str>) -> Result<(i64, i64), String> {
        Range::parse(from, to, NOW, DAY_MS)
            .map(|range| (range.from_ms - NOW, range.to_ms - NOW))
            .map_err(|problem| problem.field().unwrap_or_default().to_owned())
    }

    #[test]
    fn ranges_are_absolute_relative_or_the_last_day() {
        let cases = [
            (None, None, (-DAY_MS, 0)),
            (None, Some("now-1d"), (-2 * DAY_MS, -DAY_MS)),
            (Some("now-90s"), None, (-90_000, 0)),
            (Some("now-15m"), Some("now-0m"), (-15 * MINUTE_MS, 0)),
            (Some("now-2w"), Some("now"), (-14 * DAY_MS, 0)),
            (Some("2026-11-19T23:00:00Z"), Some("2026-11-20T01:00:00+01:00"), (-3_600_000, 0)),
            (Some("2026-11-19T23:59:59.9990001Z"), Some("2026-11-20T00:00:00.0000001Z"), (0, 1)),
            (Some("now-400d"), None, (-400 * DAY_MS, 0)),
        ];
        for (from, to, expected) in cases {
            assert_eq!(parse(from, to), Ok(expected), "{from:?} {to:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (Some("yesterday"), None, "from"),
            (Some(""), None, "from"),
            (Some("now-"), None, "from"),
            (Some("now-+1d"), None, "from"),
            (Some("now-1y"), None, "from"),
            (Some("now-é"), None, "from"),
            (Some("now-99999999999999999999d"), None, "from"),
            (Some("now-9223372036854775807w"), None, "from"),
            (Some("now-100000d"), None, "from"),
            (Some("2026-11-20"), None, "from"),
            (Some("2026-11-20T00:00:00"), None, "from"),
            (None, Some("9999-01-01T00:00:00Z"), "to"),
            (None, Some("1969-12-31T23:59:59Z"), "to"),
            (Some("now"), Some("now"), "from"),
            (Some("now"), Some("now-1h"), "from"),
            (Some("now-401d"), None, "from"),
        ];
        for (from, to, field) in cases {
            assert_eq!(parse(from, to), Err(field.to_owned()), "{from:?} {to:?}");
        }
        let unescaped = Range::parse(Some("2026-11-20T00:00:00 01:00"), None, NOW, DAY_MS).unwrap_err();
        assert!(format!("{unescaped:?}").contains("%2B"), "a + in a query string is read as a space");
    }
}
