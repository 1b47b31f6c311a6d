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

    fn hash(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            // Length first: ("ab", "c") and ("a", "bc") differ.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        u128::from_be_bytes(out)
    }
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
}
