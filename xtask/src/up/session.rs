//! What happens between the start and the end of `up`: the example, the traffic, the table, the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::live::Table;
use super::probe::{self, Delays, Prober};
use super::quickstart::{self, Tenant};
use super::traffic::{self, Generator, Tally};
use super::verdict::Verdict;
use super::{Args, hints, tell_crashes};
use crate::load::Sender;
use crate::platform::Platform;
use crate::{Cancel, Paths, Progress, Result, clock};

/// How long a batch is sent again before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// With `--for`, the traffic leaves at least this share of the time to watch it settle.
const SETTLE_SHARE: u32 = 5;

/// A tenant and what is measured of it.
pub(super) struct Watched<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// What became of its events.
    pub tally: Tally,
    /// How long its probes took.
    pub delays: Delays,
}

/// Runs until Ctrl-C, SIGTERM or the end of `--for`, and says whether all went through.
pub(super) fn run(
    platform: &Platform,
    progress: &Progress,
    cancel: &Cancel,
    args: &Args,
) -> Result<ExitCode> {
    let folder = Paths::discover()?.root.join("examples/quickstart");
    let tenants = quickstart::apply(platform, &folder, progress, cancel)?;
    platform.announce_ready()?;
    hints::all(platform, &tenants)?.iter().for_each(|line| progress.say(line));

    let watched: Vec<Watched<'_>> = tenants
        .iter()
        .map(|tenant| Watched { tenant, tally: Tally::default(), delays: Delays::default() })
        .collect();
    let lasting = args.lasting;
    let traffic = lasting.map_or(args.traffic, |lasting| args.traffic.min(lasting - lasting / SETTLE_SHARE));
    let mut verdict = Verdict::begin(clock::now());
    let mut session = Session { platform, progress, cancel, watched: &watched, crashes: 0 };
    session.watch(traffic, lasting)?;
    verdict.crashes = session.crashes;
    if cancel.is_set() {
        verdict.say_interrupted(&watched, progress);
        return Ok(ExitCode::SUCCESS);
    }
    verdict.reach(platform, &folder, &watched, progress, cancel)
}

struct Session<'a> {
    platform: &'a Platform,
    progress: &'a Progress,
    cancel: &'a Cancel,
    watched: &'a [Watched<'a>],
    crashes: usize,
}

impl Session<'_> {
    /// Shows the table while the traffic goes on, and after it.
    fn watch(&mut self, traffic: Duration, lasting: Option<Duration>) -> Result<()> {
        let urls = self.platform.urls()?;
        // Two switches: the end of the traffic is not the end of the run.
        let (traffic_ends, began) = (Cancel::default(), Instant::now());
        let run = clock::now().as_millisecond().to_string();
        let sender = Sender::new(&urls.ingest, PATIENCE, self.cancel);
        let prober = Prober::new(&sender, &urls.console, &run);
        let say = |text: &str| self.progress.say(text);
        let seconds = traffic.as_secs();
        say(&format!("simulated traffic for {seconds} s; Ctrl-C or `cargo xtask down` stops everything"));
        std::thread::scope(|scope| {
            for (seed, watched) in (1..).zip(self.watched) {
                let (sender, prober, end) = (&sender, &prober, &traffic_ends);
                let generator = Generator::new(&run, seed);
                scope.spawn(move || {
                    traffic::send(sender, &watched.tenant.ingest.key, generator, &watched.tally, end);
                });
                scope.spawn(move || probe::run(prober, watched.tenant, &watched.tally, &watched.delays, end));
            }
            let mut table = Table::new(&urls, self.watched, self.progress);
            while lasting.is_none_or(|lasting| began.elapsed() < lasting) {
                if self.cancel.pause(Duration::from_secs(1)).is_err() {
                    break;
                }
                self.crashes += tell_crashes(self.platform, self.progress);
                if began.elapsed() >= traffic && !traffic_ends.is_set() {
                    traffic_ends.set();
                    say("the simulated traffic is over; send your own");
                }
                table.renew();
            }
            traffic_ends.set();
            table.close();
        });
        Ok(())
    }
}
