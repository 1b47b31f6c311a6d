//! Certificates: an authority that signs itself, and what it signs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::authority::{Authorities, Authority, Lifetimes, Span};

/// The name of every authority of ours; which one signed is told by its key.
const AUTHORITY: &str = "meterplane webhook authority";
/// By how much the clock of a kube-apiserver may be behind.
const CLOCKS: Duration = Duration::from_secs(600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It was not made or signed.
    #[error("the certificate: {0}")]
    Made(#[from] rcgen::Error),
    /// Its key cannot be used.
    #[error("the key: {0}")]
    Key(#[from] rustls::Error),
}

/// What is served: a certificate and its key, which nobody keeps.
#[derive(Debug, Clone)]
pub struct Served {
    /// For the handshake.
    pub key: Arc<CertifiedKey>,
    /// The time that it is valid.
    pub span: Span,
    /// The certificate of who signed it.
    signer: Vec<u8>,
}

impl Served {
    /// Whether the next one is to be made: this one ends soon, or whoever signed it is trusted no more.
    pub fn is_due(&self, authorities: &Authorities, now_ms: i64) -> bool {
        self.span.is_due(now_ms) || !authorities.trusts(&self.signer, now_ms)
    }
}

/// Makes an authority.
///
/// # Errors
/// See [`CertificateError`].
pub fn authority(lifetimes: Lifetimes, now_ms: i64) -> Result<Authority, CertificateError> {
    let (key, span) = (KeyPair::generate()?, Span::starting(now_ms, lifetimes.authority));
    let mut params = issuer_params();
    within(&mut params, span);
    let certificate = params.self_signed(&key)?;
    Ok(Authority { certificate: certificate.der().to_vec(), key: key.serialize_der(), span, told_ms: None })
}

/// Makes a certificate for a server of these names, signed by `authority`; it does not outlive that.
///
/// # Errors
/// See [`CertificateError`].
pub fn served(
    authority: &Authority,
    names: &[String],
    lasts: Duration,
    now_ms: i64,
) -> Result<Served, CertificateError> {
    let issued_by = PrivatePkcs8KeyDer::from(authority.key.as_slice());
    let issuer = Issuer::new(
        issuer_params(),
        KeyPair::from_pkcs8_der_and_sign_algo(&issued_by, &PKCS_ECDSA_P256_SHA256)?,
    );
    let mut span = Span::starting(now_ms, lasts);
    span.ends_ms = span.ends_ms.min(authority.span.ends_ms);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("meterplane webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    within(&mut params, span);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], any_ecdsa_type(&secret)?));
    Ok(Served { key, span, signer: authority.certificate.clone() })
}

/// The names under which the webhook is called: its Service, and the address itself where that is one.
pub fn names(namespace: &str, listen: SocketAddr) -> Vec<String> {
    let service = format!("operator.{namespace}.svc");
    let own = (!listen.ip().is_unspecified()).then(|| listen.ip().to_string());
    std::iter::once(service).chain(own).collect()
}

/// What an authority says of itself, as far as what it signs repeats it.
fn issuer_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn within(params: &mut CertificateParams, span: Span) {
    let at = |ms: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(ms.max(0).unsigned_abs());
    params.not_before = at(span.made_ms) - CLOCKS;
    params.not_after = at(span.ends_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;
    const LIFETIMES: Lifetimes =
        Lifetimes { authority: Duration::from_secs(1_000), certificate: Duration::from_secs(100) };

    fn names() -> Vec<String> {
        super::names("metering", "127.0.0.1:8443".parse().unwrap())
    }

    #[test]
    fn a_certificate_does_not_outlive_who_signed_it_and_goes_with_its_trust() {
        let old = authority(LIFETIMES, NOW_MS).unwrap();
        let late = NOW_MS + 950_000;
        let first = served(&old, &names(), LIFETIMES.certificate, NOW_MS).unwrap();
        assert_eq!(first.span.ends_ms, NOW_MS + 100_000);
        assert_eq!(
            served(&old, &names(), LIFETIMES.certificate, late).unwrap().span.ends_ms,
            old.span.ends_ms
        );
        let authorities = Authorities::default().with(old, NOW_MS);
        assert!(!first.is_due(&authorities, NOW_MS + 66_000) && first.is_due(&authorities, NOW_MS + 67_000));
        let others = Authorities::default().with(authority(LIFETIMES, NOW_MS).unwrap(), NOW_MS);
        assert!(first.is_due(&others, NOW_MS), "the Secret was replaced");
    }

    #[test]
    fn the_service_and_an_address_that_is_one_are_its_names() {
        assert_eq!(names(), ["operator.metering.svc", "127.0.0.1"]);
        assert_eq!(super::names("a", "0.0.0.0:8443".parse().unwrap()), ["operator.a.svc"]);
    }
}
