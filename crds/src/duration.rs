//! Durations as people write them: `90d`, `12h`, `30m`, `10s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A positive duration in one unit: days, hours, minutes or seconds. Written back as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duration {
    text: Cow<'static, str>,
    millis: u64,
}

/// Why a text is not a [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: a whole number without leading zero and one of d, h, m, s, like 90d or 30m"
)]
pub struct InvalidDuration(String);

const PATTERN: &str = "^[1-9][0-9]{0,6}(d|h|m|s)$";

impl Duration {
    /// One day.
    pub const DAY: Self = Self { text: Cow::Borrowed("24h"), millis: 86_400_000 };

    /// One week.
    pub const WEEK: Self = Self { text: Cow::Borrowed("7d"), millis: 604_800_000 };

    /// Length in milliseconds.
    pub const fn millis(&self) -> u64 {
        self.millis
    }

    /// Length in whole seconds.
    pub const fn seconds(&self) -> u64 {
        self.millis / 1_000
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;
    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let not = || InvalidDuration(text.to_owned());
        let unit = match text.chars().last() {
            Some('d') => 86_400_000,
            Some('h') => 3_600_000,
            Some('m') => 60_000,
            Some('s') => 1_000,
            _ => return Err(not()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty()
            || digits.len() > 7
            || digits.starts_with('0')
            || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(not());
        }
        let count: u64 = digits.parse().map_err(|_| not())?;
        Ok(Self { text: Cow::Owned(text.to_owned()), millis: count * unit })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 8})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, seconds) in
            [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("10s", 10), ("9999999d", 863_999_913_600)]
        {
            let duration: Duration = text.parse().unwrap();
            assert_eq!((duration.seconds(), duration.millis()), (seconds, seconds * 1_000), "{text}");
            assert_eq!(duration.to_string(), text);
        }
        for bad in
            ["", "d", "0d", "01h", "1.5h", "-1d", "+1d", "1w", "1h30m", "90 d", "10000000d", "1ms", "1ä"]
        {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }
}
