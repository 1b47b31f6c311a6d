//! Waits until what the pods accepted is on the dashboard.

use std::time::Duration;

use super::reader::{Range, Reader};
use super::table::Table;
use crate::{Cancel, Progress, Result};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it must stay so: an event stored twice shows up late.
const STAYS_FOR: Duration = Duration::from_secs(2);

/// Fills in `stored` of each row, whose keys stand in the same order: waits, a minute at most, until none is below what was
/// accepted, then looks once more.
///
/// # Errors
/// [`crate::Error::Interrupted`]. A console that does not answer leaves `stored` open.
pub fn await_stored(
    table: &mut Table,
    keys: &[String],
    range: Range,
    reader: &Reader,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let task = progress.task("stored", "waits until the dashboard shows what was accepted");
    let accepted = table.sum().totals.accepted;
    let reached = cancel.until(WITHIN, LOOK_EVERY, || {
        for (row, key) in table.0.iter_mut().zip(keys) {
            if row.stored.is_none_or(|stored| stored < row.totals.accepted) {
                row.stored = reader.summary(key, range).ok().map(|usage| usage.events);
            }
        }
        let stored: u64 = table.0.iter().filter_map(|row| row.stored).sum();
        task.comment(&format!("{stored} of {accepted} events"));
        let complete =
            table.0.iter().all(|row| row.stored.is_some_and(|stored| stored >= row.totals.accepted));
        Ok(complete.then_some(()))
    })?;
    if reached.is_some() {
        cancel.pause(STAYS_FOR)?;
        for (row, key) in table.0.iter_mut().zip(keys) {
            row.stored = reader.summary(key, range).ok().map(|usage| usage.events);
        }
    }
    let stored =
        table.sum().stored.map_or_else(|| "an unknown number of".to_owned(), |stored| stored.to_string());
    task.done(&format!("{stored} events stored, {accepted} accepted"));
    Ok(())
}
