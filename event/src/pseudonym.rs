//! Keyed hashes of personal or attacker-chosen text.
//!
//! The pseudonym key of a tenant is derived from its Vault transit key (`ADR 0005`), fetched once a process, never
//! rotated and never written anywhere: destroying the transit key makes every pseudonym unlinkable.

use crate::ids::{EventHash, UserKey};

/// A tenant's 256-bit pseudonym key.
#[derive(Clone, PartialEq, Eq)]
pub struct PseudonymKey([u8; 32]);

impl PseudonymKey {
    /// Wraps key material as derived from Vault.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The pseudonym of a user; events without a user share one.
    pub fn user(&self, user: Option<&str>) -> UserKey {
        // The prefix keeps users, events and the anonymous user in separate hash domains.
        UserKey(match user {
            Some(name) => self.hash(&[b"user", name.as_bytes()]),
            None => self.hash(&[b"anonymous"]),
        })
    }

    /// The identity of an event: (source, id), never its time.
    pub fn event(&self, source: &str, id: &str) -> EventHash {
        EventHash(self.hash(&[b"event", source.as_bytes(), id.as_bytes()]))
    }

    /// A key of another purpose: what is made with it never equals a pseudonym, and tells nothing about one.
    pub fn tag_key(&self, purpose: &str) -> TagKey {
        TagKey(*keyed(&self.0, &[b"tag key", purpose.as_bytes()]).as_bytes())
    }

    fn hash(&self, parts: &[&[u8]]) -> u128 {
        let mut out = [0; 16];
        out.copy_from_slice(&keyed(&self.0, parts).as_bytes()[..16]);
        u128::from_be_bytes(out)
    }
}

/// Authenticates what a tenant's clients are given and bring back, to any pod.
#[derive(Clone)]
pub struct TagKey([u8; 32]);

/// Length of a tag.
pub const TAG_BYTES: usize = 32;

impl TagKey {
    /// The tag of a message of several parts.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        *keyed(&self.0, parts).as_bytes()
    }

    /// Whether `tag` is that of the message; takes the same time wherever they differ.
    pub fn verify(&self, parts: &[&[u8]], tag: [u8; TAG_BYTES]) -> bool {
        keyed(&self.0, parts) == blake3::Hash::from_bytes(tag)
    }
}

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        // Length first: ("ab", "c") and ("a", "bc") differ.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_depend_on_key_domain_and_boundaries() {
        let (a, b) = (PseudonymKey::new([1; 32]), PseudonymKey::new([2; 32]));
        assert_eq!(a.user(Some("ann")), a.user(Some("ann")));
        assert_ne!(a.user(Some("ann")), b.user(Some("ann")), "another tenant, another pseudonym");
        assert_ne!(a.event("ab", "c"), a.event("a", "bc"), "parts do not run together");
        assert_ne!(a.user(None), a.user(Some("")));
        assert_ne!(a.user(None), a.user(Some("anonymous")));
        assert_eq!(format!("{a:?}"), "PseudonymKey(..)", "key material never reaches a log");
    }

    #[test]
    fn a_tag_is_good_for_its_message_key_and_purpose_only() {
        let (a, b) = (PseudonymKey::new([1; 32]), PseudonymKey::new([2; 32]));
        let tag = a.tag_key("x").tag(&[b"ab", b"c"]);
        assert!(a.tag_key("x").verify(&[b"ab", b"c"], tag));
        assert!(!a.tag_key("x").verify(&[b"a", b"bc"], tag));
        assert!(!a.tag_key("y").verify(&[b"ab", b"c"], tag));
        assert!(!b.tag_key("x").verify(&[b"ab", b"c"], tag));
    }
}
