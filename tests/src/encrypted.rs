//! A platform whose NATS, ClickHouse and Vault are reached over TLS alone, with certificates of an authority of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ServerConfig;
use xtask::platform::workloads::ALL;
use xtask::platform::{Options, Platform, Tls};

use crate::World;
use crate::world::OPEN_PLAN;

/// That platform.
pub struct Encrypted {
    /// Its processes. Its URL of NATS is `tls://`; that of ClickHouse is the plain one behind the proxy.
    pub world: World,
    /// The file of authorities that our processes were told to believe.
    pub authority: PathBuf,
    /// ClickHouse over TLS.
    pub clickhouse: String,
    /// Vault over TLS.
    pub vault: String,
    _proxy: Runtime,
}

impl Encrypted {
    /// Starts it with empty data.
    pub fn start(name: &str) -> Self {
        let options = Options::test(name).unwrap();
        if options.dir.exists() {
            fs::remove_dir_all(&options.dir).unwrap();
        }
        let tls = certificates(&options.dir.join("certificates"));
        let proxy =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = proxy.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let clickhouse = format!("https://{}", listener.local_addr().unwrap());
        let env = vec![
            ("MP_CLICKHOUSE_URL".to_owned(), clickhouse.clone()),
            ("MP_CLICKHOUSE_CA_FILE".to_owned(), tls.authority.display().to_string()),
        ];
        let env = ["operator", "sink", "console"].map(|part| (part.to_owned(), env.clone())).into();
        let bins = options.paths.root.join("target/debug");
        let platform = Platform::start(Options {
            // The programs come when there is a way to ClickHouse.
            workloads: vec![],
            bins: Some(bins),
            new_ports: true,
            env,
            tls: Some(tls.clone()),
            ..options
        });
        let world = World::of(platform.unwrap()).unwrap();
        let behind = world.urls.clickhouse.trim_start_matches("http://").parse().unwrap();
        proxy.spawn(serve(listener, acceptor(&tls), behind));
        for part in ALL {
            world.platform.start_part(part).unwrap();
        }
        world.apply(OPEN_PLAN);
        let vault = world.platform.url("vault-tls").unwrap().replace("http://", "https://");
        Self { world, authority: tls.authority, clickhouse, vault, _proxy: proxy }
    }
}

/// An authority and a server's certificate, as files.
fn certificates(dir: &Path) -> Tls {
    fs::create_dir_all(dir).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let authority = authority("the authority of this test");
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    Tls {
        authority: write("ca.pem", authority.pem()),
        certificate: write("server.pem", leaf.pem()),
        key: write("server.key", key.serialize_pem()),
    }
}

/// An authority.
pub fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(tls: &Tls) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&tls.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
}

/// Ends TLS and passes on what is inside.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not believe us ends here.
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            if let Ok(mut inside) = TcpStream::connect(behind).await {
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            }
        });
    }
}
