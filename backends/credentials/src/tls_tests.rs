use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConnection, Error, ServerConfig, ServerConnection};

use super::*;
use crate::file::tests::file;

const SETTINGS: Settings = Settings { address: "MP_X_URL", ca_file: "MP_X_CA_FILE", scheme: "https" };

/// An authority, and a server that it vouches for under one name.
struct Pki {
    pem: String,
    server: Arc<ServerConfig>,
}

impl Pki {
    fn of(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![leaf], key).unwrap();
        Self { pem: authority.pem(), server: Arc::new(server) }
    }

    fn file(&self) -> PathBuf {
        file(&self.pem)
    }
}

/// A handshake in memory, as far as the client goes.
fn handshake(client: &Arc<ClientConfig>, pki: &Pki, name: &'static str) -> Result<(), Error> {
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap())?;
    let mut server = ServerConnection::new(pki.server.clone())?;
    while client.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            match client.read_tls(&mut wire) {
                Ok(_) => {
                    client.process_new_packets()?;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    Ok(())
}

fn believing(path: &Path) -> Arc<ClientConfig> {
    Arc::new(SETTINGS.client(Transport::Tls, Some(path)).unwrap().unwrap())
}

#[test]
fn only_the_files_authorities_are_believed_and_only_for_the_name_that_was_asked_for() {
    let (ours, other) = (Pki::of("nats.example"), Pki::of("nats.example"));
    let path = ours.file();
    let client = believing(&path);
    assert_eq!(handshake(&client, &ours, "nats.example"), Ok(()));
    let refused = handshake(&client, &ours, "other.example").unwrap_err().to_string();
    assert!(refused.contains("other.example"), "{refused}");
    let refused = handshake(&client, &other, "nats.example").unwrap_err().to_string();
    let place = format!("MP_X_CA_FILE ({})", path.display());
    assert!(refused.contains(&place) && refused.contains("invalid peer certificate"), "{refused}");
    fs::remove_file(path).unwrap();
}

#[test]
fn an_address_as_a_name_is_checked_too() {
    let pki = Pki::of("127.0.0.1");
    let path = pki.file();
    assert_eq!(handshake(&believing(&path), &pki, "127.0.0.1"), Ok(()));
    assert!(handshake(&believing(&path), &pki, "127.0.0.2").is_err());
    fs::remove_file(path).unwrap();
}

#[test]
fn the_next_connection_is_judged_by_the_file_as_it_stands_then() {
    let (before, after) = (Pki::of("ch"), Pki::of("ch"));
    let path = before.file();
    let client = believing(&path);
    assert_eq!(handshake(&client, &before, "ch"), Ok(()));
    fs::write(&path, format!("{}{}", before.pem, after.pem)).unwrap();
    assert_eq!((handshake(&client, &before, "ch"), handshake(&client, &after, "ch")), (Ok(()), Ok(())));
    fs::write(&path, &after.pem).unwrap();
    assert_eq!(handshake(&client, &after, "ch"), Ok(()));
    assert!(handshake(&client, &before, "ch").is_err(), "not even a session that was agreed on before");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_server_that_wants_tls_at_a_plain_address_is_told_by_name() {
    let client = Arc::new(SETTINGS.refusing().unwrap());
    let refused = handshake(&client, &Pki::of("ch"), "ch").unwrap_err().to_string();
    assert!(refused.contains("requires TLS: MP_X_URL must begin with https://"), "{refused}");
}

#[test]
fn wrong_configurations_name_their_setting() {
    assert!(SETTINGS.client(Transport::Plain, None).unwrap().is_none());
    let said = |transport, path: &Path| SETTINGS.client(transport, Some(path)).unwrap_err().to_string();
    let plain = said(Transport::Plain, Path::new("/ca.pem"));
    assert!(plain.contains("MP_X_CA_FILE") && plain.contains("MP_X_URL"), "{plain}");
    let path = file("nothing of that kind");
    let empty = said(Transport::Tls, &path);
    assert_eq!(empty, format!("MP_X_CA_FILE: {}: no certificate in PEM", path.display()));
    fs::remove_file(&path).unwrap();
    assert!(said(Transport::Tls, &path).starts_with("MP_X_CA_FILE: "));
}
