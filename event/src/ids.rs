//! Identifiers that are numbers, and how each is written as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Lower-case base32 without padding (RFC 4648 alphabet, as DNS and NATS subjects allow it).
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Writes 128 bits as 26 base32 characters.
pub fn base32(value: u128) -> String {
    // 26 x 5 = 130 bits: the first character carries the top 3 bits.
    (0..26).rev().map(|i| BASE32[((value >> (5 * i)) & 31) as usize] as char).collect()
}

/// Why a text is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct NotAnId(String, &'static str);

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32(self.0))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let not = || NotAnId(text.to_owned(), $what);
                if text.len() != 26 {
                    return Err(not());
                }
                text.bytes().try_fold(0u128, |acc, c| {
                    let digit = BASE32.iter().position(|b| *b == c).ok_or_else(not)?;
                    if acc >> 123 != 0 {
                        return Err(not());
                    }
                    Ok((acc << 5) | digit as u128)
                }).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id128!(
    /// Identity of an event within its tenant: a keyed 128-bit hash of (source, id). Equal hashes are equal events:
    /// the key is secret, so nobody outside can search for a collision.
    EventHash,
    "an event hash"
);
id128!(
    /// A user's pseudonym: a keyed 128-bit hash of the user name. It stands in ledgers, violations and rows, so that
    /// names can later be encrypted or erased without touching them.
    UserKey,
    "a user key"
);
id128!(
    /// A pack's random identity and its `Nats-Msg-Id`.
    PackId,
    "a pack id"
);
id128!(
    /// One run of one process. A restart is a new incarnation.
    Incarnation,
    "an incarnation"
);

/// A tenant lineage as a number: the last 64 bits of the UID of the first Tenant that owned the data. Rows and packs
/// carry it, so a tenant that is deleted and created anew never sees its predecessor's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantNumber(pub u64);

impl TenantNumber {
    /// Reads the number out of a lineage UID (RFC 4122 text form).
    ///
    /// # Errors
    /// When `uid` is not a UUID.
    pub fn from_lineage(uid: &str) -> Result<Self, NotAnId> {
        let not = || NotAnId(uid.to_owned(), "a UUID");
        let hex: String = uid.chars().filter(|c| *c != '-').collect();
        if hex.len() != 32 {
            return Err(not());
        }
        u128::from_str_radix(&hex, 16).map(|bits| Self(bits as u64)).map_err(|_| not())
    }
}

impl fmt::Display for TenantNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form() {
        for value in [0, 1, u128::MAX, 1 << 127, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let id = PackId(value);
            assert_eq!(id.to_string().parse::<PackId>(), Ok(id));
        }
        assert!("".parse::<PackId>().is_err());
        assert!("z".repeat(26).parse::<PackId>().is_err(), "130 bits do not fit");
        assert!("A".repeat(26).parse::<PackId>().is_err());
    }

    #[test]
    fn tenant_number_is_the_low_half_of_the_uid() {
        let number = TenantNumber::from_lineage("00000000-0000-0001-8000-00000000002a").unwrap();
        assert_eq!(number.0, 0x8000_0000_0000_002a);
        assert!(TenantNumber::from_lineage("acme").is_err());
    }
}
