//! Serves the dashboards of every tenant. `console --openapi` prints the API's OpenAPI document.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use console::config::{Config, LogFormat};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Before the configuration is read: the document needs none of it.
    if std::env::args().nth(1).as_deref() == Some("--openapi") {
        return match std::io::stdout().write_all(console::api::openapi_json().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let config = Config::parse();
    if let Err(error) = log_to_stderr(&config) {
        eprintln!("console: {error}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(console::start::StartError::from)
        .and_then(|rt| rt.block_on(console::start::run(config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| format!("--log: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs.init(),
    }
    Ok(())
}
