//! One intent, from a batch to rows.
//!
//! ```text
//! look up suspects -> encode -> record (compare-and-set) -> insert, partition by partition -> remember
//! ```
//! Before the record nothing was written anywhere, so a crash there is no crash. After it, a replay repeats the rest from
//! the record alone.

use std::collections::HashSet;

use clickhouse::schema::Table;

use crate::batch::{Batch, Place};
use crate::blocks::{Blocks, Writer};
use crate::charges;
use crate::dedup::{Memory, removed, suspects};
use crate::intent::{Contents, Record};
use crate::port::{Certainty, Port, Positions, Stop};

/// How often rows that should be there are waited for before they are inserted again.
const SETTLE_TRIES: u32 = 3;
/// How often missing rows are inserted again, each time under another token. A token is spent by a server that is killed between
/// remembering it and publishing the rows, for every later holder too: there must be more of them than kills in a row.
const REPAIRS_MAX: u32 = 20;

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Rows in `events_raw`.
    pub rows: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Events that nobody can read.
    pub dead: u64,
    /// Blocks inserted.
    pub blocks: u64,
    /// Rows that a killed server had lost.
    pub repaired: u64,
    /// Rows that are there more than once; nothing here removes them.
    pub excess: u64,
}

/// Sinks `batch`, which begins behind `record`. On `Ok` every event of it is stored or removed, and `record` is its intent.
pub async fn flush<P: Port>(
    port: &mut P,
    lane: &str,
    record: &mut Record,
    memory: &mut Memory,
    batch: &Batch<'_>,
    horizon_days: u32,
) -> Result<Flushed, Stop> {
    let Some((lo, hi)) = batch.range() else {
        return Ok(Flushed::default());
    };
    let suspects = suspects(batch, memory, horizon_days);
    let known = match suspects.ask.as_slice() {
        [] => HashSet::new(),
        ids => port.known(ids, suspects.since_ms).await?,
    };
    let removed = removed(batch, &known);
    let doubtful = charges::doubtful(batch, &removed);
    let landed = match doubtful.as_slice() {
        [] => HashSet::new(),
        packs => port.landed(packs).await?,
    };
    let again = charges::again(batch, lo, &doubtful, &landed);
    let writer = Writer { lane, epoch: record.epoch, intent: record.intent + 1 };
    let blocks = writer.whole(batch, lo, &removed, &again);
    let (partitions, charges) = (blocks.partitions(), blocks.charge_rows());
    let intent = record.open(lo, hi, Contents { removed, blocks: partitions, again, charges });
    port.write(&intent).await?;
    *record = intent;

    let mut flushed = insert(port, lane, record, &blocks, "").await?;
    if flushed.certainty == Certainty::Doubtful {
        confirm(port, lane, record, batch, &mut flushed.done).await?;
    }
    if let Some(since) = suspects.since {
        memory.forget_before(since);
    }
    memory.remember(
        batch.places().filter(|p| !record.removed.contains(p.ordinal)).map(|place| (place.day, place.id())),
    );
    Ok(flushed.done)
}

/// Blocks that were inserted, and how sure that is.
pub(crate) struct Inserted {
    pub(crate) done: Flushed,
    certainty: Certainty,
}

/// Inserts every block under its token and `suffix`, in ascending order.
pub(crate) async fn insert<P: Port>(
    port: &mut P,
    lane: &str,
    record: &Record,
    blocks: &Blocks,
    suffix: &str,
) -> Result<Inserted, Stop> {
    let mut inserted = Inserted { done: Flushed::default(), certainty: Certainty::Certain };
    for block in blocks.iter() {
        let token = record.token(lane, &format!("{}{suffix}", block.part()));
        let certainty = port.insert(block.table, block.bytes.clone(), &token).await?;
        if certainty == Certainty::Doubtful {
            inserted.certainty = certainty;
        }
        inserted.done.blocks += 1;
        match block.table {
            Table::Raw => inserted.done.rows += u64::from(block.rows),
            Table::Removed => {
                inserted.done.duplicates += u64::from(block.rows - block.dead);
                inserted.done.dead += u64::from(block.dead);
            }
            Table::Charges | Table::Violations | Table::Rollups | Table::Users => {}
        }
    }
    Ok(inserted)
}

/// Compares what is in the tables with `record`, and inserts what is missing of `batch` until nothing is.
pub(crate) async fn confirm<P: Port>(
    port: &mut P,
    lane: &str,
    record: &Record,
    batch: &Batch<'_>,
    done: &mut Flushed,
) -> Result<(), Stop> {
    let writer = Writer { lane, epoch: record.epoch, intent: record.intent };
    let (mut waited, mut repairs) = (0, 0);
    loop {
        let found = port.positions(record).await?;
        let missing = missing(&writer, record, batch, &found);
        let rows: u64 = missing.iter().map(|block| u64::from(block.rows)).sum();
        if rows == 0 {
            done.excess += excess(record, &found);
            return Ok(());
        }
        // The answer "known" may come from an insert that is about to publish its rows.
        if waited < SETTLE_TRIES {
            waited += 1;
            port.settle().await;
            continue;
        }
        repairs += 1;
        if repairs > REPAIRS_MAX {
            return Err(Stop::Stuck(format!("{rows} rows of intent {} do not stay inserted", record.intent)));
        }
        done.repaired += rows;
        insert(port, lane, record, &missing, &format!(":r{repairs}")).await?;
    }
}

fn missing(writer: &Writer<'_>, record: &Record, batch: &Batch<'_>, found: &Positions) -> Blocks {
    let raw: HashSet<&(u64, u32)> = found.raw.iter().collect();
    let removed: HashSet<&(u64, u32)> = found.removed.iter().collect();
    let dead: HashSet<&(u64, u32)> = found.dead.iter().collect();
    let is_missing = |place: &Place<'_>| {
        let there = match (place.dead, record.removed.contains(place.ordinal)) {
            (true, _) => &dead,
            (false, true) => &removed,
            (false, false) => &raw,
        };
        !there.contains(&(place.seq, place.idx))
    };
    let blocks = writer.encode(batch, &record.removed, is_missing);
    // Its rows go in together or not at all.
    let charges = (record.charges > 0 && found.charges == 0)
        .then(|| writer.charges(batch, record.lo, &record.removed, &record.again));
    Blocks { charges: charges.flatten(), ..blocks }
}

/// Rows beyond the first of each position.
fn excess(record: &Record, found: &Positions) -> u64 {
    let charges = found.charges.saturating_sub(record.charges);
    let rows = found.raw.len() + found.removed.len() + found.dead.len();
    let distinct: HashSet<&(u64, u32)> = found.raw.iter().chain(&found.removed).chain(&found.dead).collect();
    (rows - distinct.len()) as u64 + u64::from(charges)
}
