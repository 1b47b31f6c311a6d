//! Signing of snapshots, and the tenants' pseudonym keys.

/// A signature by the platform's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Version of the key that signed.
    pub key_version: u32,
    /// Ed25519 signature of the bytes themselves (not of a hash of them).
    pub bytes: [u8; 64],
}
