//! `cargo xtask prove NAME`: long proofs on the real parts, seeded, in rounds, at most half an hour.
//!
//! ```text
//! round n (seed + n): limits -> load (retries) + faults (schedule) -> calm -> count what is stored, read the ledger -> verdict
//! ```
//! A round that is done is in the result file; a run that was interrupted goes on behind it.

mod check;
mod client;
mod conservation;
mod crash_points;
mod enforcement;
mod failover;
mod faults;
mod frozen;
mod gitops;
mod interrupted;
mod lagging;
mod ledger;
mod ledger_cost;
mod limits;
mod load;
mod mixed;
mod moves;
mod nats;
mod noisy;
mod outages;
mod outside;
mod pods;
mod proxy;
mod quotas;
mod report;
pub mod rollups;
mod steady;
mod takeover;
mod versions;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::load::interruptible;
use crate::{Cancel, Paths, Progress, Result};

use self::report::Report;

/// No proof takes longer: a round is begun only if it fits.
const LASTS_AT_MOST: Duration = Duration::from_secs(30 * 60);

/// What can be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// The ledger's model: every interleaving of crash, pause, lost and repeated answers that the seed gives keeps the cap.
    Ledger,
    /// Eight pods, 100 limits at once, pods killed and frozen, NATS restarted: nothing beyond a limit is stored.
    Quotas,
    /// What a limit costs: ledger operations an event, for one large limit and for 100,000 users.
    LedgerCost,
    /// A million events, every process killed and frozen: none lost, none stored twice, none invented, all accounted for.
    Faults,
    /// Sink and ingest die, stand still and fail at every named place of the protocol.
    CrashPoints,
    /// Tenants move between lanes under load, a pod stands still across each cut-over: none lost, none twice, queries never show less.
    Moves,
    /// Ingest and sink of two versions side by side, upgraded and rolled back under load: none lost, none twice, no limit exceeded.
    Mixed,
    /// ClickHouse and NATS away, a full disk, lost answers: refused or kept, never lost.
    Outages,
    /// Many tenants loaded: a changed limit is in force on every pod within a second; pods that cannot follow admit nothing.
    Enforcement,
    /// Many tenants created at once, an idle operator, one that is killed: how soon all is in force, and what is written.
    Steady,
    /// Two operators: the leader frozen or ended at any moment is followed within seconds, and changes nothing when it wakes.
    Takeover,
    /// The operator dies before each of its changes, loses every status, loses the cluster: what stands in the end is as if nothing had
    /// happened.
    Interrupted,
    /// A tenant with a thousand objects that fail again and again: the changes of others are in force as soon as without it.
    Noisy,
    /// Argo CD's own application controller syncs `examples/argocd` again and again: Synced and Healthy, and nothing goes back and forth.
    Gitops,
}

/// How large.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Under a minute beyond the start of the parts.
    Small,
    /// What the documents claim.
    #[default]
    Full,
}

/// Which NATS.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Nats {
    /// One server.
    #[default]
    Single,
    /// Three servers that keep everything three times.
    R3,
}

impl Nats {
    /// Servers.
    pub fn nodes(self) -> u8 {
        match self {
            Self::Single => 1,
            Self::R3 => 3,
        }
    }
}

/// How `prove` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to prove.
    #[arg(required_unless_present = "list")]
    name: Option<Name>,
    /// Say what can be proved.
    #[arg(long)]
    list: bool,
    /// The same seed gives the same load and the same faults at the same times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How large.
    #[arg(long, value_enum, default_value_t)]
    scale: Scale,
    /// Which NATS the proof runs on.
    #[arg(long, value_enum, default_value_t)]
    nats: Nats,
    /// Leave pods and NATS alone: then nothing may be left unused either.
    #[arg(long)]
    calm: bool,
    /// Put in a fault that the proof must find (`moves`, `mixed`, `takeover`): then it must fail.
    #[arg(long)]
    planted: bool,
    /// Tenants of `enforcement` and `steady`, when the machine has no room for as many as its scale says.
    #[arg(long)]
    tenants: Option<usize>,
    /// The commit that older programs are taken from: those of `mixed`, by default of the last one before sinks knew seats, and the
    /// operator that `steady` begins with and upgrades, by default none.
    #[arg(long)]
    old: Option<String>,
    /// Rounds; each has a seed of its own, counted up.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Forget the rounds of an earlier run with the same arguments.
    #[arg(long)]
    anew: bool,
}

/// What every proof is given.
pub(crate) struct Job<'a> {
    pub args: &'a Args,
    pub paths: &'a Paths,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
}

/// Proves, or lists.
///
/// # Errors
/// Why it could not be tried. That it failed is in the exit code and in the result file.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Some(name) = args.name.filter(|_| !args.list) else {
        for name in <Name as clap::ValueEnum>::value_variants() {
            if let Some(value) = clap::ValueEnum::to_possible_value(name) {
                println!("{:<12} {}", value.get_name(), value.get_help().unwrap_or(&"".into()));
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), interruptible()?);
    let job = Job { args, paths: &paths, progress: &progress, cancel: &cancel };
    let mut report = Report::open(&job, name)?;
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while report.rounds.len() < args.rounds as usize {
        if began.elapsed() + longest > LASTS_AT_MOST {
            progress.say("the next round would not fit into half an hour: run the same command again");
            break;
        }
        let (round_began, seed) = (Instant::now(), args.seed + report.rounds.len() as u64);
        let round = match name {
            Name::Ledger => ledger::round(&job, seed)?,
            Name::Quotas => quotas::round(&job, seed)?,
            Name::Enforcement => enforcement::round(&job, seed)?,
            Name::Steady => steady::round(&job, seed)?,
            Name::Takeover => takeover::round(&job, seed)?,
            Name::Interrupted => interrupted::round(&job, seed)?,
            Name::Noisy => noisy::round(&job, seed)?,
            Name::Gitops => gitops::round(&job, seed)?,
            Name::Faults => conservation::round(&job, seed)?,
            Name::CrashPoints => crash_points::round(&job, seed)?,
            Name::Moves => moves::round(&job, seed)?,
            Name::Mixed => mixed::round(&job, seed)?,
            Name::Outages => outages::round(&job, seed)?,
            Name::LedgerCost => ledger_cost::round(&job, seed)?,
        };
        longest = longest.max(round_began.elapsed());
        print!("{round}");
        report.add(round)?;
    }
    println!("{}: {}", if report.passed() { "proved" } else { "NOT proved" }, report.path().display());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
