//! `prove ledger`: the model of `policy::ledger` (`policy/src/model.rs`), for many more interleavings than the ordinary tests take.

use std::time::Instant;

use serde_json::Value;

use super::report::Round;
use super::{Job, Scale};
use crate::run::{Line, run};
use crate::{Error, Paths, Result};

/// Runs that one process makes: how often progress is told.
const CHUNK: u64 = 20_000;
/// Steps of a run.
const STEPS: u64 = 300;

/// One round.
///
/// # Errors
/// When the model cannot be built or run.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let runs = if job.args.scale == Scale::Small { CHUNK } else { 50 * CHUNK };
    let task = job.progress.task("model", &format!("{runs} interleavings of {STEPS} steps"));
    task.measured(runs);
    let mut round = Round { seed, ..Round::default() };
    let (mut faults, mut operations, mut broken) = (0, 0, 0);
    for done in (0..runs).step_by(CHUNK as usize) {
        // Seeds of other rounds are others.
        let answer = chunk(job, seed * 1_000_000_000 + done)?;
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        faults += number("faults");
        operations += number("operations");
        broken += number("broken");
        task.position(done + CHUNK);
        task.comment(&format!("{} interleavings, {broken} broken", done + CHUNK));
    }
    task.done(&format!("{runs} interleavings, {broken} broken"));
    round.number("interleavings", runs);
    round.number("steps of each", STEPS);
    round.number("faults", faults);
    round.number("operations", operations);
    round.at_most("interleavings that broke a promise", broken as f64, 0.0);
    round.seconds = began.elapsed().as_secs();
    Ok(round)
}

fn chunk(job: &Job<'_>, first: u64) -> Result<Value> {
    let numbers = [first, CHUNK, STEPS].map(|number| number.to_string());
    let mut command = Paths::cargo();
    command
        .current_dir(&job.paths.root)
        .args(["run", "--quiet", "-p", "policy", "--features", "model", "--example", "ledger_model", "--"])
        .args(&numbers);
    let mut answer = Value::Null;
    let ran = run(&mut command, "the ledger's model", job.cancel, |line| match line {
        Line::Out(text) => answer = serde_json::from_str(text).unwrap_or_default(),
        Line::Err(text) => job.progress.say(text),
    });
    match ran {
        // A broken promise is an answer.
        Err(Error::Program { .. }) if answer["broken"].as_u64() > Some(0) => Ok(answer),
        Err(error) => Err(error),
        Ok(()) => Ok(answer),
    }
}
