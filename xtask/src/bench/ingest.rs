//! `bench ingest`: what a pod admits, beside what its two halves could do alone on the same cores.
//!
//! ```text
//! rounds: echo, publish, OURS, echo, publish, OURS, … echo, publish     H = 1 / (1/echo + 1/publish)
//! echo:   the same HTTP server, which reads the body and answers        publish: nats.go, 1 KB messages, asynchronous
//! ```
//! The other parts of the platform run, and have nothing to do.

use std::process::ExitCode;
use std::time::Duration;

use super::figures::{Figure, LOAD, Run, Verdict, around, in_turn, show};
use super::fsyncs;
use super::load::{Echo, Nats, Of, Send, Sent, send};
use super::processes::Cpu;
use super::tables::Tables;
use super::tenant::{NAME, POD, YAML};
use super::world::{Bench, ONE_LANE_MIB, World};
use crate::{Error, Result};

/// Rounds of a comparison; odd, so that the median is one of them.
const ROUNDS: usize = 5;
/// Those of the comparison for which NATS is restarted each time.
const RESTARTS: usize = 3;
/// How long one run is measured.
const RUN_SECONDS: f64 = 2.0;
/// How long latency is measured: tens of thousands of requests.
const LATENCY_SECONDS: f64 = 10.0;
/// Messages that the publisher may have on their way: the fastest of these is the baseline.
const PENDING: [u64; 3] = [512, 2_000, 8_000];
/// Share of the highest rate at which latency is measured.
const SUSTAINED: f64 = 0.7;
/// Events of a large request.
const BATCH: u64 = 100;
/// Connections of one-event requests, and of large ones: more of these would be more packs than a lane lets wait.
const CONNECTIONS: (u64, u64) = (256, 24);

/// A bench in progress.
struct Ingest<'a> {
    world: &'a World<'a>,
    nats: Nats<'a>,
    echo: Echo,
    key: String,
    host: String,
    pending: u64,
    runs: u32,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or does not answer as it should.
pub(super) fn run(tables: Tables) -> Result<ExitCode> {
    let bench = Bench::prepare(tables)?;
    let world = World::start(&bench, &["operator", POD], false, ONE_LANE_MIB)?;
    let key = world.tenant(NAME, YAML, POD)?;
    let mut ingest = Ingest {
        nats: world.nats()?,
        echo: Echo::start(&bench.programs.load)?,
        host: world.host(POD)?,
        world: &world,
        key,
        pending: PENDING[0],
        runs: 0,
    };
    // The first request fetches the tenant's pseudonym key from Vault, and its users' records are made.
    ingest.ours(1, None, RUN_SECONDS)?;
    println!("bench ingest: {}; {ROUNDS} rounds of {RUN_SECONDS} s", bench.machine());
    let mut verdict = Verdict::default();
    let (ours, publish) = ingest.singles(&mut verdict)?;
    ingest.latency(ours)?;
    ingest.batches(publish, &mut verdict)?;
    ingest.synced(&mut verdict)?;
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Ingest<'_> {
    /// One event a request, between runs of both baselines. Returns our median and the publisher's.
    fn singles(&mut self, verdict: &mut Verdict) -> Result<(f64, f64)> {
        self.pending = self.best_pending()?;
        let (mut echoes, mut published, mut ours) = (vec![], vec![], vec![]);
        for round in 0..=ROUNDS {
            echoes.push(self.echoed()?);
            published.push(self.published()?);
            if round < ROUNDS {
                ours.push(self.ours(1, None, RUN_SECONDS)?.0);
            }
        }
        let rates = |runs: &[Run]| runs.iter().map(|run| run.rate).collect::<Vec<_>>();
        let together: Vec<f64> = rates(&echoes)
            .into_iter()
            .zip(rates(&published))
            .map(|(one, other)| in_turn(one, other))
            .collect();
        let ratio = Figure::of(rates(&ours).iter().zip(around(&together)).map(|(ours, both)| ours / both));
        println!("one event of 1 KB a request, {} messages of the publisher on their way:", self.pending);
        show("echo", &echoes);
        show("publish", &published);
        println!("  {:<10} {} events/s", "H", Figure::of(together));
        show("ours", &ours);
        verdict.at_least("ours / H, median", ratio.median(), 0.8);
        println!("       of all rounds: {ratio}");
        Ok((Figure::of(rates(&ours)).median(), Figure::of(rates(&published)).median()))
    }

    /// The times to an answer at a rate that can be sustained.
    fn latency(&mut self, most: f64) -> Result<()> {
        let (_, sent) = self.ours(1, Some(most * SUSTAINED), LATENCY_SECONDS)?;
        println!(
            "at {:.0} events/s, {} requests: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; {} found every connection busy",
            sent.rate(),
            sent.requests,
            f64::from(sent.p50_us) / 1_000.0,
            f64::from(sent.p99_us) / 1_000.0,
            f64::from(sent.max_us) / 1_000.0,
            sent.late
        );
        Ok(())
    }

    /// Many events a request, between runs of the publisher.
    fn batches(&mut self, publish: f64, verdict: &mut Verdict) -> Result<()> {
        let (mut published, mut ours) = (vec![self.published()?], vec![]);
        for _ in 0..ROUNDS {
            ours.push(self.ours(BATCH, None, RUN_SECONDS)?.0);
            published.push(self.published()?);
        }
        let baseline = around(&published.iter().map(|run| run.rate).collect::<Vec<_>>());
        let ratio = Figure::of(ours.iter().zip(baseline).map(|(ours, publish)| ours.rate / publish));
        println!("{BATCH} events a request:");
        show("publish", &published);
        show("ours", &ours);
        verdict.at_least("ours / publish, median", ratio.median(), 2.0);
        println!("       of all rounds: {ratio}; publish was {publish:.0} before");
        Ok(())
    }

    /// With each pack on disk before it is acknowledged, between runs without.
    fn synced(&mut self, verdict: &mut Verdict) -> Result<()> {
        let (mut without, mut with) = (vec![self.ours(1, None, RUN_SECONDS)?.0], vec![]);
        for round in 0..RESTARTS {
            self.sync_always(true)?;
            with.push(self.ours(1, None, RUN_SECONDS)?.0);
            if round + 1 == RESTARTS {
                let counted =
                    fsyncs::during(self.world.platform.pid("nats")?, &self.world.bench.cancel, || {
                        self.ours(1, None, RUN_SECONDS)
                    })?;
                match counted {
                    Some((calls, (run, _))) => {
                        verdict.at_most("fsyncs an event, under strace", calls as f64 / run.events, 0.05)
                    }
                    None => println!("fsyncs an event: not run, strace is not installed"),
                }
            }
            self.sync_always(false)?;
            without.push(self.ours(1, None, RUN_SECONDS)?.0);
        }
        let baseline = around(&without.iter().map(|run| run.rate).collect::<Vec<_>>());
        let ratio = Figure::of(with.iter().zip(baseline).map(|(with, without)| with.rate / without));
        println!("sync_interval: always, one event a request:");
        show("without", &without);
        show("with", &with);
        verdict.at_least("with / without, median", ratio.median(), 0.8);
        println!("       of all rounds: {ratio}");
        Ok(())
    }

    fn sync_always(&self, always: bool) -> Result<()> {
        self.world.platform.sync_always(always)?;
        if self.world.syncs_always()? != always {
            let detail = format!("it does not say sync_always: {always}");
            return Err(Error::Program { program: "nats".into(), detail });
        }
        self.world.await_accepts(POD, &self.key)
    }

    fn ours(&mut self, events: u64, rate: Option<f64>, seconds: f64) -> Result<(Run, Sent)> {
        self.runs += 1;
        let platform = &self.world.platform;
        let run = format!("r{:03}", self.runs);
        let before = Cpu::now(platform)?;
        let connections = if events == 1 { CONNECTIONS.0 } else { CONNECTIONS.1 };
        let order = Send {
            events: (events, events),
            connections,
            rate,
            seconds,
            ..Send::new(&self.host, Of::Key(&self.key), &run)
        };
        let sent = send(&self.world.bench.programs.load, &order, &self.world.bench.cancel)?;
        let cpu = Cpu::now(platform)?.since(&before).with(LOAD, sent.cpu_seconds);
        Ok((Run { rate: sent.rate(), cpu, events: sent.all_events as f64 }, sent))
    }

    fn echoed(&mut self) -> Result<Run> {
        self.runs += 1;
        let run = format!("e{:03}", self.runs);
        let before = Cpu::of("echo", self.echo.pid())?;
        let order = Send { seconds: RUN_SECONDS, ..Send::new(&self.echo.host, Of::Key(&self.key), &run) };
        let sent = send(&self.world.bench.programs.load, &order, &self.world.bench.cancel)?;
        let cpu = Cpu::of("echo", self.echo.pid())?.since(&before).with(LOAD, sent.cpu_seconds);
        Ok(Run { rate: sent.rate(), cpu, events: sent.all_events as f64 })
    }

    fn published(&self) -> Result<Run> {
        let platform = &self.world.platform;
        let before = Cpu::of("nats", platform.pid("nats")?)?;
        let published = self.nats.publish(RUN_SECONDS, self.pending, &self.world.bench.cancel)?;
        let cpu =
            Cpu::of("nats", platform.pid("nats")?)?.since(&before).with("publisher", published.cpu_seconds);
        // Nothing of the stream that was deleted is to be written back while something else is measured.
        self.world.bench.cancel.pause(Duration::from_millis(100))?;
        Ok(Run { rate: published.rate(), cpu, events: published.messages as f64 })
    }

    fn best_pending(&self) -> Result<u64> {
        let mut best = (0.0, PENDING[0]);
        for pending in PENDING {
            let rate = self.nats.publish(RUN_SECONDS / 2.0, pending, &self.world.bench.cancel)?.rate();
            if rate > best.0 {
                best = (rate, pending);
            }
        }
        Ok(best.1)
    }
}
