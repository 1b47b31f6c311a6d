//! Which events of an intent were removed, small enough for a bucket's value.
//!
//! As text it is a list of runs (`3,7+2` is 3, 7 and 8), or a bitmap in hex where that is shorter (`x` and a digit for
//! every four events): 100,000 events never need more than 25 KB.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of ordinals: places of events counted over all packs of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    ordinals: Vec<u32>,
}

impl FromIterator<u32> for Removed {
    fn from_iter<I: IntoIterator<Item = u32>>(ordinals: I) -> Self {
        let mut ordinals: Vec<u32> = ordinals.into_iter().collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        Self { ordinals }
    }
}

impl Removed {
    /// How many.
    pub fn len(&self) -> u32 {
        self.ordinals.len() as u32
    }

    /// Whether the event was removed.
    pub fn contains(&self, ordinal: u32) -> bool {
        self.ordinals.binary_search(&ordinal).is_ok()
    }

    fn runs(&self) -> String {
        let mut text = String::new();
        let mut at = 0;
        while let Some(first) = self.ordinals.get(at) {
            let length =
                self.ordinals[at..].iter().zip(*first..).take_while(|(have, want)| **have == *want).count();
            let comma = if at == 0 { "" } else { "," };
            let _ = match length {
                1 => write!(text, "{comma}{first}"),
                _ => write!(text, "{comma}{first}+{length}"),
            };
            at += length;
        }
        text
    }

    fn bitmap(&self) -> String {
        let digits = self.ordinals.last().map_or(0, |last| *last as usize / 4 + 1);
        let mut nibbles = vec![0u8; digits];
        for ordinal in &self.ordinals {
            nibbles[*ordinal as usize / 4] |= 1 << (ordinal % 4);
        }
        let digit = |nibble: &u8| char::from_digit(u32::from(*nibble), 16).unwrap_or('0');
        std::iter::once('x').chain(nibbles.iter().map(digit)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(digits) = text.strip_prefix('x') {
            let mut ordinals = Vec::new();
            for (at, digit) in (0u32..).zip(digits.chars()) {
                let nibble = digit.to_digit(16)?;
                ordinals.extend((0..4).filter(|bit| nibble >> bit & 1 == 1).map(|bit| at * 4 + bit));
            }
            return Some(Self { ordinals });
        }
        let mut ordinals = Vec::new();
        for run in text.split(',').filter(|run| !run.is_empty()) {
            let (first, length) = run.split_once('+').unwrap_or((run, "1"));
            let (first, length) = (first.parse::<u32>().ok()?, length.parse::<u32>().ok()?);
            ordinals.extend(first..first.checked_add(length)?);
        }
        Some(ordinals.into_iter().collect())
    }
}

impl Serialize for Removed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let runs = self.runs();
        let digits = self.ordinals.last().map_or(0, |last| *last as usize / 4 + 2);
        serializer.serialize_str(&if runs.len() <= digits { runs } else { self.bitmap() })
    }
}

impl<'de> Deserialize<'de> for Removed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no set of events")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shorter_form_is_written() {
        let json =
            |ordinals: &[u32]| serde_json::to_string(&ordinals.iter().copied().collect::<Removed>()).unwrap();
        assert_eq!(json(&[]), r#""""#);
        assert_eq!(json(&[3, 7, 8]), r#""x881""#);
        assert_eq!(json(&[3, 47, 48]), r#""3,47+2""#);
        assert_eq!(json(&[1000]), r#""1000""#);
        assert_eq!(json(&(0..100_000).collect::<Vec<_>>()), r#""0+100000""#);
        assert!(json(&(0..50_000).map(|n| n * 2).collect::<Vec<_>>()).len() <= 25_003);
    }

    proptest! {
        #[test]
        fn sets_survive_their_text(ordinals in prop::collection::vec(0u32..500, 0..200)) {
            let set: Removed = ordinals.iter().copied().collect();
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Removed>(&json).unwrap(), &set);
            prop_assert_eq!(Removed::parse(&set.runs()), Some(set.clone()));
            prop_assert_eq!(Removed::parse(&set.bitmap()), Some(set.clone()));
            prop_assert!(ordinals.iter().all(|ordinal| set.contains(*ordinal)));
        }
    }
}
