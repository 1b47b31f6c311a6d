//! Which days of a lane are to be built now.

use clickhouse::Day;
use clickhouse::rollups::DayState;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How long after its last event a day may still be built. Its first rows go six hours later, at the earliest: a lane keeps
/// events for at least two days more than they may be late.
const SEALING_MS: i64 = 18 * HOUR_MS;
/// Rows that queries may have to add to a build, at most, or this share of the day.
const MANY: u64 = 2_000;
const SHARE: u64 = 50;
/// A day that was never built is built when older ones are still whole: rows of so many days before it are there.
const WHOLE_DAYS: i64 = 3;

/// What the process was told.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Days after its end for which events of a day may arrive.
    pub late_days: u32,
    /// Most time that a build stays behind, milliseconds.
    pub every_ms: i64,
}

impl Rules {
    /// The first day of which nothing has gone yet, whatever the lane's retention.
    pub fn since(self, now_ms: i64) -> Option<Day> {
        Day::of(now_ms - SEALING_MS - i64::from(self.late_days) * DAY_MS - DAY_MS)
    }

    fn is_open(self, day: Day, now_ms: i64) -> bool {
        now_ms < day.end_ms() + i64::from(self.late_days) * DAY_MS + SEALING_MS
    }

    /// Days to build, in order. In a lane of one tenant (`alone`) days go one after the other, so that what was there before
    /// there were rollups can be summed up as well.
    pub fn due(self, days: &[DayState], now_ms: i64, alone: bool) -> Vec<Day> {
        let first_ms = days.iter().map(|state| state.day.start_ms()).min();
        let is_whole = |day: Day| first_ms.is_some_and(|first| first + WHOLE_DAYS * DAY_MS <= day.start_ms());
        let is_due = |state: &&DayState| {
            let may = match state.build {
                _ if self.is_open(state.day, now_ms) => true,
                None => alone && is_whole(state.day),
                // It is sealed.
                Some(_) => false,
            };
            let built_ms = state.build.map_or(i64::MIN, |build| i64::try_from(build).unwrap_or(i64::MAX));
            let waited = now_ms.saturating_sub(built_ms) >= self.every_ms;
            may && state.newer > 0 && (waited || state.newer >= MANY.max(state.rows / SHARE))
        };
        days.iter().filter(is_due).map(|state| state.day).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000 * DAY_MS + 13 * HOUR_MS;
    const RULES: Rules = Rules { late_days: 8, every_ms: HOUR_MS };

    fn day(back: i64) -> Day {
        Day::of(NOW - back * DAY_MS).unwrap()
    }

    fn state(back: i64, rows: u64, newer: u64, built_ago_ms: Option<i64>) -> DayState {
        let build = built_ago_ms.map(|ago| u64::try_from(NOW - ago).unwrap());
        DayState { day: day(back), rows, newer, build }
    }

    #[test]
    fn a_day_is_built_when_much_is_new_or_something_has_been_for_long() {
        let cases = [
            (state(0, 10, 10, None), true),
            (state(0, 10, 0, None), false),
            (state(0, 10, 1, Some(HOUR_MS - 1)), false),
            (state(0, 10, 1, Some(HOUR_MS)), true),
            (state(3, 1_000_000, 19_999, Some(1)), false),
            (state(3, 1_000_000, 20_000, Some(1)), true),
            (state(3, 3_000, 2_000, Some(1)), true),
            (state(3, 3_000, 1, Some(-DAY_MS)), false),
        ];
        for (state, expected) in cases {
            assert_eq!(!RULES.due(&[state], NOW, true).is_empty(), expected, "{state:?}");
        }
    }

    #[test]
    fn a_day_is_sealed_before_its_first_row_goes() {
        // 13:00 of day 1000: events of day 991 came until 00:00, and its rows go from day 1001 on.
        assert!(RULES.is_open(day(9), NOW) && RULES.is_open(day(9), NOW + 5 * HOUR_MS - 1));
        assert!(!RULES.is_open(day(9), NOW + 5 * HOUR_MS));
        assert!(RULES.due(&[state(10, 9, 9, Some(DAY_MS))], NOW, true).is_empty());
        assert!(RULES.since(NOW) <= Some(day(9)));
    }

    #[test]
    fn days_from_before_there_were_rollups_are_built_once() {
        let days =
            [state(23, 1, 1, None), state(21, 9, 9, None), state(20, 9, 9, None), state(19, 9, 9, Some(0))];
        assert_eq!(RULES.due(&days, NOW, true), [day(20)], "the first days may be on their way out");
        assert!(RULES.due(&days, NOW, false).is_empty(), "tenants of a pool keep theirs for different times");
    }
}
