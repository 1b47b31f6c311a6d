//! One lane, from being taken to being lost.

mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clickhouse::Day;
use event::{Incarnation, Lane};
use jetstream::lane_reader::stream_created_ms;
use jetstream::{LaneReader, ReadError};

use crate::batch::{Batch, DeadLetter, Limits};
use crate::budget::Pace;
use crate::context::Context;
use crate::dedup::Memory;
use crate::flush::{Flushed, flush};
use crate::intent::{Record, State};
use crate::live::LivePort;
use crate::lookup;
use crate::metrics::{LaneLabel, LaneState};
use crate::pending::Pending;
use crate::port::{Port, Stop};
use crate::repair::{Repairs, repair};
use crate::rollups::Settled;
use crate::seats::Turns;
use crate::spread::Turn;
use crate::takeover::take;

/// Bounds of an intent. Days: the window of event times and two more.
const LIMITS: Limits = Limits { events: 50_000, days: 10 };
/// How long a lane without packs keeps its intent open.
const CLOSE_AFTER: Duration = Duration::from_millis(500);
/// How long an idle lane waits for a pack in one go.
const IDLE_WAIT: Duration = Duration::from_secs(20);
/// How often a lane that another sink holds is looked at.
const STANDBY: Duration = Duration::from_secs(1);
/// How often a lane that falls to another sink is looked at.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(5);
/// Pause after a failure to read.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Pause of a lane that is stuck.
const STUCK_AGAIN: Duration = Duration::from_secs(10);
/// Ids that are loaded between two flushes.
const LOAD_ROWS: u64 = 500_000;
/// Pause before loading is tried again when there was no room.
const LOAD_AGAIN: Duration = Duration::from_secs(600);

/// What others may know of a lane.
#[derive(Debug, Default)]
pub struct Status {
    /// This sink holds it.
    pub held: AtomicBool,
    /// The last sequence that is dealt with.
    pub hi: AtomicU64,
    /// When the oldest message that is not was stored in the stream, in Unix milliseconds; 0 when there is none.
    pub oldest_ms: AtomicU64,
}

/// Works on `lane` until its stream is gone or the process ends.
pub async fn run(context: Arc<Context>, lane: Lane, status: Arc<Status>) {
    let label = LaneLabel { lane: lane.to_string() };
    let mut turn = Turn::default();
    // Of a lane that falls to another sink only that it is held now and then need be known.
    let mut looked = None;
    let state = |state: LaneState| context.metrics.state.get_or_create(&label).set(state as i64);
    while !context.is_shutting_down() {
        let Some(me) = context.lease.current() else {
            state(LaneState::Standby);
            context.pause(STANDBY).await;
            continue;
        };
        let due = looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_AT_OTHERS);
        if !due && !context.falls_to(&lane, me) {
            context.pause(STANDBY).await;
            continue;
        }
        looked = Some(Instant::now());
        let epoch = match stream_created_ms(&context.nats, &lane.stream()).await {
            Ok(created_ms) => i64::try_from(created_ms).unwrap_or(i64::MAX),
            Err(ReadError::Missing) => break,
            Err(_) => {
                context.pause(READ_AGAIN).await;
                continue;
            }
        };
        let stop = hold(&context, &lane, &status, &mut turn, me, epoch).await;
        status.held.store(false, Ordering::Relaxed);
        context.settled().remove(&lane);
        match stop {
            Stop::Lost(reason) => {
                tracing::debug!(%lane, reason, "not held");
                state(LaneState::Standby);
                context.pause(STANDBY).await;
            }
            Stop::Stuck(reason) => {
                tracing::error!(%lane, reason, "the lane is stuck; nothing was skipped");
                state(LaneState::Stuck);
                context.pause(STUCK_AGAIN).await;
            }
            Stop::ShuttingDown => break,
        }
    }
}

/// Takes the lane and sinks it until that ends.
async fn hold(
    context: &Arc<Context>,
    lane: &Lane,
    status: &Status,
    turn: &mut Turn,
    me: Incarnation,
    epoch: i64,
) -> Stop {
    let name = lane.to_string();
    let mut port = LivePort::new(context.clone(), lane.clone(), me);
    let gone = async |owner| {
        let gone = match owner {
            Some(owner) => context.holders.is_gone(owner).await,
            None => true,
        };
        if !gone {
            turn.held();
        }
        gone && turn.takes(context.falls_to(lane, me), Instant::now())
    };
    let taken = match take(&mut port, &name, me, epoch, gone).await {
        Ok(taken) => taken,
        Err(stop) => return stop,
    };
    let record = taken.record;
    let letters = dead_letters(context, lane, epoch).await;
    tracing::info!(lane = name, next = record.next_seq(), replayed = taken.replayed.rows, "taken");
    let label = LaneLabel { lane: name.clone() };
    if taken.lost > 0 {
        let events = taken.lost;
        tracing::error!(lane = name, events, "events of an open intent are gone from the stream");
        context.metrics.lost.get_or_create(&label).inc_by(taken.lost);
    }
    let reader = match LaneReader::open(&context.nats, &lane.stream(), record.next_seq()).await {
        Ok(reader) if i64::try_from(reader.created_ms()) == Ok(epoch) => reader,
        Ok(_) => return Stop::Lost("its stream is another".to_owned()),
        Err(error) => return Stop::Lost(error.to_string()),
    };
    let mut holder = Holder {
        memory: Memory::new(context.memory.clone()),
        pending: Pending::new(context.buffers.clone()),
        pace: Pace::default(),
        load_at: Instant::now(),
        guests_at: Instant::now(),
        turn,
        turns: Turns::new(lane.clone(), me),
        missing: turns::Missing::new(),
        repairs: Repairs::new(Instant::now(), letters),
        unrepaired: None,
        context,
        lane,
        name,
        label,
        status,
        me,
        port,
        reader,
        record,
    };
    holder.count(&taken.replayed);
    status.held.store(true, Ordering::Relaxed);
    context.settled().insert(lane.clone(), Settled::new(me, Instant::now(), holder.record.intent));
    loop {
        if let Err(stop) = holder.step().await {
            return stop;
        }
    }
}

/// What nobody could read before: this build may.
async fn dead_letters(context: &Context, lane: &Lane, epoch: i64) -> Vec<u64> {
    lookup::dead_letters(&context.reader, lane, epoch).await.unwrap_or_else(|error| {
        tracing::warn!(%lane, %error, "dead letters are not looked at until the lane is taken again");
        Vec::new()
    })
}

/// A lane that is held.
struct Holder<'a> {
    context: &'a Arc<Context>,
    lane: &'a Lane,
    name: String,
    label: LaneLabel,
    status: &'a Status,
    me: Incarnation,
    port: LivePort,
    reader: LaneReader,
    record: Record,
    memory: Memory,
    pending: Pending,
    pace: Pace,
    /// When to load ids next.
    load_at: Instant,
    /// When to load ids of other lanes next.
    guests_at: Instant,
    turn: &'a mut Turn,
    turns: Turns,
    missing: turns::Missing,
    repairs: Repairs,
    /// A range whose repair waits for a seat.
    unrepaired: Option<(u64, u64)>,
}

impl Holder<'_> {
    /// Reads or flushes, whichever is due.
    async fn step(&mut self) -> Result<(), Stop> {
        if self.context.is_shutting_down() {
            self.close().await?;
            return Err(Stop::ShuttingDown);
        }
        if self.context.lease.is_over(self.me) {
            return Err(Stop::Lost("another sink took it".to_owned()));
        }
        if self.turn.gives_away(self.context.falls_to(self.lane, self.me), Instant::now()) {
            return Err(self.give_away().await?);
        }
        self.seat().await?;
        self.give_seats().await?;
        let now = Instant::now();
        // Between two steps everything that an intent wrote down is in the tables.
        if let Some(settled) = self.context.settled().get_mut(self.lane) {
            settled.note(now, self.record.intent);
        }
        let next = || self.repairs.next(now, || self.context.gaps_of(self.lane));
        if let Some(range) = self.unrepaired.take().or_else(next) {
            return self.repair(range).await;
        }
        let (full_due, due) = self.context.budget.due(&self.pace, now);
        if self.pending.is_full() {
            self.context.pause(full_due.saturating_duration_since(now)).await;
            self.flush().await
        } else if self.pending.wants_more() {
            self.read(Duration::ZERO).await
        } else if self.pending.is_empty() {
            let open = self.record.state == State::Open;
            self.read(if open { CLOSE_AFTER } else { IDLE_WAIT }).await?;
            if self.pending.is_empty() { self.close().await } else { Ok(()) }
        } else if now < due {
            self.read(due - now).await
        } else {
            self.flush().await
        }
    }

    /// Reads what is there, or waits for something.
    async fn read(&mut self, wait: Duration) -> Result<(), Stop> {
        let mut shutdown = self.context.shutdown.clone();
        let mut seats = self.context.seats.changes();
        let (context, lane, turns) = (self.context, self.lane, &self.turns);
        let seated = self.record.is_seated();
        let wanted = |_: &u64| {
            let unseated = !seated && context.seats.is_named(lane);
            unseated || !turns.free(&context.seats.wanted_from(lane)).is_empty()
        };
        let (messages, bytes) = self.pending.room();
        let read = tokio::select! {
            read = self.reader.next(messages, bytes, wait) => read,
            _ = shutdown.wait_for(|ends| *ends) => return Ok(()),
            _ = seats.wait_for(wanted) => return Ok(()),
        };
        match read {
            Ok(messages) => self.pending.extend(messages),
            Err(ReadError::Gap { first_seq }) => {
                let lost = first_seq.saturating_sub(self.reader.position());
                tracing::error!(lane = self.name, lost, first_seq, "messages aged out before they were sunk");
                self.context.metrics.gaps.get_or_create(&self.label).inc_by(lost);
                self.reader.seek(first_seq);
            }
            Err(ReadError::Missing | ReadError::Recreated { .. }) => {
                return Err(Stop::Lost("its stream is gone".to_owned()));
            }
            Err(ReadError::Unavailable(reason)) => {
                tracing::debug!(lane = self.name, reason, "the stream does not answer");
                self.pending.extend(Vec::new());
                self.context.pause(READ_AGAIN).await;
            }
            Err(error @ (ReadError::Refused(_) | ReadError::Beyond { .. })) => {
                return Err(Stop::Stuck(error.to_string()));
            }
        }
        self.status.oldest_ms.store(self.pending.oldest_ms(), Ordering::Relaxed);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let (flushed, messages, since) = {
            let batch =
                Batch::cut(self.pending.messages(), LIMITS).map_err(|e| Stop::Stuck(e.to_string()))?;
            let ready = self.turns.admit(&mut self.port, &mut self.memory, &batch.tenants()).await?;
            if ready == 0 {
                return self.wait_for_seats().await;
            }
            let batch = batch.first(ready);
            self.context.budget.begin(&mut self.pace, Instant::now());
            let horizon = self.context.horizon_days;
            let (port, record, memory) = (&mut self.port, &mut self.record, &mut self.memory);
            #[cfg(feature = "crash-points")]
            crash_points::pass("P5").map_err(|failed| Stop::Lost(failed.to_string()))?;
            let flushed = flush(port, &self.name, record, memory, &batch, horizon).await?;
            for DeadLetter { seq, events, reason } in batch.dead_letters() {
                tracing::error!(
                    lane = self.name,
                    seq,
                    events,
                    reason,
                    "a dead letter: a sink that can read it stores it, as long as the stream keeps it"
                );
            }
            #[cfg(feature = "crash-points")]
            crash_points::pass("P9").map_err(|failed| Stop::Lost(failed.to_string()))?;
            let since = batch.received_ms().and_then(|ms| Day::of(ms - i64::from(horizon) * 86_400_000));
            (flushed, batch.messages(), since)
        };
        self.turns.unpin();
        self.pace.ended(u32::try_from(flushed.blocks).unwrap_or(u32::MAX), Instant::now());
        self.count(&flushed);
        self.pending.drain(messages);
        self.status.oldest_ms.store(self.pending.oldest_ms(), Ordering::Relaxed);
        match since {
            Some(since) if !self.memory.covers(since) && Instant::now() >= self.load_at => {
                self.load(since).await;
            }
            Some(since) if self.memory.covers(since) && Instant::now() >= self.guests_at => {
                self.load_guest(since).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Closes the intent, so that the auditor can count its range.
    async fn close(&mut self) -> Result<(), Stop> {
        if self.record.state == State::Open {
            let closed = self.record.closed();
            self.port.write(&closed).await?;
            self.record = closed;
        }
        Ok(())
    }

    /// Puts back what is missing of a range.
    async fn repair(&mut self, range: (u64, u64)) -> Result<(), Stop> {
        self.close().await?;
        let horizon = self.context.horizon_days;
        let (port, record, memory) = (&mut self.port, &mut self.record, &mut self.memory);
        let turns = &mut self.turns;
        match repair(port, &self.name, record, memory, turns, range, horizon).await? {
            Some(done) => self.count(&done),
            None => {
                self.unrepaired = Some(range);
                self.wait_for_seats().await?;
            }
        }
        Ok(())
    }

    /// Leaves the lane to the sink that it falls to; what was read and not flushed is read again there.
    async fn give_away(&mut self) -> Result<Stop, Stop> {
        self.close().await?;
        self.port.write(&self.record.given_away()).await?;
        tracing::info!(lane = self.name, "given to the sink that it falls to");
        Ok(Stop::Lost("it falls to another sink".to_owned()))
    }

    fn count(&self, flushed: &Flushed) {
        let metrics = &self.context.metrics;
        metrics.rows.get_or_create(&self.label).inc_by(flushed.rows);
        metrics.duplicates.get_or_create(&self.label).inc_by(flushed.duplicates);
        if flushed.dead > 0 {
            metrics.dead.get_or_create(&self.label).inc_by(flushed.dead);
        }
        if flushed.repaired > 0 {
            tracing::warn!(lane = self.name, rows = flushed.repaired, "inserted again what was missing");
            metrics.repaired.get_or_create(&self.label).inc_by(flushed.repaired);
        }
        if flushed.excess > 0 {
            tracing::error!(lane = self.name, rows = flushed.excess, "rows are there more than once");
            metrics.excess.get_or_create(&self.label).inc_by(flushed.excess);
        }
        self.status.hi.store(self.record.hi, Ordering::Relaxed);
    }
}

/// The day from which on to load about `limit` rows; `None` when all `days` (newest first) are no more than that.
fn newest(days: &[(Day, u64)], limit: u64) -> Option<Day> {
    let mut rows = 0;
    let mut days = days.iter().peekable();
    while let Some((day, count)) = days.next() {
        rows += count;
        if days.peek().is_some_and(|(_, next)| rows + next > limit) {
            return Some(*day);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_loaded_newest_days_first_in_bounded_steps() {
        let day = |n: i64| Day::of(n * 86_400_000).unwrap();
        let days = [(day(9), 5), (day(8), 4), (day(5), 4), (day(1), 100)];
        assert_eq!(newest(&days, 10), Some(day(8)));
        assert_eq!(newest(&days, 1), Some(day(9)), "a large day is loaded alone");
        assert_eq!(newest(&days, 1000), None);
        assert_eq!(newest(&[], 10), None);
    }
}
