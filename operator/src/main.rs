//! The operator: what people declare in YAML becomes streams, databases, keys and signed policy snapshots.

mod admin;
mod audits;
mod belonging;
mod caches;
mod clock;
mod conditions;
mod config;
mod context;
mod controllers;
mod data_plane;
mod durability;
mod enforcement;
mod engine;
mod errors;
mod fleet;
mod installation;
mod kube_clients;
mod leadership;
mod ledgers;
mod levels;
mod moves;
mod observe;
mod passage;
mod reaper;
#[cfg(test)]
mod rights_tests;
mod seeding;
mod snapshot;
mod startup;
mod webhook;

#[cfg(all(any(feature = "unfenced", feature = "crash-points"), not(debug_assertions)))]
compile_error!("`unfenced` and `crash-points` are for proofs: a release build must not have them");

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use config::{Config, LogFormat};
use leadership::{Candidate, Term};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    log(&config);
    match operate(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator stops");
            ExitCode::FAILURE
        }
    }
}

type Ended = Result<(), Box<dyn std::error::Error>>;

async fn operate(config: &Config) -> Ended {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let admin = admin::Admin::default();
    let standby = startup::stand_by(config).await?;
    admin.stands_by(&standby);
    let (leading, caches, metrics) = (OnceLock::new(), standby.caches.clone(), admin.metrics());
    let ended = tokio::select! {
        result = take_part(config, &admin, standby, &leading) => result,
        result = admin::serve(config.admin_listen, admin.clone()) => Ok(result?),
        result = webhook::run(config, caches, &metrics) => Ok(result?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // By now every task of ours is abandoned; what it left half done is found and finished by whoever leads next.
    if let Some((candidate, term)) = leading.get() {
        candidate.release(term).await;
    }
    ended
}

/// Waits for its turn and leads. Whoever has led once never does so again in the same process: what it knows may be older than what
/// the next leader wrote, so it ends, and is started anew as a standby.
async fn take_part(
    config: &Config,
    admin: &admin::Admin,
    mut standby: startup::Standby,
    leading: &OnceLock<(Arc<Candidate>, Arc<Term>)>,
) -> Ended {
    let candidate = standby.candidate.clone();
    let elected = async {
        standby.caches.wait_synced().await;
        tracing::info!(tenants = standby.caches.tenants.list().len(), "caches are synced");
        candidate.win(|| admin.knows_the_leader()).await
    };
    let term = elected.await;
    admin.leads(&term);
    let (candidate, term) = leading.get_or_init(|| (candidate, term)).clone();
    // Apart, so that nothing that start-up does delays a renewal.
    let holding = { (candidate.clone(), term.clone()) };
    let mut held = JoinSet::new();
    held.spawn(async move { holding.0.hold(&holding.1).await });
    let work = async {
        let context = startup::lead(config, admin.metrics(), &standby, &term).await?;
        let mut tasks = startup::run(context.clone()).await.ok_or("a task ended at the start")?;
        // Ready when there are workers: one that leads without them looks healthy and does nothing.
        admin.started(context);
        // Every task is meant to live for ever; without one of them the operator only looks alive.
        tokio::select! { _ = tasks.join_next() => {}, _ = standby.watches.join_next() => {} }
        Err::<(), Box<dyn std::error::Error>>("a task ended".into())
    };
    tokio::select! {
        biased;
        lost = held.join_next() => match lost {
            Some(Ok(lost)) => Err(lost.into()),
            _ => Err("the election ended".into()),
        },
        result = work => result,
    }
}

fn log(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}
