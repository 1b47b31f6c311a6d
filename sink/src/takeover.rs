//! Taking a lane: claim its record, and finish what its last holder began.

use std::collections::HashSet;

use event::Incarnation;

use crate::batch::Batch;
use crate::blocks::Writer;
use crate::flush::{Flushed, confirm, insert};
use crate::intent::{Record, State};
use crate::port::{Port, Stop};

/// A lane that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its record: closed, of the present epoch.
    pub record: Record,
    /// What the replay did.
    pub replayed: Flushed,
    /// Events of an open intent that are not in the tables and whose messages are gone.
    pub lost: u64,
}

/// Claims the lane for `me` and replays an open intent. `gone` says of an owner that it sends no more inserts, and of no owner that
/// the lane may be taken; the compare-and-set of the claim keeps everybody else out.
pub async fn take<P: Port>(
    port: &mut P,
    lane: &str,
    me: Incarnation,
    epoch: i64,
    gone: impl AsyncFnOnce(Option<Incarnation>) -> bool,
) -> Result<Taken, Stop> {
    let found = port.read().await?;
    let owner = found.as_ref().and_then(Record::holder);
    if owner != Some(me) && !gone(owner).await {
        let why = owner.map_or("it falls to another sink".to_owned(), |owner| format!("{owner} holds it"));
        return Err(Stop::Lost(why));
    }
    let mut record = match found {
        Some(record) => record.claimed(me),
        None if port.has_rows(epoch).await? => {
            // Starting at 1 would call every stored event a duplicate of itself.
            return Err(Stop::Stuck(
                "the lane has rows but no intent: restore bucket `intents`, or move the table away"
                    .to_owned(),
            ));
        }
        None => Record::first(me, epoch),
    };
    port.write(&record).await?;
    let (mut replayed, mut lost) = (Flushed::default(), 0);
    if record.epoch != epoch {
        if record.state == State::Open {
            lost = unaccounted(port, &record).await?;
        }
        record = record.in_epoch(epoch);
        port.write(&record).await?;
    } else if record.state == State::Open {
        (replayed, lost) = replay(port, lane, &record).await?;
        record = record.closed();
        port.write(&record).await?;
    }
    Ok(Taken { record, replayed, lost })
}

/// Repeats an open intent bit for bit from its record and the stream, then compares the tables with it.
async fn replay<P: Port>(port: &mut P, lane: &str, record: &Record) -> Result<(Flushed, u64), Stop> {
    let range = port.messages(record.lo, record.hi).await?;
    let stuck = |error: &dyn std::fmt::Display| Stop::Stuck(format!("intent {}: {error}", record.intent));
    let there = Batch::whole(&range.messages, 0).map_err(|error| stuck(&error))?.len();
    let disagree = || stuck(&"the stream does not hold what the intent says");
    let first_ordinal = record.events.checked_sub(there).ok_or_else(disagree)?;
    let batch = Batch::whole(&range.messages, first_ordinal).map_err(|error| stuck(&error))?;
    let mut done = Flushed::default();
    if range.missing == 0 {
        let writer = Writer { lane, epoch: record.epoch, intent: record.intent };
        let blocks = writer.whole(&batch, record.lo, &record.removed, &record.again);
        let agree = blocks.partitions() == record.blocks && blocks.charge_rows() == record.charges;
        if first_ordinal != 0 || !agree {
            return Err(disagree());
        }
        done = insert(port, lane, record, &blocks, "").await?.done;
    }
    // Without its first messages a block cannot be repeated under its token: only what is missing goes in.
    confirm(port, lane, record, &batch, &mut done).await?;
    let lost = if range.missing == 0 { 0 } else { unaccounted(port, record).await? };
    Ok((done, lost))
}

/// Events of an intent that are in neither table.
async fn unaccounted<P: Port>(port: &mut P, record: &Record) -> Result<u64, Stop> {
    let found = port.positions(record).await?;
    let places: HashSet<&(u64, u32)> = found.raw.iter().chain(&found.removed).chain(&found.dead).collect();
    Ok(u64::from(record.events).saturating_sub(places.len() as u64))
}
