//! The load: connections that stay open, one request in flight on each, as fast as answers come or at a rate.
//!
//! At a rate, request n is due at `n / rate` and its time runs from then, whether or not a connection was free: a server that
//! stalls is not spared the requests that it kept waiting. Timers of this program fire up to 1 ms late, and that is in the times.

use std::error::Error;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::answer;
use crate::cpu;
use crate::plan::Choices;
use crate::request::{Times, Writer};
use crate::rng::Rng;

/// How it is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `host:port` of the server.
    #[arg(long)]
    host: String,
    /// The API key of the only tenant.
    #[arg(long, required_unless_present = "plan")]
    key: Option<String>,
    /// File that names the tenants, their users and features.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// The events happened over the day before the start, of which this many are a whole.
    #[arg(long)]
    day: Option<u64>,
    /// Seed of who does what.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Events a request: a number, or the least and the most.
    #[arg(long, default_value = "1", value_parser = sizes)]
    events: RangeInclusive<u64>,
    /// Events a second; without it as many as are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// How long it is measured.
    #[arg(long)]
    seconds: f64,
    /// Ends after so many events, each of which counts, however long that takes.
    #[arg(long)]
    total: Option<u64>,
    /// How long it runs before that.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Part of every id.
    #[arg(long)]
    run: String,
}

/// What was measured, of answers that came within the measured time.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Requests answered 202.
    requests: u64,
    /// Events in them.
    sent: u64,
    /// Those that were accepted.
    events: u64,
    /// Requests answered otherwise, or not at all.
    failed: u64,
    /// How the first of those failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The measured time.
    seconds: f64,
    /// Events accepted in all, those of the warm-up among them.
    all_events: u64,
    /// Processor time of this program in all.
    cpu_seconds: f64,
    /// Requests that were not sent when they were due, because every connection was busy.
    late: u64,
    /// Quantiles of the times to an answer, in microseconds.
    p50_us: u32,
    p99_us: u32,
    max_us: u32,
}

/// What all connections share.
struct Plan {
    args: Args,
    began: Instant,
    choices: Choices,
    times: Times,
    /// Number of the next event.
    next: AtomicU64,
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Seen {
    report: Report,
    times_us: Vec<u32>,
}

/// Sends until the time is over.
///
/// # Errors
/// When the server cannot be reached.
pub fn run(args: &Args) -> Result<Report, Box<dyn Error>> {
    let choices = match (&args.plan, &args.key) {
        (Some(file), _) => Choices::read(file)?,
        (None, key) => Choices::one(key.as_deref().unwrap_or_default()),
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let times = args.day.map_or(Times::Receipt, |events| Times::day(events, now_ms));
    let (args, next, began) = (args.clone(), AtomicU64::new(0), Instant::now());
    let plan = Arc::new(Plan { args: args.clone(), began, choices, times, next });
    // A thread a core, each with its part of the connections: nothing moves between them.
    let threads = std::thread::available_parallelism()?.get().min(args.connections.max(1));
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let plan = plan.clone();
            std::thread::spawn(move || work(&plan, thread, threads))
        })
        .collect();
    let mut all = Seen::default();
    for worker in workers {
        all.join(worker.join().map_err(|_| "a thread of the load panicked")??);
    }
    all.times_us.sort_unstable();
    let quantile = |share: f64| {
        let last = all.times_us.len().saturating_sub(1);
        all.times_us.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
    };
    let (p50_us, p99_us, max_us) = (quantile(0.5), quantile(0.99), quantile(1.0));
    let (seconds, cpu_seconds) = (args.seconds, cpu::seconds());
    Ok(Report { seconds, cpu_seconds, p50_us, p99_us, max_us, ..all.report })
}

impl Seen {
    fn join(&mut self, other: Self) {
        self.report.requests += other.report.requests;
        self.report.sent += other.report.sent;
        self.report.events += other.report.events;
        self.report.all_events += other.report.all_events;
        self.report.failed += other.report.failed;
        self.report.late += other.report.late;
        self.report.failure = self.report.failure.take().or(other.report.failure);
        self.times_us.extend(other.times_us);
    }

    fn fail(&mut self, why: String) {
        self.report.failed += 1;
        self.report.failure.get_or_insert(why);
    }
}

fn work(plan: &Arc<Plan>, thread: usize, threads: usize) -> io::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mine = (0..plan.args.connections).filter(|connection| connection % threads == thread);
        let tasks: Vec<_> = mine
            .map(|number| {
                let plan = plan.clone();
                tokio::spawn(async move { connection(&plan, number).await })
            })
            .collect();
        let mut all = Seen::default();
        for task in tasks {
            all.join(task.await.map_err(io::Error::other)??);
        }
        Ok(all)
    })
}

async fn connection(plan: &Plan, connection: usize) -> io::Result<Seen> {
    let args = &plan.args;
    let mut writer = Writer::new(&args.host, &args.run, plan.times.clone());
    let mut rng = Rng::new(args.seed.wrapping_add(connection as u64) << 20);
    let (mut request, mut buffer, mut seen) = (Vec::new(), Vec::new(), Seen::default());
    let mut stream = connect(&args.host).await?;
    let begins = Duration::from_secs_f64(if args.total.is_some() { 0.0 } else { args.warm_up });
    let ends = begins + Duration::from_secs_f64(args.seconds);
    loop {
        let spread = (args.events.end() - args.events.start()) as usize;
        let events = args.events.start() + rng.below(spread + 1) as u64;
        let first = plan.next.fetch_add(events, Ordering::Relaxed);
        let events = args.total.map_or(events, |total| events.min(total.saturating_sub(first)));
        let due = args.rate.map(|rate| Duration::from_secs_f64(first as f64 / rate));
        let is_over = match args.total {
            Some(total) => first >= total,
            None => due.unwrap_or(plan.began.elapsed()) >= ends,
        };
        if is_over {
            return Ok(seen);
        }
        if let Some(due) = due {
            let ahead = due.checked_sub(plan.began.elapsed());
            seen.report.late += u64::from(ahead.is_none() && due >= begins);
            tokio::time::sleep(ahead.unwrap_or_default()).await;
        }
        let due = due.unwrap_or_else(|| plan.began.elapsed());
        let tenant = plan.choices.tenant(&mut rng);
        writer.write(tenant, (first, events), &plan.choices, &mut rng, &mut request);
        let outcome = async {
            stream.write_all(&request).await?;
            answer::read(&mut stream, &mut buffer).await
        };
        let outcome = outcome.await;
        let now = plan.began.elapsed();
        // At a rate every request that was due counts, however late its answer is.
        let counts = if args.rate.is_some() {
            due >= begins
        } else {
            now >= begins && (now < ends || args.total.is_some())
        };
        match outcome {
            Ok(answer) if answer.status == 202 => {
                seen.report.all_events += answer.accepted;
                if counts {
                    seen.report.requests += 1;
                    seen.report.sent += events;
                    seen.report.events += answer.accepted;
                    let time_us = now.saturating_sub(due).as_micros();
                    seen.times_us.push(u32::try_from(time_us).unwrap_or(u32::MAX));
                }
            }
            Ok(answer) => {
                let body = String::from_utf8_lossy(&buffer);
                seen.fail(format!("{}: {}", answer.status, body.lines().last().unwrap_or_default()));
            }
            Err(error) => {
                seen.fail(error.to_string());
                stream = connect(&args.host).await?;
            }
        }
    }
}

async fn connect(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if (1..=most).contains(&least) => Ok(least..=most),
        _ => Err(format!("{text:?} is neither a number nor two, such as 1-100")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_one_size_or_many() {
        assert_eq!((sizes("1"), sizes("1-100")), (Ok(1..=1), Ok(1..=100)));
        assert!(sizes("0").is_err() && sizes("5-1").is_err() && sizes("x").is_err());
    }
}
