//! An event's value: an exact decimal, never a float, because sums of it are billed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A decimal with six places, held in millionths. Stored as ClickHouse `Decimal(18, 6)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Decimal(i64);

/// Decimal places kept.
pub const SCALE: u32 = 6;
const ONE: i64 = 1_000_000;
/// Largest magnitude, in units: ClickHouse holds 18 digits, 6 of them behind the point.
pub const MAX_UNITS: i64 = 999_999_999_999;

/// Why a JSON number is not a [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a JSON number.
    #[error("is not a number")]
    NotANumber,
    /// Beyond ±999,999,999,999.
    #[error("is beyond ±{MAX_UNITS}")]
    TooLarge,
}

impl Decimal {
    /// From millionths.
    pub const fn from_millionths(millionths: i64) -> Self {
        Self(millionths)
    }

    /// In millionths.
    pub const fn millionths(self) -> i64 {
        self.0
    }

    /// The value as a whole number of units, if it is one and not negative: what a summed measure accepts.
    pub fn as_units(self) -> Option<u64> {
        if self.0 % ONE == 0 { u64::try_from(self.0 / ONE).ok() } else { None }
    }

    /// Reads the text of a JSON number exactly; digits behind the sixth place are rounded half to even.
    ///
    /// # Errors
    /// [`DecimalError`] when the text is no JSON number or too large.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.len() + fraction.len();
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(DecimalError::NotANumber);
        }
        // Position of the digit that is worth one millionth, counted from the left.
        let keep = whole.len() as i64 + exponent + i64::from(SCALE);
        let digit = |i: usize| {
            i64::from(
                if i < whole.len() { whole.as_bytes()[i] } else { fraction.as_bytes()[i - whole.len()] }
                    - b'0',
            )
        };
        let mut value: i64 = 0;
        for i in 0..keep.max(0) {
            let next = if (i as usize) < digits { digit(i as usize) } else { 0 };
            value = value.checked_mul(10).and_then(|v| v.checked_add(next)).ok_or(DecimalError::TooLarge)?;
            if value == 0 && i as usize >= digits {
                break;
            }
        }
        if keep >= 0 && (keep as usize) < digits {
            let first = digit(keep as usize);
            let more = (keep as usize + 1..digits).any(|i| digit(i) != 0);
            if first > 5 || (first == 5 && (more || value % 2 == 1)) {
                value += 1;
            }
        }
        if value > MAX_UNITS * ONE {
            return Err(DecimalError::TooLarge);
        }
        Ok(Self(if negative { -value } else { value }))
    }
}

/// Exponents are clamped: beyond ±1,000,000 a number is zero or too large whatever its digits.
fn parse_exponent(text: &str) -> Result<i64, DecimalError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let value = digits.parse::<i64>().unwrap_or(1_000_000).min(1_000_000);
    Ok(if negative { -value } else { value })
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, rest) = (self.0.unsigned_abs() / ONE as u64, self.0.unsigned_abs() % ONE as u64);
        if rest == 0 {
            return write!(f, "{sign}{units}");
        }
        write!(f, "{sign}{units}.{}", format!("{rest:06}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_numbers_are_read_exactly() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("1", 1_000_000),
            ("-12.5", -12_500_000),
            ("0.1", 100_000),
            ("0.30000000000000004", 300_000),
            ("0.0000005", 0),
            ("0.0000015", 2),
            ("0.00000051", 1),
            ("1e3", 1_000_000_000),
            ("1.5E-3", 1_500),
            ("25e-1", 2_500_000),
            ("0e999999999999", 0),
            ("1e-400", 0),
            ("999999999999", 999_999_999_999_000_000),
        ];
        for (text, millionths) in cases {
            assert_eq!(Decimal::parse(text), Ok(Decimal(millionths)), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in ["1e308", "1000000000000", "-1e13", "9".repeat(400).as_str(), "1e99999999999999999999"] {
            assert_eq!(Decimal::parse(text), Err(DecimalError::TooLarge), "{text}");
        }
        for text in ["", "-", ".5", "1e", "1e+", "NaN", "0x10", "1.2.3", "\"1\"", "null", "1 "] {
            assert_eq!(Decimal::parse(text), Err(DecimalError::NotANumber), "{text}");
        }
    }

    #[test]
    fn only_whole_and_not_negative_values_are_units() {
        assert_eq!(Decimal::parse("12").unwrap().as_units(), Some(12));
        assert_eq!(Decimal::parse("12.0").unwrap().as_units(), Some(12));
        assert_eq!(Decimal::parse("12.5").unwrap().as_units(), None);
        assert_eq!(Decimal::parse("-1").unwrap().as_units(), None);
    }

    #[test]
    fn text_form_is_short() {
        for (text, shown) in [("1.500", "1.5"), ("-0.000001", "-0.000001"), ("7", "7")] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), shown);
        }
    }
}
