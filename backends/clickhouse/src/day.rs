//! Event days in UTC: the partitions of `events_raw`.

use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 86_400_000;
/// 1900-01-01 and 2299-12-31: what `DateTime64` holds.
const FIRST: i32 = -25_567;
const LAST: i32 = 120_529;

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(i32);

impl Day {
    /// The day of a moment in Unix milliseconds; `None` outside of 1900 to 2299, which no table can hold.
    pub fn of(time_ms: i64) -> Option<Self> {
        let day = i32::try_from(time_ms.div_euclid(DAY_MS)).ok()?;
        (FIRST..=LAST).contains(&day).then_some(Self(day))
    }

    /// Its first moment, in Unix milliseconds.
    pub const fn start_ms(self) -> i64 {
        self.0 as i64 * DAY_MS
    }

    /// The next day; `None` after 2299.
    pub fn next(self) -> Option<Self> {
        Self::of(self.end_ms())
    }

    /// The first moment of the next day, in Unix milliseconds.
    pub const fn end_ms(self) -> i64 {
        (self.0 as i64 + 1) * DAY_MS
    }

    /// The partition: `toYYYYMMDD(time)`.
    pub fn partition(self) -> u32 {
        // Howard Hinnant's `civil_from_days`, with years that begin in March.
        let z = i64::from(self.0) + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        u32::try_from(year * 10_000 + month * 100 + day).unwrap_or_default()
    }

    /// The day of a partition; `None` when there is no such day.
    pub fn from_partition(partition: u32) -> Option<Self> {
        let (year, month, day) =
            (i64::from(partition / 10_000), i64::from(partition / 100 % 100), i64::from(partition % 100));
        let year_from_march = if month <= 2 { year - 1 } else { year };
        let era = year_from_march.div_euclid(400);
        let year_of_era = year_from_march.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let found = Self(i32::try_from(era * 146_097 + day_of_era - 719_468).ok()?);
        (found.partition() == partition).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_clickhouse() {
        let cases = [
            (0, 19700101),
            (-1, 19691231),
            (1_700_000_000_000, 20231114),
            (1_709_164_800_000, 20240229),
            (Day(FIRST).start_ms(), 19000101),
            (Day(LAST).end_ms() - 1, 22991231),
        ];
        for (ms, partition) in cases {
            assert_eq!(Day::of(ms).map(Day::partition), Some(partition), "{ms}");
        }
        for day in FIRST..=LAST {
            assert_eq!(Day::from_partition(Day(day).partition()), Some(Day(day)));
        }
        for outside in [Day(FIRST).start_ms() - 1, Day(LAST).end_ms(), i64::MAX, i64::MIN] {
            assert_eq!(Day::of(outside), None, "{outside}");
        }
        assert_eq!(Day::from_partition(20230229), None);
    }
}
