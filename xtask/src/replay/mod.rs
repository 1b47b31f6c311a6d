//! `cargo xtask replay FILE`: sends somebody's events through the running platform and tells what became of them.
//!
//! ```text
//! source (the file) -> mapping -> slug (tenants) -> load::{tenants, pool} -> load::stored, check -> the table
//! ```

pub mod check;
pub mod mapping;
pub mod slug;
pub mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use event::TenantName;
use jiff::{SignedDuration, Timestamp};

use self::check::Shown;
use self::mapping::Fields;
use self::source::{Content, Source};
use crate::load::pool::{self, Feed, Job, Sent};
use crate::load::reader::{Range, Reader};
use crate::load::table::{Row, Table};
use crate::load::tenants::{self, Purpose, Wanted};
use crate::load::{Batch, Sender, Target, interruptible, stored};
use crate::{Cancel, Error, Paths, Progress, Result, clock};

/// How long a batch is sent again before it counts as lost: longer than any process of ours takes to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// The dashboard is read from this long before the first event: an earlier replay of the same file has put the same events
/// there, and their ids are remembered for so long.
const EARLIER_REPLAYS: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Longest display name of a Tenant, in characters.
const DISPLAY_NAME_MAX: usize = 128;

/// How `replay` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Line-delimited JSON, plain or compressed with gzip.
    file: PathBuf,
    #[command(flatten)]
    fields: Fields,
    /// Where the times go: all are shifted by one constant, so that the last event lies this far from now.
    #[arg(long, value_name = "last=-TIME", default_value = "last=-60s", value_parser = shift, allow_hyphen_values = true)]
    shift: SignedDuration,
    /// Leave the times as they are.
    #[arg(long, conflicts_with = "shift")]
    no_shift: bool,
    /// Requests at once, over all ingest pods.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
    /// Compare counts by tenant and feature, and distinct users, with what the dashboard says.
    #[arg(long)]
    check: bool,
}

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file.
    pub source: Source,
    /// Where the last event lies relative to now; `None` leaves the times as they are.
    pub last: Option<SignedDuration>,
    /// Requests at once.
    pub in_flight: usize,
    /// Whether to compare the dashboard with the file.
    pub check: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// By tenant.
    pub table: Table,
    /// How long the sending took.
    pub took: Duration,
    /// Why not everything was sent.
    pub failure: Option<Error>,
    /// Numbers of the dashboard that are not the file's; `None`: nobody compared.
    pub mismatches: Option<Vec<String>>,
}

impl Report {
    /// Whether everything was sent, nothing was wrong with it, whatever was accepted is stored, and the comparison, if there was
    /// one, found nothing. What a limit refused is no failure: that is what limits are for.
    pub fn is_success(&self) -> bool {
        let kept = |row: &Row| {
            let refused = row.totals.lost + row.totals.rejected;
            refused == 0 && row.stored.is_some_and(|stored| stored >= row.totals.accepted)
        };
        self.failure.is_none()
            && self.table.0.iter().all(kept)
            && self.mismatches.as_ref().is_none_or(Vec::is_empty)
    }

    fn print(&self) {
        let (sum, seconds) = (self.table.sum(), self.took.as_secs_f64());
        print!("{}", self.table);
        let rate = sum.totals.sent as f64 / seconds.max(0.001);
        println!(
            "sent in {seconds:.1} s, {rate:.0} events/s, {} requests were sent again",
            sum.totals.retries
        );
        match &self.mismatches {
            Some(none) if none.is_empty() => {
                println!("check: every count and every number of users is the file's");
            }
            Some(some) => some.iter().for_each(|mismatch| println!("check: {mismatch}")),
            None => {}
        }
        if let Some(failure) = &self.failure {
            println!(
                "not everything was sent: {failure}; the same command sends what is missing, nothing twice"
            );
        }
    }
}

/// Replays a file through the platform that `up` runs.
///
/// # Errors
/// Why nothing was sent.
pub fn run(args: Args) -> Result<ExitCode> {
    let (cancel, progress) = (interruptible()?, Progress::detect());
    let options = Options {
        source: Source { path: args.file, fields: args.fields },
        last: (!args.no_shift).then_some(args.shift),
        in_flight: usize::from(args.in_flight),
        check: args.check,
    };
    let target = Target::running(&Paths::discover()?, &progress, &cancel)?;
    let report = replay(&target, &options, &progress, &cancel)?;
    report.print();
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replays a file through a platform.
///
/// # Errors
/// Why nothing was sent, or the end of the wait for what was.
pub fn replay(target: &Target, options: &Options, progress: &Progress, cancel: &Cancel) -> Result<Report> {
    let task = progress.task("file", "reads and checks every line before anything is sent");
    let content = options.source.scan()?;
    task.done(&format!("{} events of {} tenants", content.events(), content.tenants.len()));
    let shift =
        options.last.map_or(SignedDuration::ZERO, |last| (clock::now() + last).duration_since(content.last));
    let events_max = content.tenants.values().map(|tenant| tenant.events).max().unwrap_or_default();
    let purpose = Purpose { name: "replay", events_max };
    let keys = tenants::ensure(target, purpose, &wanted(&content), progress, cancel)?;
    let began = Instant::now();
    let sent = send(target, options, &content, shift, &keys, progress, cancel);
    let took = began.elapsed();
    let mut table = Table(rows(&content, &sent));
    let mut mismatches = None;
    // After Ctrl-C the table still says what was sent; the dashboard is not asked any more.
    if !cancel.is_set() {
        let reader = Reader::new(&target.console, cancel).with_sink(&target.sink_admin);
        let range = range(&content, shift)?;
        stored::await_stored(&mut table, &keys, range, &reader, progress, cancel)?;
        if options.check {
            mismatches = Some(compare(&content, &keys, range, &reader, progress)?);
        }
    }
    Ok(Report { table, took, failure: sent.failure, mismatches })
}

fn wanted(content: &Content) -> Vec<Wanted> {
    let one = |(name, tenant): (&TenantName, &source::TenantContent)| Wanted {
        name: name.to_string(),
        display_name: tenant.display_name.chars().take(DISPLAY_NAME_MAX).collect(),
    };
    content.tenants.iter().map(one).collect()
}

fn send(
    target: &Target,
    options: &Options,
    content: &Content,
    shift: SignedDuration,
    keys: &[String],
    progress: &Progress,
    cancel: &Cancel,
) -> Sent {
    let task = progress.task(
        "sending",
        &format!("{} requests at once to {} ingest pods", options.in_flight, target.ingest.len()),
    );
    task.measured(content.events());
    let sender = Sender::new(&target.ingest, PATIENCE, cancel);
    let tenants: BTreeMap<&str, usize> =
        content.tenants.values().enumerate().map(|(at, tenant)| (tenant.display_name.as_str(), at)).collect();
    let mut batches = vec![Batch::default(); keys.len()];
    let report = |feed: &Feed<'_>| {
        task.position(feed.settled());
        task.comment(&format!("{} of {} events", feed.settled(), content.events()));
    };
    let sent = pool::run(&sender, keys, options.in_flight, |feed| {
        options.source.each(|line, record| {
            let wrong = |detail| options.source.wrong(line, detail);
            let changed = || wrong("it was not there when the file was read first".to_owned());
            let tenant = *tenants.get(record.tenant.as_str()).ok_or_else(changed)?;
            batches[tenant].push(&record.event(&content.id_of(line), shift).map_err(wrong)?);
            if batches[tenant].is_full() {
                feed.push(Job { tenant, batch: std::mem::take(&mut batches[tenant]) })?;
                report(feed);
            }
            Ok(())
        })?;
        for (tenant, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            feed.push(Job { tenant, batch })?;
            report(feed);
        }
        Ok(())
    });
    let events: u64 = sent.tenants.iter().map(|totals| totals.sent).sum();
    task.done(&format!("{events} of {} events answered", content.events()));
    sent
}

/// The lines of the table, tenants with most events first. Keys and totals are in the order of the names.
fn rows(content: &Content, sent: &Sent) -> Vec<Row> {
    let row = |((name, tenant), totals): ((&TenantName, &source::TenantContent), &pool::Totals)| Row {
        tenant: name.to_string(),
        display_name: tenant.display_name.clone(),
        totals: totals.clone(),
        stored: None,
    };
    content.tenants.iter().zip(&sent.tenants).map(row).collect()
}

/// The event times that the dashboard is asked for.
fn range(content: &Content, shift: SignedDuration) -> Result<Range> {
    let moved = |time: Timestamp, by: SignedDuration| {
        time.checked_add(by)
            .map_err(|e| Error::Format { what: "the time of an event".into(), detail: e.to_string() })
    };
    Ok(Range {
        from: moved(moved(content.first, shift)?, -EARLIER_REPLAYS)?,
        to: moved(moved(content.last, shift)?, SignedDuration::from_millis(1))?,
    })
}

fn compare(
    content: &Content,
    keys: &[String],
    range: Range,
    reader: &Reader,
    progress: &Progress,
) -> Result<Vec<String>> {
    let task = progress.task("check", "compares the dashboard with the file");
    let mut mismatches = Vec::new();
    for ((name, tenant), key) in content.tenants.iter().zip(keys) {
        mismatches.extend(Shown::read(reader, key, range)?.mismatches(name.as_str(), tenant));
    }
    task.done(&format!("{} mismatches", mismatches.len()));
    Ok(mismatches)
}

/// Reads `last=-60s`.
fn shift(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is no shift: write last=-60s, last=-1h");
    let by: SignedDuration =
        text.strip_prefix("last=").and_then(|time| time.parse().ok()).ok_or_else(wrong)?;
    if by > SignedDuration::ZERO { Err("the last event would lie in the future".to_owned()) } else { Ok(by) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_say_where_the_last_event_goes() {
        assert_eq!(shift("last=-60s"), Ok(SignedDuration::from_secs(-60)));
        assert_eq!(shift("last=-1h"), Ok(SignedDuration::from_hours(-1)));
        for bad in ["", "-60s", "last=", "last=soon", "first=-1s", "last=5m"] {
            assert!(shift(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_replay_succeeds_when_all_that_was_accepted_is_stored() {
        let row = |accepted, lost, stored| Row {
            totals: pool::Totals { sent: accepted, accepted, lost, ..pool::Totals::default() },
            stored,
            ..Row::default()
        };
        let report = |row: Row, mismatches| {
            let report = Report { table: Table(vec![row]), took: Duration::ZERO, failure: None, mismatches };
            report.is_success()
        };
        assert!(report(row(3, 0, Some(3)), None));
        assert!(report(row(3, 0, Some(3)), Some(vec![])));
        assert!(!report(row(3, 0, Some(2)), None), "something is missing");
        assert!(!report(row(3, 0, None), None), "nobody knows");
        assert!(!report(row(3, 1, Some(3)), None), "something was lost");
        let mut wrong = row(3, 0, Some(3));
        wrong.totals.rejected = 1;
        assert!(!report(wrong, None), "something was wrong");
        assert!(!report(row(3, 0, Some(3)), Some(vec!["x".into()])));
    }
}
