//! The programs around a measured process: what sends to it, and what it is compared with. Each prints one line of JSON.
//!
//! ```text
//! bench-load send  ─ HTTP/1.1, keep-alive, one request in flight a connection ─> ingest, or
//! bench-load echo  ─ axum, reads the body, answers 202
//! ```

mod answer;
mod cpu;
// The model of `cargo xtask simulate` uses them as well; all three are plain arithmetic.
#[path = "../../src/simulate/day.rs"]
mod day;
mod echo;
mod plan;
mod request;
#[allow(dead_code, reason = "the model needs more of it than a load does")]
#[path = "../../src/simulate/rng.rs"]
mod rng;
mod send;
#[allow(dead_code, reason = "the model's tests need more of it than a load does")]
#[path = "../../src/simulate/spread.rs"]
mod spread;

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
