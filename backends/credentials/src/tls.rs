//! Whether and how a connection is encrypted: its address says whether, a file of authorities whom to believe.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;

use crate::file::{FileError, Kept};
use crate::verifier::{Verifier, authorities};

/// Names of the settings of one system, for whoever has to change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where it is, e.g. `MP_NATS_URL`.
    pub address: &'static str,
    /// The file of authorities, e.g. `MP_NATS_CA_FILE`.
    pub ca_file: &'static str,
    /// Scheme of addresses that mean TLS, e.g. `tls`.
    pub scheme: &'static str,
}

/// What the scheme of an address says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Unencrypted.
    Plain,
    /// TLS.
    Tls,
}

/// Why there is no way to a server that is to be trusted; retrying does not mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Authorities are named, and nobody would ask them.
    #[error("{} is set, but {} is a plain address: write {}:// there, or take {} away",
        .0.ca_file, .0.address, .0.scheme, .0.ca_file)]
    Plain(Settings),
    /// The file of authorities.
    #[error("{setting}: {error}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong with it.
        error: FileError,
    },
    /// No file of authorities, and none on this system.
    #[error("{setting} is not set, and this system has no authorities' certificates: {detail}")]
    NoAuthorities {
        /// The setting that would name a file of them.
        setting: &'static str,
        /// Why.
        detail: String,
    },
    /// The library has no protocol version to offer.
    #[error("TLS: {0}")]
    Library(String),
}

impl Settings {
    /// What a connection needs beside its address: nothing, or how to do TLS. The authorities are those of `ca_file` alone, or those of
    /// this system without one.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn client(
        self,
        transport: Transport,
        ca_file: Option<&Path>,
    ) -> Result<Option<ClientConfig>, TlsError> {
        match (transport, ca_file) {
            (Transport::Plain, None) => Ok(None),
            (Transport::Plain, Some(_)) => Err(TlsError::Plain(self)),
            (Transport::Tls, ca_file) => self.verified(ca_file).map(Some),
        }
    }

    /// For a client library that encrypts when the server wants it, whatever the address says: no server is believed, and the log says
    /// that the address is the wrong one.
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn refusing(self) -> Result<ClientConfig, TlsError> {
        config(Verifier::of_nobody(self))
    }

    fn verified(self, ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
        let setting = self.ca_file;
        let verifier = match ca_file {
            Some(path) => {
                let file = Kept::read(path, authorities);
                Verifier::of_file(self, file.map_err(|error| TlsError::File { setting, error })?)
            }
            None => Verifier::of_system(self)
                .map_err(|error| TlsError::NoAuthorities { setting, detail: error.to_string() })?,
        };
        config(verifier)
    }
}

fn config(verifier: Verifier) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::Library(error.to_string()))?;
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    // A resumed session shows no certificate, so an authority that was taken away would go on vouching for it.
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
