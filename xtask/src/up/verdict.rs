//! Whether all went through: what `--for` ends with.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::quickstart;
use super::session::Watched;
use crate::load::reader::{Range, Reader};
use crate::load::stored::await_stored;
use crate::load::table::{Row, Table};
use crate::platform::Platform;
use crate::{Cancel, Progress, Result, clock};

/// A tenant that was ready must still be.
const STILL_READY_WITHIN: Duration = Duration::from_secs(5);
/// Events lie in the range even if the clocks of two processes differ a little.
const MARGIN: SignedDuration = SignedDuration::from_secs(1);

/// What is known of the run.
pub(super) struct Verdict {
    began: Timestamp,
    /// Parts that ended by themselves.
    pub crashes: usize,
}

impl Verdict {
    /// For a run whose traffic begins now.
    pub(super) fn begin(now: Timestamp) -> Self {
        Self { began: now, crashes: 0 }
    }

    /// The table of a run that a person ended: what was stored is not waited for.
    pub(super) fn say_interrupted(&self, watched: &[Watched<'_>], progress: &Progress) {
        rows(watched).to_string().lines().for_each(|line| progress.say(line));
    }

    /// Waits until what was accepted is stored, prints the table and every reason why the run has failed.
    pub(super) fn reach(
        self,
        platform: &Platform,
        folder: &Path,
        watched: &[Watched<'_>],
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<ExitCode> {
        let mut table = rows(watched);
        let keys: Vec<String> = watched.iter().map(|watched| watched.tenant.read.key.clone()).collect();
        let range = Range { from: self.began - MARGIN, to: clock::now() + MARGIN };
        let reader = Reader::new(&platform.urls()?.console, cancel);
        await_stored(&mut table, &keys, range, &reader, progress, cancel)?;
        table.to_string().lines().for_each(|line| progress.say(line));
        let mut failures = failures(&table);
        if self.crashes + platform.crashes().len() > 0 {
            failures.push("a part ended by itself".into());
        }
        let kubectl = platform.kubectl();
        let declared = kubectl.json(&["get", &format!("--filename={}", folder.display())])?;
        if let Err(error) = quickstart::wait_ready(&kubectl, &declared, STILL_READY_WITHIN) {
            failures.push(format!("not every tenant is ready: {error}"));
        }
        let slowest = watched.iter().filter_map(|watched| watched.delays.longest()).max();
        if let Some(slowest) = slowest {
            progress.say(&format!("slowest event from its 202 to the dashboard: {} ms", slowest.as_millis()));
        }
        failures.iter().for_each(|failure| progress.say(&format!("FAILED: {failure}")));
        if failures.is_empty() {
            progress.say("all went through");
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn rows(watched: &[Watched<'_>]) -> Table {
    let row = |watched: &Watched<'_>| Row {
        tenant: watched.tenant.name.clone(),
        display_name: String::new(),
        totals: watched.tally.totals(),
        stored: None,
    };
    Table(watched.iter().map(row).collect())
}

/// What is wrong with the counts.
fn failures(table: &Table) -> Vec<String> {
    let mut failures = Vec::new();
    for Row { tenant, totals, stored, .. } in &table.0 {
        if totals.accepted == 0 {
            failures.push(format!("no event of {tenant} was accepted"));
        }
        if totals.rejected + totals.lost > 0 {
            failures.push(format!(
                "{} events of {tenant} were answered neither 202 nor 429",
                totals.rejected + totals.lost
            ));
        }
        match stored {
            None => failures.push(format!("the console did not say what is stored for {tenant}")),
            Some(stored) if *stored != totals.accepted => {
                failures.push(format!(
                    "{} events of {tenant} were accepted, but {stored} are stored",
                    totals.accepted
                ));
            }
            Some(_) => {}
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pool::Totals;

    fn table(totals: Totals, stored: Option<u64>) -> Table {
        Table(vec![Row { tenant: "acme".into(), display_name: String::new(), totals, stored }])
    }

    #[test]
    fn all_went_through_when_everything_accepted_is_stored() {
        let totals = Totals { sent: 9, accepted: 7, limited: 2, ..Totals::default() };
        assert!(failures(&table(totals.clone(), Some(7))).is_empty());
        assert_eq!(failures(&table(totals.clone(), Some(8))).len(), 1, "an event stored twice");
        assert_eq!(failures(&table(totals.clone(), None)).len(), 1);
        assert_eq!(failures(&table(Totals { lost: 1, rejected: 1, ..totals }, Some(6))).len(), 2);
        assert_eq!(failures(&table(Totals::default(), Some(0))).len(), 1);
    }
}
