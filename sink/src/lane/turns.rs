//! What a lane's holder does about tenants that have moved: it passes on seats, and waits for those that it needs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clickhouse::Day;
use event::Lane;
use event::seat::Seat;
use jetstream::ReadError;
use jetstream::lane_reader::stream_created_ms;

use super::{Holder, LOAD_AGAIN, LOAD_ROWS, newest};
use crate::lookup;
use crate::metrics::LaneState;
use crate::port::{Port, Stop};

/// How long a seat is waited for before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the stream of the lane that has a seat has been missing when the seat is taken from it: what its last holder sent has
/// landed by then, or never will.
const GONE_FOR: Duration = Duration::from_secs(60);
/// Ids of one tenant in other lanes that are loaded; of more, ClickHouse is asked.
const GUEST_ROWS: u64 = 4 * LOAD_ROWS;

/// Lanes that have seats which this one needs, and whose streams are missing, since when.
pub(super) type Missing = HashMap<Lane, Instant>;

impl Holder<'_> {
    /// Keeps sinks that know no seats away from a lane that a tenant has moved to or from, or is about to; the operator waits for it.
    pub(super) async fn seat(&mut self) -> Result<(), Stop> {
        if !self.record.is_seated() && self.context.seats.is_named(self.lane) {
            let seated = self.record.seated();
            self.port.write(&seated).await?;
            self.record = seated;
        }
        Ok(())
    }

    /// Passes on what other lanes wait for.
    pub(super) async fn give_seats(&mut self) -> Result<(), Stop> {
        let wanted = self.context.seats.wanted_from(self.lane);
        let free = self.turns.free(&wanted);
        if free.is_empty() {
            return Ok(());
        }
        let (port, memory, record) = (&mut self.port, &mut self.memory, &mut self.record);
        let given = self.turns.give(port, memory, record, &free).await?;
        tracing::debug!(lane = self.name, given, "seats were passed on");
        Ok(())
    }

    /// Waits for a seat that was asked for, or until another lane asks for one of this.
    pub(super) async fn wait_for_seats(&mut self) -> Result<(), Stop> {
        self.context.metrics.state.get_or_create(&self.label).set(LaneState::Waiting as i64);
        let (mut changes, mut shutdown) = (self.context.seats.changes(), self.context.shutdown.clone());
        changes.mark_unchanged();
        tokio::select! {
            _ = changes.changed() => {}
            _ = shutdown.wait_for(|ends| *ends) => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        for (tenant, revision, seat) in self.context.seats.asked_by(self.lane) {
            if self.is_gone(&seat).await {
                tracing::warn!(lane = self.name, %tenant, from = %seat.at, "took a seat whose lane is gone");
                // A conflict means that somebody did: it is read again.
                let _ = self.context.seats.put(tenant, &seat.taken(self.lane), revision).await;
            }
        }
        Ok(())
    }

    /// Whether the lane that has a seat has had no stream for long enough.
    async fn is_gone(&mut self, seat: &Seat) -> bool {
        match stream_created_ms(&self.context.nats, &seat.at.stream()).await {
            Err(ReadError::Missing) => {
                let since = *self.missing.entry(seat.at.clone()).or_insert_with(Instant::now);
                since.elapsed() >= GONE_FOR
            }
            _ => {
                self.missing.remove(&seat.at);
                false
            }
        }
    }

    /// Loads some ids of the horizon, newest days first. A failure only means more lookups.
    pub(super) async fn load(&mut self, since: Day) {
        let (reader, until) = (&self.context.reader, self.memory.complete_from());
        let loaded = async {
            let days = lookup::days(reader, self.lane, since, until).await?;
            let from = newest(&days, LOAD_ROWS).unwrap_or(since);
            lookup::ids(reader, self.lane, None, from, until).await.map(|ids| (from, ids))
        };
        match loaded.await {
            Ok((from, ids)) if self.memory.load(from, &ids) => {}
            Ok(_) => self.load_at = Instant::now() + LOAD_AGAIN,
            Err(error) => tracing::debug!(lane = self.name, %error, "ids were not loaded"),
        }
    }

    /// Loads the ids that one tenant has in other lanes. A failure only means more lookups.
    pub(super) async fn load_guest(&mut self, since: Day) {
        let Some(tenant) = self.memory.strangers(since).into_iter().next() else { return };
        let (reader, mut ids) = (&self.context.reader, Vec::new());
        let elsewhere = self.turns.elsewhere();
        let loaded = async {
            for (lane, _) in elsewhere.iter().filter(|(_, tenants)| tenants.contains(&tenant)) {
                let rows = lookup::rows_of(reader, lane, tenant, since).await?;
                if rows + ids.len() as u64 > GUEST_ROWS {
                    return Ok(false);
                }
                ids.extend(lookup::ids(reader, lane, Some(tenant), since, None).await?);
            }
            Ok::<_, clickhouse::ClickHouseError>(true)
        };
        match loaded.await {
            Ok(true) if self.memory.introduce(tenant, since, &ids) => {}
            Ok(_) => self.guests_at = Instant::now() + LOAD_AGAIN,
            Err(error) => tracing::debug!(lane = self.name, %error, "ids of other lanes were not loaded"),
        }
    }
}
