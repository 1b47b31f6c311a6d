//! The operator: what people declare in YAML becomes streams, databases, keys and signed policy snapshots.

mod admin;
mod audits;
mod belonging;
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
mod ledgers;
mod moves;
mod observe;
mod passage;
mod reaper;
#[cfg(test)]
mod rights_tests;
mod seeding;
mod snapshot;
mod startup;

use std::process::ExitCode;

use clap::Parser;
use config::{Config, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

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

async fn operate(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let admin = admin::Admin::default();
    let metrics = admin.metrics();
    let run = async {
        let started = startup::start(config, metrics).await?;
        admin.started(started.context.clone());
        let mut tasks = startup::run(started).await;
        // Every task is meant to live for ever; without one of them the operator only looks alive.
        tasks.join_next().await;
        Err::<(), Box<dyn std::error::Error>>("a task ended".into())
    };
    tokio::select! {
        result = run => result,
        result = admin::serve(config.admin_listen, admin.clone()) => Ok(result?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
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
