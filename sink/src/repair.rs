//! Putting back what is missing from the tables, from the stream.
//!
//! The audit says in which messages events are missing, after it has waited longer than any insert takes. The lane's holder then
//! looks through them between two flushes and inserts what is neither stored nor removed, under the places that it always had.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use clickhouse::Day;

use crate::batch::{Batch, Place};
use crate::blocks::Writer;
use crate::dedup::Memory;
use crate::flush::{Flushed, insert};
use crate::intent::Record;
use crate::port::Stop;
use crate::removed::Removed;
use crate::seats::{Seats, Turns};

/// How long a lane is held before anything of it is repaired: what its last holder sent has landed by then, or never will.
const SETTLED: Duration = Duration::from_secs(40);
/// Pause between two attempts: the audit counts again meanwhile.
const AGAIN: Duration = Duration::from_secs(60);
/// Messages that are looked through in one go.
const STEP: u64 = 200;

/// What is left to be looked through.
#[derive(Debug)]
pub struct Repairs {
    due: Instant,
    ranges: Vec<(u64, u64)>,
    /// Dead letters that the lane had when it was taken: this build may be able to read them.
    letters: Vec<u64>,
}

impl Repairs {
    /// Of a lane that is held from `now` on.
    pub fn new(now: Instant, letters: Vec<u64>) -> Self {
        Self { due: now + SETTLED, ranges: Vec::new(), letters }
    }

    /// First and last message to look through now, if there are any. `gaps` are the audit's.
    pub fn next(&mut self, now: Instant, gaps: impl FnOnce() -> Vec<(u64, u64)>) -> Option<(u64, u64)> {
        if self.ranges.is_empty() && now >= self.due {
            self.ranges = gaps();
            self.ranges.extend(self.letters.drain(..).map(|seq| (seq, seq)));
            if !self.ranges.is_empty() {
                self.due = now + AGAIN;
            }
        }
        let (lo, hi) = self.ranges.pop()?;
        let end = hi.min(lo.saturating_add(STEP - 1));
        if end < hi {
            self.ranges.push((end + 1, hi));
        }
        Some((lo, end))
    }
}

/// Inserts what is missing of messages `lo..=hi`; `None` when it has to wait for a seat. `record` is closed; it takes a new number
/// first, so that whoever lost the lane finds out, and no two attempts share a token.
///
/// Charges are not looked at: they go in before the events that they are about.
pub async fn repair<P: Seats>(
    port: &mut P,
    lane: &str,
    record: &mut Record,
    memory: &mut Memory,
    turns: &mut Turns,
    (lo, hi): (u64, u64),
    horizon_days: u32,
) -> Result<Option<Flushed>, Stop> {
    let range = port.messages(lo, hi).await?;
    let stuck = |error: &dyn std::fmt::Display| Stop::Stuck(format!("messages {lo} to {hi}: {error}"));
    let batch = Batch::whole(&range.messages, 0).map_err(|error| stuck(&error))?;
    let found = port.positions(&Record { lo, hi, charges: 0, ..record.clone() }).await?;
    let there: HashSet<(u64, u32)> = found.raw.into_iter().chain(found.removed).collect();
    // What was dead and can be read by now is missing.
    let dead: HashSet<(u64, u32)> = found.dead.into_iter().collect();
    let is_there = |at: &(u64, u32), is_dead: bool| there.contains(at) || is_dead && dead.contains(at);
    let missing: Vec<Place<'_>> =
        batch.places().filter(|place| !is_there(&(place.seq, place.idx), place.dead)).collect();
    let (Some(received_ms), false) = (batch.received_ms(), missing.is_empty()) else {
        return Ok(Some(Flushed::default()));
    };
    // Of a tenant that has moved, another lane may be deciding.
    let living = || missing.iter().filter(|place| !place.dead);
    if turns.admit(port, memory, &[living().map(|place| place.event.tenant).collect()]).await? == 0 {
        return Ok(None);
    }
    // A repeat that came later may be stored by now, in the place of the one that is missing.
    let horizon_ms = received_ms.saturating_sub(i64::from(horizon_days) * 86_400_000);
    let since_ms = living().map(|place| place.day.start_ms()).fold(horizon_ms, i64::min);
    let mut ids: Vec<_> = living().map(Place::id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut stored = port.known(&ids, since_ms).await?;
    let goes = |place: &&Place<'_>| place.dead || !stored.insert(place.id());
    let removed: Removed = missing.iter().filter(goes).map(|place| place.ordinal).collect();

    let next = record.repairing();
    port.write(&next).await?;
    *record = next;
    let writer = Writer { lane, epoch: record.epoch, intent: record.intent };
    let places: HashSet<u32> = missing.iter().map(|place| place.ordinal).collect();
    let blocks = writer.encode(&batch, &removed, |place| places.contains(&place.ordinal));
    let at = Record { lo, hi, ..record.clone() };
    let done = insert(port, lane, &at, &blocks, &format!(":g{}", record.intent)).await?.done;
    let back = missing.iter().filter(|place| !removed.contains(place.ordinal));
    memory.remember(back.map(|place| -> (Day, _) { (place.day, place.id()) }));
    turns.unpin();
    Ok(Some(Flushed { repaired: missing.len() as u64, ..done }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_looked_through_in_steps_and_not_before_everything_has_settled() {
        let start = Instant::now();
        let mut repairs = Repairs::new(start, vec![7]);
        let gaps = || vec![(1, 450), (900, 901)];
        assert_eq!(repairs.next(start + SETTLED - Duration::from_millis(1), gaps), None);
        let now = start + SETTLED;
        assert_eq!(repairs.next(now, Vec::new), Some((7, 7)), "a dead letter is looked at once");
        let now = now + AGAIN;
        let steps: Vec<_> = std::iter::from_fn(|| repairs.next(now, gaps)).collect();
        assert_eq!(steps, [(900, 901), (1, 200), (201, 400), (401, 450)]);
        assert_eq!(
            repairs.next(now + AGAIN - Duration::from_millis(1), gaps),
            None,
            "the audit counts again"
        );
        assert_eq!(repairs.next(now + AGAIN, gaps), Some((900, 901)));
    }
}
