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
}

/// Checks servers' certificates.
pub(crate) struct Verifier {
    settings: Settings,
    authorities: Authorities,
    signatures: Signatures,
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

    fn new(settings: Settings, authorities: Authorities) -> Self {
        let signatures = Signatures(Arc::new(ring::default_provider()));
        Self { settings, authorities, signatures, log: Log::default() }
    }

    fn refusal(&self, error: Error) -> Refusal {
        let setting = self.settings.ca_file;
        match &self.authorities {
            Authorities::File(file) => {
                Refusal::OfFile { setting, path: file.path().display().to_string(), error }
            }
            Authorities::System(_) => Refusal::OfSystem { setting, error },
        }
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
        let verdict = match &self.authorities {
            Authorities::File(file) => file.newest(Instant::now(), Duration::ZERO).verify_server_cert(
                end_entity,
                intermediates,
                server,
                ocsp,
                now,
            ),
            Authorities::System(system) => {
                system.verify_server_cert(end_entity, intermediates, server, ocsp, now)
            }
        };
        verdict.map_err(|error| self.log.told(server, self.refusal(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Believes nobody.
#[derive(Debug)]
pub(crate) struct Refusing {
    settings: Settings,
    signatures: Signatures,
    log: Log,
}

impl Refusing {
    pub fn new(settings: Settings, provider: Arc<CryptoProvider>) -> Self {
        Self { settings, signatures: Signatures(provider), log: Log::default() }
    }
}

impl ServerCertVerifier for Refusing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(self.log.told(server, Refusal::Plain(self.settings)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// The provider's checks of what a server signs during the handshake.
#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

impl Signatures {
    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
