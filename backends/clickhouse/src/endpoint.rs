//! Where ClickHouse is, whether the way there is encrypted, and as whom to use it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use credentials::{FileError, Password, Settings, TlsError, Transport};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// How every program calls what a [`Server`] is made of.
const SETTINGS: Settings =
    Settings { address: "MP_CLICKHOUSE_URL", ca_file: "MP_CLICKHOUSE_CA_FILE", scheme: "https" };

/// Where ClickHouse's HTTP interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    transport: Transport,
    host: String,
    port: u16,
}

/// ClickHouse's HTTP interface, and whom to believe that it is it.
#[derive(Clone)]
pub struct Server {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A server, and as whom to use it.
#[derive(Clone)]
pub struct Endpoint {
    server: Server,
    user: String,
    password: Password,
}

/// Why there is no way to ClickHouse; retrying does not mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The address is not one.
    #[error("{0:?} is not an address of ClickHouse: expected http://host:port or https://host:port")]
    Address(String),
    /// No server could be believed, or none would be asked to prove itself.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The password's file cannot be read.
    #[error("MP_CLICKHOUSE_PASSWORD_FILE: {0}")]
    Password(#[from] FileError),
}

impl Address {
    /// Host name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `http` or `https`.
    const fn scheme(&self) -> &'static str {
        match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        }
    }

    /// `http://host:port` or `https://host:port`.
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.port)
    }
}

/// `http://host:port`, where the port defaults to 8123, or `https://host:port`, where it defaults to 8443.
impl FromStr for Address {
    type Err = InvalidEndpoint;
    fn from_str(url: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint::Address(url.to_owned());
        let uri: http::Uri = url.parse().map_err(|_| invalid())?;
        let (transport, port) = match uri.scheme_str() {
            Some("http") => (Transport::Plain, 8123),
            Some("https") => (Transport::Tls, 8443),
            _ => return Err(invalid()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(invalid());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        Ok(Self { transport, host: host.to_owned(), port: uri.port_u16().unwrap_or(port) })
    }
}

impl Server {
    /// `url` is that of an [`Address`]. Over https the authorities of `ca_file` are believed, which is read anew when it changes, or those
    /// of this system without one.
    ///
    /// # Errors
    /// See [`InvalidEndpoint`].
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, InvalidEndpoint> {
        let address: Address = url.parse()?;
        let tls = SETTINGS.client(address.transport, ca_file)?.map(|config| {
            let name = address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(|_| InvalidEndpoint::Address(url.to_owned()))?;
            Ok::<_, InvalidEndpoint>((TlsConnector::from(Arc::new(config)), name))
        });
        Ok(Self { address, tls: tls.transpose()? })
    }

    /// Where it is.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// As one of its users, with a password that does not change.
    pub fn endpoint(&self, user: &str, password: &str) -> Endpoint {
        self.used_by(user, Password::fixed(password))
    }

    /// As one of its users, whose password stands in a file, which is read anew when it changes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn endpoint_of(&self, user: &str, password_file: &Path) -> Result<Endpoint, InvalidEndpoint> {
        Ok(self.used_by(user, Password::from_file(password_file)?))
    }

    fn used_by(&self, user: &str, password: Password) -> Endpoint {
        Endpoint { server: self.clone(), user: user.to_owned(), password }
    }
}

impl Endpoint {
    /// `url` is that of an [`Address`]; over https the authorities of this system are believed.
    ///
    /// # Errors
    /// See [`InvalidEndpoint`].
    pub fn new(url: &str, user: &str, password: &str) -> Result<Self, InvalidEndpoint> {
        Ok(Server::new(url, None)?.endpoint(user, password))
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.server.address
    }

    pub(crate) const fn password(&self) -> &Password {
        &self.password
    }

    /// How to encrypt, and the name that the server's certificate must hold; `None`: not at all.
    pub(crate) const fn tls(&self) -> Option<&(TlsConnector, ServerName<'static>)> {
        self.server.tls.as_ref()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address.url())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port, .. } = &self.server.address;
        write!(f, "{}://{}@{host}:{port}", self.server.address.scheme(), self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_whether_to_encrypt() {
        let endpoint = Endpoint::new("http://127.0.0.1:28123", "console", "secret").unwrap();
        assert_eq!(
            format!("{endpoint:?}"),
            "http://console@127.0.0.1:28123",
            "the password never reaches a log"
        );
        assert!(endpoint.tls().is_none());
        let address = |url: &str| url.parse::<Address>().map(|address| address.url());
        assert_eq!(address("http://ch/").unwrap(), "http://ch:8123");
        assert_eq!(address("https://ch").unwrap(), "https://ch:8443");
        for bad in ["", "127.0.0.1:1", "tls://ch:8443", "http://ch/db", "http://ch/?a=b", "http://"] {
            assert!(matches!(Endpoint::new(bad, "u", ""), Err(InvalidEndpoint::Address(_))), "{bad}");
        }
    }

    #[test]
    fn authorities_for_a_plain_address_are_a_configuration_error() {
        let error = Server::new("http://ch:8123", Some(Path::new("/ca.pem"))).err().unwrap().to_string();
        assert!(error.contains("MP_CLICKHOUSE_CA_FILE") && error.contains("MP_CLICKHOUSE_URL"), "{error}");
        let error = Server::new("https://ch:8443", Some(Path::new("/no/ca.pem"))).err().unwrap().to_string();
        assert!(error.starts_with("MP_CLICKHOUSE_CA_FILE: /no/ca.pem"), "{error}");
    }
}
