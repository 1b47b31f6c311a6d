//! The port of a real lane: its intent in NATS, its stream, its tables in ClickHouse.
//!
//! Failures that time mends are tried again, with the same bytes, for as long as the lane is held (`slot`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::Target;
use clickhouse::schema::Table;
use event::seat::Seat;
use event::{Incarnation, Lane, PackId, TenantNumber};
use jetstream::lane_reader::read_range;
use jetstream::{CasError, ReadError};

use crate::batch::Id;
use crate::charges::Doubtful;
use crate::context::Context;
use crate::intent::Record;
use crate::lookup;
use crate::port::{Certainty, Port, Positions, Range, Stop};
use crate::seats::{Elsewhere, Found, Seats, Unreadable};
use crate::slot::{Slot, Tries};

/// Pause for an insert whose answer was lost.
const SETTLE: Duration = Duration::from_secs(1);

/// The port of one lane.
pub struct LivePort {
    context: Arc<Context>,
    lane: Lane,
    slot: Slot,
    raw: Target,
    removed: Target,
    charges: Target,
    elsewhere: Elsewhere,
}

impl LivePort {
    /// For `lane`, held by `me`.
    pub fn new(context: Arc<Context>, lane: Lane, me: Incarnation) -> Self {
        Self {
            slot: Slot::new(context.clone(), lane.to_string(), me),
            raw: Target::new(&lane, Table::Raw),
            removed: Target::new(&lane, Table::Removed),
            charges: Target::new(&lane, Table::Charges),
            elsewhere: Elsewhere::new(),
            context,
            lane,
        }
    }
}

impl Port for LivePort {
    async fn read(&mut self) -> Result<Option<Record>, Stop> {
        self.slot.read().await
    }

    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        self.slot.write(record).await
    }

    async fn has_rows(&mut self, epoch: i64) -> Result<bool, Stop> {
        self.slot.ask("looking for rows", || lookup::has_rows(&self.context.reader, &self.lane, epoch)).await
    }

    async fn messages(&mut self, lo: u64, hi: u64) -> Result<Range, Stop> {
        let (stream, mut tries, mut from) = (self.lane.stream(), Tries::new(), lo);
        loop {
            if from > hi {
                return Ok(Range { messages: Vec::new(), missing: hi + 1 - lo });
            }
            match read_range(&self.context.nats, &stream, from, hi).await {
                Ok(messages) => return Ok(Range { messages, missing: from - lo }),
                Err(ReadError::Gap { first_seq }) => from = first_seq,
                Err(ReadError::Unavailable(error)) => {
                    self.slot.again(&mut tries, "reading the stream", &error).await?;
                }
                Err(ReadError::Missing) => return Err(Stop::Lost("its stream is gone".to_owned())),
                Err(ReadError::Recreated { .. }) => {
                    return Err(Stop::Lost("its stream is another".to_owned()));
                }
                Err(error @ (ReadError::Beyond { .. } | ReadError::Refused(_))) => {
                    return Err(Stop::Stuck(format!("messages {lo} to {hi}: {error}")));
                }
            }
        }
    }

    async fn known(&mut self, ids: &[Id], since_ms: i64) -> Result<HashSet<Id>, Stop> {
        self.context.metrics.lookups.inc_by(ids.len() as u64);
        let query = || lookup::known(&self.context.reader, &self.lane, ids, since_ms);
        let mut known = self.slot.ask("looking up ids", query).await?;
        for (lane, tenants) in &self.elsewhere {
            let ids: Vec<Id> = ids.iter().filter(|id| tenants.contains(&id.tenant)).copied().collect();
            if !ids.is_empty() {
                let query = || lookup::known(&self.context.reader, lane, &ids, since_ms);
                known.extend(self.slot.ask("looking up ids in another lane", query).await?);
            }
        }
        Ok(known)
    }

    async fn landed(&mut self, packs: &[Doubtful]) -> Result<HashSet<PackId>, Stop> {
        let query = || lookup::landed(&self.context.reader, &self.lane, packs);
        self.slot.ask("looking up packs", query).await
    }

    async fn insert(&mut self, table: Table, rows: Bytes, token: &str) -> Result<Certainty, Stop> {
        let target = match table {
            Table::Raw => &self.raw,
            Table::Removed => &self.removed,
            Table::Charges => &self.charges,
            Table::Violations | Table::Rollups | Table::Users => {
                return Err(Stop::Stuck(format!("no rows of a lane go into {}", table.name())));
            }
        };
        // Also a missing table is waited for: the operator creates it.
        self.slot
            .insert(target, rows, token, |_| false)
            .await?
            .map_err(|error| Stop::Stuck(error.to_string()))
    }

    async fn positions(&mut self, record: &Record) -> Result<Positions, Stop> {
        let reader = &self.context.reader;
        self.slot.ask("counting rows", || lookup::positions(reader, &self.lane, record)).await
    }

    async fn settle(&mut self) {
        self.context.pause(SETTLE).await;
    }
}

impl Seats for LivePort {
    async fn seats(&mut self, tenants: &[TenantNumber]) -> Result<Found, Stop> {
        let mut tries = Tries::new();
        loop {
            match self.context.seats.read(tenants).await {
                Ok(found) => return Ok(found),
                Err(error @ Unreadable::Record(..)) => return Err(Stop::Stuck(error.to_string())),
                Err(error) => self.slot.again(&mut tries, "reading seats", &error).await?,
            }
        }
    }

    async fn put_seat(&mut self, tenant: TenantNumber, seat: &Seat, expected: u64) -> Result<bool, Stop> {
        match self.context.seats.put(tenant, seat, expected).await {
            Ok(()) => Ok(true),
            Err(CasError::Refused(error)) => {
                Err(Stop::Stuck(format!("the seat of tenant {tenant}: {error}")))
            }
            Err(CasError::Conflict | CasError::Unknown(_)) => Ok(false),
        }
    }

    fn look_also(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = elsewhere;
    }
}
