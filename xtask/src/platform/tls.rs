//! NATS and Vault over TLS, as in production, for tests of it. ClickHouse as a library serves none.

use std::path::PathBuf;

/// Files in PEM with which the real parts prove themselves to our processes.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whom our processes believe.
    pub authority: PathBuf,
    /// What the servers show: good for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}
