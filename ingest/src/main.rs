//! The ingest pod: HTTP -> decision -> JetStream. Stateless: whatever it holds is a copy or a lease. `ingest --openapi` prints the API's
//! OpenAPI document.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("crash points are for proofs: a release build must not have them");

mod admit;
mod app;
mod clock;
mod config;
mod http;
mod lane;
mod metrics;
mod pods;
mod problem;
mod pseudonyms;
mod quota;
mod snapshot;
mod violations;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Parser;
use event::Incarnation;
use jetstream::Publisher;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use app::App;
use config::Config;

/// A fifth of a pod's time went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long requests under way may take to be answered 503 when this process was taken for dead.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    // Before the configuration is read: the document needs none of it.
    if std::env::args().nth(1).as_deref() == Some("--openapi") {
        return match std::io::stdout().write_all(http::openapi_json().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let config = Config::parse();
    let log =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&config.log)).with_writer(std::io::stderr);
    if config.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
    match run(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ingest stops");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let app = start(config).await?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| format!("{}: {error}", config.listen))?;
    let admin = TcpListener::bind(config.admin_listen)
        .await
        .map_err(|error| format!("{}: {error}", config.admin_listen))?;
    tokio::spawn(serve_admin(admin, http::admin(app.clone())));
    tracing::info!(listen = %config.listen, incarnation = %app.pod.incarnation, "serving");
    let terminated = terminated()?;
    let serving = axum::serve(listener, http::public(app.clone())).with_graceful_shutdown(terminated);
    tokio::select! {
        served = serving => served?,
        // Nothing is given back: it was taken already.
        () = app.pod.declared_dead() => {
            tokio::time::sleep(LAST_ANSWERS).await;
            return Err("this process was taken for dead".into());
        }
    }
    quota::return_all(&app.quotas).await;
    tracing::info!("drained");
    Ok(())
}

async fn start(config: &Config) -> Result<Arc<App>, Box<dyn Error>> {
    let client = jetstream::Client::connect(jetstream::Config {
        url: config.nats_url.clone(),
        ca_file: config.nats_ca_file.clone(),
        user: config.nats_user.clone(),
        password_file: config.nats_password_file.clone(),
        name: config.pod_name.clone(),
    })
    .await?;
    let vault = vault::Client::new(vault::Config {
        addr: config.vault_addr.clone(),
        ca_file: config.vault_ca_file.clone(),
        role: config.vault_role.clone(),
        jwt_file: config.vault_jwt_file.clone(),
        mount: "jwt".to_owned(),
    })?;
    let metrics = Arc::new(metrics::Metrics::new());
    let clock = Arc::new(clock::Clock::default());
    let store = Arc::new(snapshot::Store::default());
    let pod = Arc::new(pods::Pod::new(Incarnation(random()), config.pod_name.clone()));
    let publisher = Publisher::new(&client);
    let sender = lane::Sender::new(publisher.clone(), pod.clone(), metrics.clone(), random);
    let quotas = Arc::new(quota::Quotas::new(
        client.clone(),
        pod.clone(),
        clock.clone(),
        metrics.clone(),
        config.quota_keys,
    ));
    let app = Arc::new(App {
        lanes: lane::Lanes::new(Arc::new(sender), config.packs_in_flight),
        pseudonyms: pseudonyms::Pseudonyms::new(vault),
        quotas: quotas.clone(),
        violations: violations::Violations::start(publisher, pod.incarnation, metrics.clone()),
        client: client.clone(),
        clock: clock.clone(),
        store: store.clone(),
        pod: pod.clone(),
        metrics: metrics.clone(),
        random,
    });
    tokio::spawn(quota::answer_recalls(quotas.clone()));
    tokio::spawn(quota::sweep(quotas.clone()));
    let follower = snapshot::Follower { store: store.clone(), quotas, metrics: metrics.clone() };
    tokio::spawn(follower.follow(client.clone(), config.trust_file.clone()));
    tokio::spawn(pods::beat(client, pod, store, clock, metrics));
    Ok(app)
}

async fn serve_admin(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin endpoints ended");
    }
}

/// Resolves when the process is asked to stop.
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping: requests under way are finished, slices go back");
    })
}

/// 128 random bits from the operating system.
fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without randomness no identity is safe, and the operating system never refuses it once it has booted.
    while SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::error!("the operating system gives no random bytes");
    }
    u128::from_le_bytes(bytes)
}
