//! Secrets for this machine, from the operating system's generator.

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use crate::{Error, Result};

/// Characters of a hexadecimal password of 192 bits.
const PASSWORD_BYTES: usize = 24;

/// A password: 48 hexadecimal characters, so that it needs no quoting anywhere.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn password() -> Result<String> {
    let mut bytes = [0_u8; PASSWORD_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(no_randomness)?;
    Ok(hex(&bytes))
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 as lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// A key that signs service account tokens (ES256), as PEM: private (PKCS #8) and public (SubjectPublicKeyInfo).
///
/// # Errors
/// When the operating system gives no randomness.
pub fn signing_key() -> Result<(String, String)> {
    // SubjectPublicKeyInfo of an uncompressed P-256 point is this constant followed by the point (RFC 5480).
    const SPKI_P256: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let random = SystemRandom::new();
    let private =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(no_randomness)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref(), &random)
        .map_err(|e| Error::Format { what: "the generated key".into(), detail: e.to_string() })?;
    let public = [&SPKI_P256[..], pair.public_key().as_ref()].concat();
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &public)))
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn no_randomness(_: ring::error::Unspecified) -> Error {
    Error::Missing { what: "randomness".into(), remedy: "check that /dev/urandom can be read".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_eq!(one.len(), 2 * PASSWORD_BYTES);
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(one, two);
    }

    #[test]
    fn signing_keys_are_pem_with_short_lines() {
        let (private, public) = signing_key().unwrap();
        assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\nMI"));
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"));
        assert!(public.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn sha256_is_the_known_one() {
        assert!(sha256_hex(b"").starts_with("e3b0c44298fc1c14"));
    }
}
