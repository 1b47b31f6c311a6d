//! The sink: JetStream -> ClickHouse, each event exactly once.
//!
//! ```text
//! lanes ─ a task a lane ─> lane ─ take ─> takeover ─ replay ─┐
//!                           │  read, pace                     ├─> flush ─> port ─> intent (NATS), rows (ClickHouse)
//!                           └─ batch ─> seats ─> dedup ─> blocks┘
//! ```
//! `intent`, `batch`, `dedup`, `blocks`, `flush` and `takeover` hold the protocol and do no I/O of their own; `live` is
//! the only port that does, through `slot`. `violations` does the same for what was refused, in one stream for all tenants.
//! `seats` says which lane decides about a tenant that has moved. `rollups` sums up what is settled, beside all that. `audit`
//! counts for itself whether everything has arrived. `model_tests` crashes them at every point.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("crash points are for proofs: a release build must not have them");

mod admin;
mod audit;
mod batch;
mod blocks;
mod budget;
mod charges;
mod clock;
mod config;
mod context;
mod dedup;
mod flush;
mod holders;
mod intent;
mod lane;
mod lanes;
mod lease;
mod live;
mod lookup;
mod metrics;
mod pending;
mod port;
mod removed;
mod repair;
mod rollups;
mod seats;
mod slot;
mod spread;
mod takeover;
mod violations;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod testing;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use event::names::{INTENTS_BUCKET, LEASES_BUCKET, SEATS_BUCKET};
use jetstream::Bucket;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tracing_subscriber::EnvFilter;

use config::Config;
use context::Context;

#[tokio::main]
async fn main() -> ExitCode {
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
            tracing::error!(%error, "the sink stops");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let started = admin::Started::default();
    let listener = TcpListener::bind(config.admin_listen)
        .await
        .map_err(|error| format!("{}: {error}", config.admin_listen))?;
    let router = admin::router(started.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin endpoints ended");
        }
    });
    let mut terminated = std::pin::pin!(terminated()?);
    let (stop, shutdown) = watch::channel(false);
    let context = tokio::select! {
        context = start(config, shutdown) => context?,
        () = &mut terminated => return Ok(()),
    };
    let _ = started.set(context.clone());
    tokio::spawn({
        let context = context.clone();
        async move { context.lease.keep().await }
    });
    tokio::spawn({
        let context = context.clone();
        async move { context.holders.follow().await }
    });
    tokio::spawn({
        let context = context.clone();
        async move { context.seats.follow().await }
    });
    let lanes = tokio::spawn(lanes::run(context.clone()));
    let violations = tokio::spawn(violations::run(context.clone()));
    tokio::spawn({
        let (context, held) = (context.clone(), context.clone());
        let grace = Duration::from_secs(config.audit_grace_seconds.into());
        let held = move || held.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move { audit::run(context, grace, held).await }
    });
    tokio::spawn(rollups::run(context.clone(), config.rollups()));
    tracing::info!(admin = %config.admin_listen, "sinking");
    terminated.await;
    stop.send_replace(true);
    let finished = lanes.await?;
    // It looks up between inserts, each of which is bounded; what it leaves open is replayed.
    let finished = tokio::time::timeout(lanes::FINISH, violations).await.is_ok() && finished;
    if finished {
        context.lease.give_back().await;
        tracing::info!("stopped");
    } else {
        tracing::warn!("an intent was left open: the next holder replays it");
    }
    Ok(())
}

async fn start(config: &Config, shutdown: watch::Receiver<bool>) -> Result<Arc<Context>, Box<dyn Error>> {
    let nats = jetstream::Client::connect(jetstream::Config {
        url: config.nats_url.clone(),
        ca_file: config.nats_ca_file.clone(),
        user: config.nats_user.clone(),
        password_file: config.nats_password_file.clone(),
        name: config.pod_name.clone(),
    })
    .await?;
    let clickhouse = clickhouse::Server::new(&config.clickhouse_url, config.clickhouse_ca_file.as_deref())?;
    let endpoint = clickhouse.endpoint_of(&config.clickhouse_user, &config.clickhouse_password_file)?;
    let leases = bucket(&nats, LEASES_BUCKET).await;
    let mebibyte = 1 << 20;
    Ok(Arc::new(Context {
        intents: bucket(&nats, INTENTS_BUCKET).await,
        reader: clickhouse::Client::new(endpoint),
        lease: lease::Lease::new(leases.clone(), config.pod_name.clone(), random),
        holders: holders::Holders::new(leases),
        seats: seats::Directory::new(bucket(&nats, SEATS_BUCKET).await),
        budget: budget::Budget::new(config.inserts_per_second, config.inserts_at_once, Instant::now()),
        memory: Arc::new(dedup::MemoryBudget::new(config.dedup_memory_mib as usize * mebibyte)),
        buffers: Arc::new(Semaphore::new(config.buffer_mib as usize)),
        horizon_days: config.dedup_horizon_days,
        metrics: metrics::Metrics::new(),
        held: Mutex::default(),
        gaps: Mutex::default(),
        settled: Mutex::default(),
        discovered: AtomicBool::new(false),
        shutdown,
        nats,
    }))
}

/// The bucket, once it is there: the operator creates it.
async fn bucket(nats: &jetstream::Client, name: &str) -> Bucket {
    loop {
        match Bucket::open(nats, name).await {
            Ok(bucket) => return bucket,
            Err(error) => tracing::warn!(%error, "waiting for bucket {name}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
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
        tracing::info!("stopping: intents under way are finished or left to the next holder");
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
