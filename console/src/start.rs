//! From configuration to a running process, and out again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, VAULT_MOUNT};
use crate::metrics::Metrics;
use crate::snapshot_watch::{self, Store};
use crate::{App, admin, api};

/// How long requests in flight may take after the signal to stop.
const DRAIN: Duration = Duration::from_secs(15);

/// How long the kube-apiserver may take.
const KUBERNETES_LIMIT: Duration = Duration::from_secs(5);

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The process cannot serve or be told to stop.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// NATS is misconfigured.
    #[error(transparent)]
    Nats(#[from] jetstream::ConnectError),
    /// ClickHouse is misconfigured.
    #[error(transparent)]
    ClickHouse(#[from] clickhouse::InvalidEndpoint),
    /// Vault is misconfigured.
    #[error(transparent)]
    Vault(#[from] vault::VaultError),
    /// There is no way to the kube-apiserver.
    #[error("the kube-apiserver: {0}")]
    Kubernetes(String),
    /// There is no randomness.
    #[error(transparent)]
    Randomness(#[from] crate::ids::NoRandomness),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`]: nothing of it mends itself. Stores that do not answer are no reason: they are tried for ever.
pub async fn run(config: Config) -> Result<(), StartError> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let nats = jetstream::Client::connect(jetstream::Config {
        url: config.nats_url,
        ca_file: config.nats_ca_file,
        user: config.nats_user,
        password_file: config.nats_password_file,
        name: "console".to_owned(),
    })
    .await?;
    let clickhouse = clickhouse::Server::new(&config.clickhouse_url, config.clickhouse_ca_file.as_deref())?;
    let endpoint = clickhouse.endpoint_of(&config.clickhouse_user, &config.clickhouse_password_file)?;
    let vault = vault::Client::new(vault::Config {
        addr: config.vault_addr,
        ca_file: config.vault_ca_file,
        role: config.vault_role,
        jwt_file: config.vault_jwt_file,
        mount: VAULT_MOUNT.to_owned(),
    })?;
    let kube = kube_client().await?;
    let (store, metrics) = (Arc::new(Store::default()), Arc::new(Metrics::new()));
    let app = Arc::new(App::new(
        store.clone(),
        clickhouse::Client::new(endpoint),
        vault,
        kube,
        metrics.clone(),
        config.late_days,
    )?);
    let (public, private) = (listen(config.listen).await?, listen(config.admin_listen).await?);
    tokio::spawn(snapshot_watch::follow(nats, config.trust_file, store, metrics));
    tracing::info!(listen = %config.listen, admin_listen = %config.admin_listen, "serving");

    let (stop, stopped) = watch::channel(false);
    let api = serve(public, api::router(app.clone()), stopped.clone());
    let admin = serve(private, admin::router(app), stopped);
    let told = async move {
        told_to_stop(terminate, interrupt).await;
        stop.send_replace(true);
        tokio::time::sleep(DRAIN).await;
        tracing::warn!("requests in flight were cut off");
    };
    tokio::select! {
        result = async { tokio::try_join!(api, admin) } => result.map(|_| ()).map_err(StartError::from),
        () = told => Ok(()),
    }
}

/// The kube-apiserver, as the kubeconfig or the service account says; it is not asked yet.
async fn kube_client() -> Result<kube::Client, StartError> {
    let wrong = |error: &dyn std::fmt::Display| StartError::Kubernetes(error.to_string());
    let mut config = kube::Config::infer().await.map_err(|error| wrong(&error))?;
    config.connect_timeout = Some(KUBERNETES_LIMIT);
    config.read_timeout = Some(KUBERNETES_LIMIT);
    config.write_timeout = Some(KUBERNETES_LIMIT);
    kube::Client::try_from(config).map_err(|error| wrong(&error))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })
}

/// Serves until told to stop, and then until the requests in flight are answered.
fn serve(
    listener: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = std::io::Result<()>> {
    let stop = async move {
        // A closed channel means the same: whoever could tell us is gone.
        drop(stopped.wait_for(|stopped| *stopped).await);
    };
    async move { axum::serve(listener, router).with_graceful_shutdown(stop).await }
}

async fn told_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop (SIGTERM)"),
        _ = interrupt.recv() => tracing::info!("told to stop (SIGINT)"),
    }
}
