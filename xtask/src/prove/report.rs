//! What came of a proof: numbers and verdicts of each round, in a file that a later run goes on with.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Job, Name, Nats, Scale};
use crate::{Cancel, Error, Result, clock, run};

/// One claim and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The claim.
    pub claim: String,
    /// What was measured.
    pub measured: String,
    /// Whether it holds.
    pub holds: bool,
}

/// What one round gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its seed.
    pub seed: u64,
    /// How long it took, seconds.
    pub seconds: u64,
    /// Its claims.
    pub checks: Vec<Check>,
    /// Everything else that was measured.
    pub numbers: Map<String, Value>,
}

/// The result file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    proof: String,
    commit: String,
    scale: Scale,
    nats: Nats,
    calm: bool,
    seed: u64,
    began: String,
    /// Rounds that are done.
    pub rounds: Vec<Round>,
    #[serde(skip)]
    path: PathBuf,
}

impl Round {
    /// A claim that is about an upper bound.
    pub fn at_most(&mut self, claim: impl Into<String>, measured: f64, most: f64) {
        let claim = format!("{} <= {most}", claim.into());
        self.checks.push(Check { claim, measured: number(measured), holds: measured <= most });
    }

    /// Numbers and claims of a part of the round, under its name.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn part(&mut self, name: &str, measure: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut part = Self::default();
        measure(&mut part)?;
        let under = |text: String| format!("{name}: {text}");
        self.checks.extend(part.checks.into_iter().map(|check| Check { claim: under(check.claim), ..check }));
        self.numbers.extend(part.numbers.into_iter().map(|(number, value)| (under(number), value)));
        Ok(())
    }

    /// A number that is shown without a claim.
    pub fn number(&mut self, name: &str, value: impl Into<Value>) {
        self.numbers.insert(name.to_owned(), value.into());
    }
}

impl Report {
    /// Goes on with the file of the same arguments and commit, or begins one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn open(job: &Job<'_>, name: Name) -> Result<Self> {
        let args = job.args;
        let proof = format!("{name:?}").to_lowercase();
        let nats = if args.nats == Nats::R3 { "-r3" } else { "" };
        let calm = if args.calm { "-calm" } else { "" };
        let planted = if args.planted { "-planted" } else { "" };
        let old =
            args.old.as_ref().map(|old| format!("-old-{}", old.replace(['/', '.'], "-"))).unwrap_or_default();
        let scale = format!("{:?}", args.scale).to_lowercase();
        let dir = job.paths.root.join("target/proofs");
        std::fs::create_dir_all(&dir).map_err(Error::io(format!("cannot create {}", dir.display())))?;
        let path = dir.join(format!("{proof}{old}{nats}{calm}{planted}-{scale}-{}.json", args.seed));
        let commit = commit(&job.paths.root, job.cancel)?;
        let earlier = if args.anew { None } else { load(&path).filter(|report| report.commit == commit) };
        if let Some(earlier) = earlier {
            job.progress.say(&format!("goes on behind round {} of {}", earlier.rounds.len(), path.display()));
            return Ok(Self { path, ..earlier });
        }
        Ok(Self {
            proof,
            commit,
            scale: args.scale,
            nats: args.nats,
            calm: args.calm,
            seed: args.seed,
            began: clock::now().to_string(),
            rounds: vec![],
            path,
        })
    }

    /// Adds a round and writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, round: Round) -> Result<()> {
        self.rounds.push(round);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Format { what: "the result".into(), detail: e.to_string() })?;
        std::fs::write(&self.path, text).map_err(Error::io(format!("cannot write {}", self.path.display())))
    }

    /// Whether every claim of every round holds, and there is one.
    pub fn passed(&self) -> bool {
        let mut checks = self.rounds.iter().flat_map(|round| &round.checks).peekable();
        checks.peek().is_some() && checks.all(|check| check.holds)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn load(path: &Path) -> Option<Report> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// The commit, with a mark when files differ from it: results speak of a state that can be found again.
fn commit(root: &Path, cancel: &Cancel) -> Result<String> {
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("-C").arg(root).args(args);
        run::output(&mut command, "git", cancel)
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.trim().is_empty();
    Ok(format!("{}{}", git(&["rev-parse", "HEAD"])?.trim(), if changed { "+changes" } else { "" }))
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.6}") }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "round with seed {}, {} s", self.seed, self.seconds)?;
        for (name, value) in &self.numbers {
            if !value.is_array() && !value.is_object() {
                writeln!(f, "  {name}: {value}")?;
            }
        }
        for Check { claim, measured, holds } in &self.checks {
            writeln!(f, "  {} {claim}: {measured}", if *holds { "holds " } else { "BROKEN" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_broken_by_one_claim_that_does_not_hold() {
        let mut report = Report {
            proof: "quotas".into(),
            commit: "c".into(),
            scale: Scale::Small,
            nats: Nats::Single,
            calm: true,
            seed: 1,
            began: String::new(),
            rounds: vec![],
            path: PathBuf::new(),
        };
        assert!(!report.passed(), "nothing is proved by nothing");
        let mut round = Round::default();
        round.at_most("over-admitted", 0.0, 0.0);
        report.rounds.push(round.clone());
        assert!(report.passed());
        round.at_most("over-admitted", 1.0, 0.0);
        report.rounds.push(round);
        assert!(!report.passed());
    }
}
