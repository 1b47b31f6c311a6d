//! Whole numbers as people write them: `500`, `5M`, `10k`, `2Gi`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A whole number: an integer, or a text with a suffix (k M G T are powers of 1,000, Ki Mi Gi Ti of 1,024). No
/// fractions and no floats: limits are exact. Written back as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntOrQuantity {
    value: u64,
    text: Option<String>,
}

/// Why a text is not an [`IntOrQuantity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// Not digits with an optional suffix.
    #[error("{0:?} is not a quantity: a whole number, perhaps with one of k, M, G, T, Ki, Mi, Gi, Ti")]
    Format(String),
    /// More than [`IntOrQuantity::MAX`].
    #[error("{0:?} is more than {max}", max = IntOrQuantity::MAX)]
    TooLarge(String),
}

const PATTERN: &str = "^(0|[1-9][0-9]{0,14})(k|M|G|T|Ki|Mi|Gi|Ti)?$";

impl IntOrQuantity {
    /// Largest value: every client, JavaScript included, reads it exactly.
    pub const MAX: u64 = 9_007_199_254_740_991;

    /// The number.
    pub const fn value(&self) -> u64 {
        self.value
    }
}

impl From<u32> for IntOrQuantity {
    fn from(value: u32) -> Self {
        Self { value: u64::from(value), text: None }
    }
}

impl FromStr for IntOrQuantity {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let format = || InvalidQuantity::Format(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(split);
        let unit: u64 = match suffix {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(format()),
        };
        if digits.is_empty() || digits.len() > 15 || (digits.len() > 1 && digits.starts_with('0')) {
            return Err(format());
        }
        let count: u64 = digits.parse().map_err(|_| format())?;
        let value = count.checked_mul(unit).filter(|value| *value <= Self::MAX);
        let value = value.ok_or_else(|| InvalidQuantity::TooLarge(text.to_owned()))?;
        Ok(Self { value, text: Some(text.to_owned()) })
    }
}

impl fmt::Display for IntOrQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => write!(f, "{}", self.value),
        }
    }
}

impl Serialize for IntOrQuantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &self.text {
            Some(text) => s.serialize_str(text),
            None => s.serialize_u64(self.value),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrQuantity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(d)? {
            Written::Number(value) if value <= Self::MAX => Ok(Self { value, text: None }),
            Written::Number(value) => {
                Err(serde::de::Error::custom(InvalidQuantity::TooLarge(value.to_string())))
            }
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for IntOrQuantity {
    fn schema_name() -> Cow<'static, str> {
        "IntOrQuantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,

            "pattern": PATTERN,
            "maxLength": 17,
            "minimum": 0,
            "maximum": Self::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<u64, String> {
        serde_json::from_str::<IntOrQuantity>(json).map(|q| q.value()).map_err(|e| e.to_string())
    }

    #[test]
    fn quantities_are_whole_numbers() {
        let good = [
            ("500", 500),
            ("0", 0),
            (r#""5M""#, 5_000_000),
            (r#""10k""#, 10_000),
            (r#""2Gi""#, 2 << 30),
            (r#""7""#, 7),
        ];
        for (json, value) in good {
            assert_eq!(read(json), Ok(value), "{json}");
        }
        for bad in [
            "1.5",
            "-1",
            "1e3",
            r#""1.5M""#,
            r#""-1""#,
            r#""1e3""#,
            r#""05""#,
            r#""5m""#,
            r#""5K""#,
            r#""""#,
            r#""M""#,
            "true",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(r#""10000T""#).unwrap_err().contains("is more than"));
        assert!(read("9007199254740992").is_err());
    }

    #[test]
    fn quantities_are_written_back_as_read() {
        for json in ["500", r#""5M""#, r#""2Gi""#] {
            let quantity: IntOrQuantity = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
    }
}
