//! `prove ledger`: the model test of `policy::ledger`, with many more interleavings than the ordinary tests take.

use std::time::Instant;

use super::report::{Check, Round};
use super::{Job, Scale};
use crate::run::{Line, run};
use crate::{Error, Paths, Result};

/// One round.
///
/// # Errors
/// When the tests cannot be built.
pub fn round(job: &Job<'_>, seed: u64) -> Result<Round> {
    let began = Instant::now();
    let cases = if job.args.scale == Scale::Small { 5_000 } else { 200_000 };
    let task = job.progress.task("model", &format!("{cases} interleavings of each property, seed {seed}"));
    let mut command = Paths::cargo();
    // proptest's own variables: the tests take them where they are larger than theirs.
    command
        .current_dir(&job.paths.root)
        .args(["test", "-p", "policy", "--lib", "ledger"])
        .env("PROPTEST_CASES", cases.to_string())
        .env("PROPTEST_RNG_SEED", seed.to_string());
    let mut results = Vec::new();
    let ran = run(&mut command, "the ledger's model", job.cancel, |line| {
        if let Line::Out(text) = line
            && let Some((name, result)) = text.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            task.comment(name);
            results.push((name.to_owned(), result.to_owned()));
        }
    });
    if let Err(error @ (Error::Interrupted | Error::Missing { .. } | Error::Io { .. })) = ran {
        return Err(error);
    }
    task.done(&format!("{} tests ended", results.len()));
    let mut round = Round { seed, seconds: began.elapsed().as_secs(), ..Round::default() };
    round.number("interleavingsOfEachProperty", cases);
    let check =
        |(name, result): (String, String)| Check { claim: name, holds: result == "ok", measured: result };
    round.checks = results.into_iter().map(check).collect();
    let (holds, measured) = match ran {
        Ok(()) => (true, "all passed".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    round.checks.push(Check { claim: "the test program ends well".into(), measured, holds });
    Ok(round)
}
