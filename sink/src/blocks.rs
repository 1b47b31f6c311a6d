//! The blocks of an intent: rows in their wire form, one block a partition, in ascending order.

use std::collections::BTreeMap;

use bytes::Bytes;
use clickhouse::Day;
use clickhouse::rows::{Origin, RawRow, Reason, RemovedRow};
use clickhouse::schema::Table;

use crate::batch::{Batch, Place};
use crate::intent::PartitionRows;
use crate::removed::Removed;

/// Rows of one insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where they go.
    pub table: Table,
    /// The event day, in `events_raw`.
    pub day: Option<Day>,
    /// How many rows.
    pub rows: u32,
    /// How many of them are of dead events.
    pub dead: u32,
    /// The rows.
    pub bytes: Bytes,
}

impl Block {
    /// Last part of the token.
    pub fn part(&self) -> String {
        self.day.map_or_else(|| self.table.name().to_owned(), |day| day.partition().to_string())
    }
}

/// All blocks of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocks {
    /// Into `charges`. First: what is in another table without it would be given back as unused.
    pub charges: Option<Block>,
    /// Into `events_raw`, by ascending partition.
    pub raw: Vec<Block>,
    /// Into `removed`.
    pub removed: Option<Block>,
}

/// What every row of an intent says.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The lane.
    pub lane: &'a str,
    /// The lane's epoch.
    pub epoch: i64,
    /// The intent.
    pub intent: u64,
}

impl Writer<'_> {
    /// All blocks of an intent from sequence `lo` on: the same batch and the same `removed` and `again` give the same bytes.
    pub fn whole(&self, batch: &Batch<'_>, lo: u64, removed: &Removed, again: &Removed) -> Blocks {
        let charges = self.charges(batch, lo, removed, again);
        Blocks { charges, ..self.encode(batch, removed, |_| true) }
    }

    /// Encodes every event of `batch` for which `wanted` says so, in the order of the stream: the same batch and the same
    /// `removed` give the same bytes.
    pub fn encode(
        &self,
        batch: &Batch<'_>,
        removed: &Removed,
        wanted: impl Fn(&Place<'_>) -> bool,
    ) -> Blocks {
        let mut raw: BTreeMap<Day, (u32, Vec<u8>)> = BTreeMap::new();
        let (mut gone, mut dead): ((u32, Vec<u8>), u32) = ((0, Vec::new()), 0);
        for place in batch.places().filter(wanted) {
            if removed.contains(place.ordinal) {
                gone.0 += 1;
                dead += u32::from(place.dead);
                self.removed_row(&place).encode(&mut gone.1);
            } else {
                let (rows, bytes) = raw.entry(place.day).or_default();
                *rows += 1;
                self.raw_row(&place).encode(bytes);
            }
        }
        let block = |table, day, (rows, bytes): (u32, Vec<u8>)| Block {
            table,
            day,
            rows,
            dead: 0,
            bytes: bytes.into(),
        };
        Blocks {
            charges: None,
            raw: raw.into_iter().map(|(day, rows)| block(Table::Raw, Some(day), rows)).collect(),
            removed: (gone.0 > 0).then(|| Block { dead, ..block(Table::Removed, None, gone) }),
        }
    }

    fn origin(&self, place: &Place<'_>) -> Origin<'_> {
        Origin { lane: self.lane, epoch: self.epoch, seq: place.seq, idx: place.idx, intent: self.intent }
    }

    fn raw_row<'b>(&'b self, place: &Place<'b>) -> RawRow<'b> {
        RawRow {
            event: place.event,
            pack: place.pack,
            incarnation: place.incarnation,
            received_ms: place.received_ms,
            origin: self.origin(place),
        }
    }

    fn removed_row(&self, place: &Place<'_>) -> RemovedRow<'_> {
        RemovedRow {
            tenant: place.event.tenant,
            event_hash: place.event.event_hash,
            reason: if place.dead { Reason::Dead } else { Reason::Duplicate },
            received_ms: place.received_ms,
            pack: place.pack,
            origin: self.origin(place),
        }
    }
}

impl Blocks {
    /// Rows a partition, as the intent records them.
    pub fn partitions(&self) -> Vec<PartitionRows> {
        let day = |block: &Block| block.day.map_or(0, Day::partition);
        self.raw.iter().map(|block| PartitionRows { partition: day(block), rows: block.rows }).collect()
    }

    /// Rows for `charges`.
    pub fn charge_rows(&self) -> u32 {
        self.charges.as_ref().map_or(0, |block| block.rows)
    }

    /// All of them, in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.charges.iter().chain(&self.raw).chain(&self.removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Limits;
    use crate::testing::{DAY, message, pack};

    #[test]
    fn rows_go_to_the_partition_of_their_day_in_ascending_order() {
        let messages = [message(1, &pack([(1, DAY), (2, 0), (3, DAY)])), message(2, &pack([(1, 0)]))];
        let batch = Batch::cut(&messages, Limits { events: 10, days: 10 }).unwrap();
        let writer = Writer { lane: "acme", epoch: 7, intent: 1 };
        let removed: Removed = [3].into_iter().collect();
        let blocks = writer.encode(&batch, &removed, |_| true);
        let shape: Vec<_> = blocks.iter().map(|block| (block.part(), block.rows)).collect();
        let shape: Vec<_> = shape.iter().map(|(part, rows)| (part.as_str(), *rows)).collect();
        assert_eq!(shape, [("19700101", 1), ("19700102", 2), ("removed", 1)]);
        assert_eq!(blocks, writer.encode(&batch, &removed, |_| true), "a replay writes the same bytes");
        let some = writer.encode(&batch, &removed, |place| place.seq == 2);
        assert_eq!((some.raw.len(), some.removed.map(|block| block.rows)), (0, Some(1)));
    }
}
