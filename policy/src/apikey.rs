//! API keys: `mp_live_<52 base32 characters><6 checksum characters>`.
//!
//! The secret is 256 random bits, so a plain SHA-256 digest is enough to store; the checksum lets a pod and a secret
//! scanner tell a mistyped key from an unknown one without a look-up.

use std::fmt;

use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PREFIX: &str = "mp_live_";
const SECRET_CHARS: usize = 52;
const CHECK_CHARS: usize = 6;
/// Characters of a key that may be shown: enough to tell keys apart, too few to guess one.
const SHOWN_CHARS: usize = PREFIX.len() + 6;

/// SHA-256 of a key's text: what snapshots carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Digest of a key as it was sent.
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Post events.
    Ingest,
    /// Read dashboards.
    Read,
    /// Write the tenant's own limits and policies.
    Admin,
}

/// Writes a key from 256 random bits.
pub fn generate(random: &[u8; 32]) -> String {
    let (high, low) = random.split_at(16);
    let number = |half: &[u8]| half.iter().fold(0u128, |acc, byte| (acc << 8) | u128::from(*byte));
    let secret = format!("{}{}", event::ids::base32(number(high)), event::ids::base32(number(low)));
    format!("{PREFIX}{secret}{}", checksum(&secret))
}

/// Whether a text has the form of a key, checksum included.
pub fn is_well_formed(key: &str) -> bool {
    let Some(rest) = key.strip_prefix(PREFIX) else { return false };
    rest.is_ascii()
        && rest.len() == SECRET_CHARS + CHECK_CHARS
        && checksum(&rest[..SECRET_CHARS]) == rest[SECRET_CHARS..]
}

/// The part of a key that may be shown.
pub fn shown_prefix(key: &str) -> &str {
    key.get(..SHOWN_CHARS).unwrap_or(key)
}

fn checksum(secret: &str) -> String {
    let digest = KeyDigest::of(secret).0;
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    // The first character of a base32 number carries three bits only; the ones behind it carry five each.
    event::ids::base32(u128::from_be_bytes(head))[1..=CHECK_CHARS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_a_checksum() {
        let key = generate(&[7; 32]);
        assert_eq!(key.len(), 66);
        assert!(is_well_formed(&key));
        for i in PREFIX.len()..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[i] = if wrong[i] == b'a' { b'b' } else { b'a' };
            assert!(!is_well_formed(std::str::from_utf8(&wrong).unwrap()), "a typo at {i} is noticed");
        }
        for bad in ["", "mp_live_", "mp_test_x", &key[..65], &format!("{key}a"), "mp_live_äöü"] {
            assert!(!is_well_formed(bad), "{bad}");
        }
        assert_eq!(shown_prefix(&key).len(), 14);
    }

    #[test]
    fn digests_survive_hex() {
        let digest = KeyDigest::of("x");
        assert_eq!(KeyDigest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(KeyDigest::from_hex("zz"), None);
        assert_eq!(KeyDigest::from_hex(&"+1".repeat(32)), None, "signs are not digits");
    }
}
