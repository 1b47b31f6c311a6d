//! The programs around a measured process: what sends to it, and what it is compared with. Each prints one line of JSON.
//!
//! ```text
//! bench-load send  ─ HTTP/1.1, keep-alive, one request in flight a connection ─> ingest, or
//! bench-load echo  ─ axum, reads the body, answers 202
//! ```

mod answer;
mod cpu;
mod echo;
mod request;
mod send;

use std::error::Error;

use clap::Parser;

/// Load generator and baselines.
#[derive(Debug, Parser)]
#[command(name = "bench-load", version)]
enum Command {
    /// Posts events and says how fast they were answered.
    Send(send::Args),
    /// Answers every request with 202; prints its address first.
    Echo,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Send(args) => println!("{}", serde_json::to_string(&send::run(&args)?)?),
        Command::Echo => echo::run()?,
    }
    Ok(())
}
