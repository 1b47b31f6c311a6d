//! `cargo xtask simulate`: the capacity model's customers against the running platform.
//!
//! ```text
//! model (who does what) + day (when) -> batches a tenant -> load::pool -> load::stored -> the table
//! ```

pub mod day;
pub mod model;
pub mod rng;
pub mod spread;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use self::day::Schedule;
use self::model::{Customer, Generator};
use crate::load::pool::{self, Feed, Job, Sent};
use crate::load::reader::{Range, Reader};
use crate::load::table::{Row, Table};
use crate::load::tenants::{self, Purpose, Wanted};
use crate::load::{Batch, Sender, Target, interruptible, stored};
use crate::{Cancel, Error, Paths, Progress, Result, clock};

/// How long a batch is sent again before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// Events of a tenant that are due within this time share a request, as those of an application that posts often do.
const TICK: Duration = Duration::from_millis(50);
/// Requests at once. More events than these carry are sent late, and the report says how late.
const IN_FLIGHT: usize = 32;

/// How `simulate` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Customers: half of them with 500 users, three tenths with 2,000, two tenths with 10,000.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    tenants: u16,
    /// Multiplies their users.
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = factor)]
    scale: f64,
    /// How long the day lasts into which the curve of 24 hours is pressed.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = time)]
    lasting: Duration,
    /// Events a second on average, five times that at the peak. Default: 40 events a user in 24 hours.
    #[arg(long, value_name = "R", value_parser = factor)]
    rate: Option<f64>,
    /// The same seed makes the same users do the same.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

/// Sends a simulated day to the platform that `up` runs.
///
/// # Errors
/// Why nothing was sent.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (cancel, progress) = (interruptible()?, Progress::detect());
    let target = Target::running(&Paths::discover()?, &progress, &cancel)?;
    let customers = model::customers(usize::from(args.tenants), args.scale);
    let rate = args.rate.unwrap_or_else(|| model::mean_rate(&customers));
    let schedule = Schedule::new((rate * args.lasting.as_secs_f64()).round() as u64, args.lasting);
    let users: u64 = customers.iter().map(|customer| u64::from(customer.users)).sum();
    progress.say(&format!(
        "{} customers with {users} users: {} events in {} s, {rate:.1}/s on average, {:.1}/s at the peak, seed {}",
        customers.len(),
        schedule.events(),
        args.lasting.as_secs(),
        rate * day::PEAK,
        args.seed
    ));
    let largest = customers.iter().map(|customer| u64::from(customer.users)).max().unwrap_or_default();
    let purpose = Purpose { name: "simulate", events_max: schedule.events() * largest / users.max(1) };
    let keys = tenants::ensure(&target, purpose, &wanted(&customers), &progress, &cancel)?;
    let began = clock::now();
    let generator =
        Generator::new(customers.clone(), &format!("{}-{}", args.seed, began.as_millisecond()), args.seed);
    let mut load = Load { generator, schedule, late: Duration::ZERO };
    let mut sent = load.send(&target, &keys, &progress, &cancel);
    let mut table = Table(rows(&customers, &sent));
    if !cancel.is_set() {
        let around = SignedDuration::from_secs(1);
        let range = Range { from: began - around, to: clock::now() + around };
        let reader = Reader::new(&target.console, &cancel).with_sink(&target.sink_admin);
        stored::await_stored(&mut table, &keys, range, &reader, &progress, &cancel)?;
    }
    print!("{table}");
    let [p50, p99] =
        [0.5, 0.99].map(|share| pool::quantile(&mut sent.latencies, share).as_secs_f64() * 1_000.0);
    let requests = sent.latencies.len();
    println!(
        "{requests} requests, p50 {p50:.1} ms, p99 {p99:.1} ms; at most {:.1} s late",
        load.late.as_secs_f64()
    );
    if let Some(failure) = &sent.failure {
        println!("not everything was sent: {failure}");
    }
    let kept =
        |row: &Row| row.totals.lost == 0 && row.stored.is_some_and(|stored| stored >= row.totals.accepted);
    let success = sent.failure.is_none() && table.0.iter().all(kept);
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(customers: &[Customer]) -> Vec<Wanted> {
    let display = |c: &Customer| format!("Simulated, {} users", c.users);
    customers.iter().map(|c| Wanted { name: c.name.clone(), display_name: display(c) }).collect()
}

fn rows(customers: &[Customer], sent: &Sent) -> Vec<Row> {
    let row = |(customer, totals): (&Customer, &pool::Totals)| Row {
        tenant: customer.name.clone(),
        display_name: format!("{} users", customer.users),
        totals: totals.clone(),
        stored: None,
    };
    customers.iter().zip(&sent.tenants).map(row).collect()
}

struct Load {
    generator: Generator,
    schedule: Schedule,
    /// How far it fell behind the schedule at worst.
    late: Duration,
}

impl Load {
    fn send(&mut self, target: &Target, keys: &[String], progress: &Progress, cancel: &Cancel) -> Sent {
        let task = progress.task("sending", "events as they come due");
        task.measured(self.schedule.events());
        let sender = Sender::new(&target.ingest, PATIENCE, cancel);
        let sent = pool::run(&sender, keys, IN_FLIGHT, |feed| {
            let (began, mut number) = (Instant::now(), 0);
            while number < self.schedule.events() {
                number = self.tick(number, began, keys.len(), feed)?;
                task.position(feed.settled());
                task.comment(&format!("{} of {} events", feed.settled(), self.schedule.events()));
                if number < self.schedule.events() {
                    let next = self.schedule.due(number).max(began.elapsed().saturating_add(TICK));
                    cancel.pause(next.saturating_sub(began.elapsed()))?;
                }
            }
            Ok(())
        });
        task.done(&format!("{} events answered", sent.tenants.iter().map(|totals| totals.sent).sum::<u64>()));
        sent
    }

    /// Sends everything that is due by now, from event `number` on; returns the first that is not.
    fn tick(&mut self, mut number: u64, began: Instant, tenants: usize, feed: &Feed<'_>) -> Result<u64> {
        let (now, elapsed) = (clock::now(), began.elapsed());
        let mut batches = vec![Batch::default(); tenants];
        while number < self.schedule.events() && self.schedule.due(number) <= elapsed {
            self.late = self.late.max(elapsed - self.schedule.due(number));
            let customer = self.generator.customer();
            let event = self.generator.event(customer, now);
            batches[customer].push(&event);
            if batches[customer].is_full() {
                feed.push(Job { tenant: customer, batch: std::mem::take(&mut batches[customer]) })?;
            }
            number += 1;
        }
        for (tenant, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            feed.push(Job { tenant, batch })?;
        }
        Ok(number)
    }
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| format!("{text:?} is not a number above 0"))
}

fn time(text: &str) -> Result<Duration, String> {
    let time: Option<SignedDuration> = text.parse().ok();
    let time = time.and_then(|time| Duration::try_from(time).ok()).filter(|time| *time > Duration::ZERO);
    time.ok_or_else(|| {
        Error::Format { what: format!("{text:?}"), detail: "write 60s, 5m or 1h".into() }.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_factors_are_positive() {
        assert_eq!(time("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(time("0s").is_err() && time("-5s").is_err() && time("soon").is_err());
        assert_eq!(factor("0.5"), Ok(0.5));
        assert!(
            factor("0").is_err() && factor("-1").is_err() && factor("inf").is_err() && factor("x").is_err()
        );
    }
}
