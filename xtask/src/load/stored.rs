//! Waits until what the pods accepted is on the dashboard.

use std::time::{Duration, Instant};

use super::reader::{Range, Reader};
use super::table::Table;
use crate::{Cancel, Progress, Result};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How old the sink's own word about its lag may be.
const LAG_IS_OLD: Duration = Duration::from_secs(8);

/// Fills in `stored` of each row, whose keys stand in the same order. Waits, a minute at most, until no row is below what was
/// accepted; if the reader knows the sink, also until that has nothing left of any row's lane, because an event stored twice
/// would show up late.
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
    let task = progress.task(
        "stored",
        "waits until the dashboard shows what was accepted and the sink has nothing left (8 s at least)",
    );
    let (accepted, began) = (table.sum().totals.accepted, Instant::now());
    cancel.until(WITHIN, LOOK_EVERY, || {
        // Asked first: what the sink has stored by then is in the answers that follow.
        let lag = reader.lag(table.0.iter().map(|row| row.tenant.as_str()));
        let mut silence = String::new();
        for (row, key) in table.0.iter_mut().zip(keys) {
            match reader.glance(key, range) {
                Ok(usage) => row.stored = Some(usage.events),
                Err(error) => silence = format!("; {}: {error}", row.tenant),
            }
        }
        let stored: u64 = table.0.iter().filter_map(|row| row.stored).sum();
        task.comment(&format!("{stored} of {accepted} events{silence}"));
        let complete =
            table.0.iter().all(|row| row.stored.is_some_and(|stored| stored >= row.totals.accepted));
        let settled = !reader.knows_sink() || (lag == Some(0) && began.elapsed() >= LAG_IS_OLD);
        Ok((complete && settled).then_some(()))
    })?;
    let stored =
        table.sum().stored.map_or_else(|| "an unknown number of".to_owned(), |stored| stored.to_string());
    task.done(&format!("{stored} events stored, {accepted} accepted"));
    Ok(())
}
