//! Whom to believe: the ordinary checks of rustls, with authorities that may change, and refusals that name the setting.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::file::Kept;
use crate::tls::Settings;

/// A client that tries again and again says why it fails this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Why a server is not believed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the server's certificate is not good by the authorities of {setting} ({path}): {error}")]
    OfFile { setting: &'static str, path: String, error: Error },
    #[error(
        "the server's certificate is not good by the authorities of this system ({setting} names others): {error}"
    )]
    OfSystem { setting: &'static str, error: Error },
    #[error("the server requires TLS: {} must begin with {}://", .0.address, .0.scheme)]
    Plain(Settings),
}

/// Certificates of authorities, in PEM.
pub(crate) fn authorities(pem: &[u8]) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not a certificate in PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("not an authority's certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err("no certificate in PEM".to_owned());
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| error.to_string())
}

enum Authorities {
    File(Kept<Arc<WebPkiServerVerifier>>),
    System(rustls_platform_verifier::Verifier),
    Nobody,
}

/// Checks servers' certificates.
pub(crate) struct Verifier {
    settings: Settings,
    authorities: Authorities,
    provider: Arc<CryptoProvider>,
    log: Log,
}

impl Verifier {
    /// Only the file's authorities, as it stands at each connection.
    pub fn of_file(settings: Settings, file: Kept<Arc<WebPkiServerVerifier>>) -> Self {
        Self::new(settings, Authorities::File(file))
    }

    /// The authorities that this system believes.
    pub fn of_system(settings: Settings) -> Result<Self, Error> {
        let verifier = rustls_platform_verifier::Verifier::new(Arc::new(ring::default_provider()))?;
        Ok(Self::new(settings, Authorities::System(verifier)))
    }

    /// No server is believed: the address is a plain one.
    pub fn of_nobody(settings: Settings) -> Self {
        Self::new(settings, Authorities::Nobody)
    }

    fn new(settings: Settings, authorities: Authorities) -> Self {
        Self { settings, authorities, provider: Arc::new(ring::default_provider()), log: Log::default() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let setting = self.settings.ca_file;
        let verdict = match &self.authorities {
            Authorities::File(file) => {
                let authorities = file.newest(Instant::now(), Duration::ZERO);
                let path = || file.path().display().to_string();
                authorities
                    .verify_server_cert(end_entity, intermediates, server, ocsp, now)
                    .map_err(|error| Refusal::OfFile { setting, path: path(), error })
            }
            Authorities::System(system) => system
                .verify_server_cert(end_entity, intermediates, server, ocsp, now)
                .map_err(|error| Refusal::OfSystem { setting, error }),
            Authorities::Nobody => Err(Refusal::Plain(self.settings)),
        };
        verdict.map_err(|refusal| self.log.told(server, refusal))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Says refusals in the log, because not every client library passes their text on.
#[derive(Debug, Default)]
struct Log {
    said: Mutex<Option<Instant>>,
}

impl Log {
    fn told(&self, server: &ServerName<'_>, refusal: Refusal) -> Error {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.duration_since(said) >= LOG_EVERY) {
            *said = Some(now);
            tracing::warn!(server = %server.to_str(), error = %refusal, "no TLS");
        }
        // Not as an invalid certificate, whose text would be for programmers.
        Error::Other(OtherError(Arc::new(refusal)))
    }
}
