//! The world that `model_tests` tries the rules in: lanes, tables and seats that a sink sees step by step, and a sink.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use clickhouse::Day;
use clickhouse::schema::Table;
use event::seat::Seat;
use event::{Incarnation, Lane, PackId, TenantNumber};
use jetstream::LaneMessage;

use super::turns::{Elsewhere, Found, Seats, Turns};
use crate::batch::{Batch, Id, Limits};
use crate::charges::Doubtful;
use crate::dedup::{Memory, MemoryBudget};
use crate::flush::flush;
use crate::intent::{Record, State};
use crate::model_tests::{Row, read_raw, read_removed};
use crate::port::{Certainty, Port, Positions, Range, Stop};
use crate::repair::repair;
use crate::takeover::take;
use crate::testing::DAY;

pub(super) const NOW: i64 = 100 * DAY;
const EPOCH: i64 = 7;

#[derive(Default)]
pub(super) struct Contents {
    pub(super) messages: Vec<LaneMessage>,
    pub(super) record: Option<(u64, Record)>,
    pub(super) tokens: HashSet<(Table, String)>,
    pub(super) raw: Vec<Row>,
    pub(super) removed: Vec<Row>,
}

impl Contents {
    /// What was packed, by place.
    pub(super) fn packed(&self) -> BTreeMap<(u64, u32), Id> {
        let batch = Batch::whole(&self.messages, 0).unwrap();
        batch.places().map(|place| ((place.seq, place.idx), place.id())).collect()
    }

    /// Places that are in neither table.
    pub(super) fn missing(&self) -> Vec<(u64, u32)> {
        let there: HashSet<(u64, u32)> = self.raw.iter().chain(&self.removed).map(|row| row.at).collect();
        self.packed().into_keys().filter(|at| !there.contains(at)).collect()
    }
}

pub(super) struct World {
    pub(super) lanes: BTreeMap<Lane, Contents>,
    pub(super) seats: BTreeMap<TenantNumber, (u64, Seat)>,
    pub(super) revision: u64,
    /// Whether seats are told: without it every sink decides for itself.
    pub(super) told: bool,
}

/// One sink's way to one lane.
pub(super) struct Model {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) lane: Lane,
    pub(super) me: Incarnation,
    pub(super) revision: u64,
    pub(super) elsewhere: Elsewhere,
}

/// Lets others go first, or never comes back.
struct Step(bool);

impl Future for Step {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Model {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Something that others see at one moment; the process may die before it and behind it.
    async fn once<T>(&mut self, act: impl FnOnce(&mut World, &Lane) -> T) -> T {
        Step(false).await;
        let done = act(&mut self.world.lock().unwrap(), &self.lane);
        Step(false).await;
        done
    }

    /// Messages up to `hi` of which rows are missing.
    fn gap(&self, hi: u64) -> Option<(u64, u64)> {
        let world = self.world();
        let missing = world.lanes[&self.lane].missing();
        let missing: Vec<u64> = missing.into_iter().map(|at| at.0).filter(|seq| *seq <= hi).collect();
        Some((*missing.first()?, *missing.last()?))
    }

    /// Rows of other lanes, of the tenants that are looked for there.
    fn rows_elsewhere(&self) -> Vec<(TenantNumber, Day, Id)> {
        let world = self.world();
        let of = |(lane, tenants): (&Lane, &BTreeSet<TenantNumber>)| -> Vec<_> {
            let rows = world.lanes[lane].raw.iter().filter(|row| tenants.contains(&row.id.tenant));
            rows.map(|row| (row.id.tenant, row.day, row.id)).collect()
        };
        self.elsewhere.iter().flat_map(of).collect()
    }
}

impl Port for Model {
    async fn read(&mut self) -> Result<Option<Record>, Stop> {
        let found = self.once(|world, lane| world.lanes[lane].record.clone()).await;
        self.revision = found.as_ref().map_or(0, |(revision, _)| *revision);
        Ok(found.map(|(_, record)| record))
    }

    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let expected = self.revision;
        let written = self.once(|world, lane| {
            let stored = &mut world.lanes.get_mut(lane).unwrap().record;
            let last = stored.as_ref().map_or(0, |(revision, _)| *revision);
            (last == expected).then(|| *stored = Some((last + 1, record.clone())))
        });
        written.await.ok_or_else(|| Stop::Lost("written by another".to_owned()))?;
        self.revision = expected + 1;
        Ok(())
    }

    async fn has_rows(&mut self, _: i64) -> Result<bool, Stop> {
        Ok(self.once(|world, lane| !world.lanes[lane].raw.is_empty()).await)
    }

    async fn messages(&mut self, lo: u64, hi: u64) -> Result<Range, Stop> {
        let messages =
            self.once(|world, lane| world.lanes[lane].messages[lo as usize - 1..hi as usize].to_vec());
        Ok(Range { messages: messages.await, missing: 0 })
    }

    async fn known(&mut self, ids: &[Id], _: i64) -> Result<HashSet<Id>, Stop> {
        let mut stored: HashSet<Id> =
            self.once(|world, lane| world.lanes[lane].raw.iter().map(|row| row.id).collect()).await;
        stored.extend(self.rows_elsewhere().into_iter().map(|(_, _, id)| id));
        Ok(ids.iter().filter(|id| stored.contains(id)).copied().collect())
    }

    async fn insert(&mut self, table: Table, rows: Bytes, token: &str) -> Result<Certainty, Stop> {
        let me = self.me;
        // Also of a sink that was overtaken while it stood still: its tokens are those that were replayed. What it puts back has one
        // of its own, and a lane is held for long before anything is put back: by then it has landed, or never will.
        self.once(|world, lane| {
            let lane = world.lanes.get_mut(lane).unwrap();
            let owner = lane.record.as_ref().map(|(_, record)| record.owner);
            if is_again(token) && owner != Some(me) {
                return;
            }
            if lane.tokens.insert((table, token.to_owned())) {
                match table {
                    Table::Raw => lane.raw.extend(read_raw(&rows)),
                    _ => lane.removed.extend(read_removed(&rows)),
                }
            }
        })
        .await;
        Ok(Certainty::Certain)
    }

    async fn landed(&mut self, _: &[Doubtful]) -> Result<HashSet<PackId>, Stop> {
        Ok(HashSet::new())
    }

    async fn positions(&mut self, record: &Record) -> Result<Positions, Stop> {
        let (lo, hi) = (record.lo, record.hi);
        let within =
            |rows: &[Row]| rows.iter().map(|row| row.at).filter(|at| (lo..=hi).contains(&at.0)).collect();
        Ok(self
            .once(|world, lane| {
                let lane = &world.lanes[lane];
                Positions { raw: within(&lane.raw), removed: within(&lane.removed), ..Positions::default() }
            })
            .await)
    }

    async fn settle(&mut self) {}
}

/// Whether a token is one of rows that were missing.
fn is_again(token: &str) -> bool {
    let last = token.rsplit(':').next().and_then(|last| last.strip_prefix(['r', 'g']));
    last.is_some_and(|number| number.parse::<u64>().is_ok())
}

impl Seats for Model {
    async fn seats(&mut self, tenants: &[TenantNumber]) -> Result<Found, Stop> {
        let read = self.once(|world, _| {
            let told = world.told;
            let seats = world.seats.iter().filter(|(tenant, _)| told && tenants.contains(tenant));
            seats.map(|(tenant, seat)| (*tenant, seat.clone())).collect()
        });
        Ok(read.await)
    }

    async fn put_seat(&mut self, tenant: TenantNumber, seat: &Seat, expected: u64) -> Result<bool, Stop> {
        let put = self.once(|world, _| {
            let revision = world.revision + 1;
            let as_expected = world.seats.get(&tenant).is_some_and(|(known, _)| *known == expected);
            if as_expected {
                (world.revision, *world.seats.get_mut(&tenant).unwrap()) =
                    (revision, (revision, seat.clone()));
            }
            as_expected
        });
        Ok(put.await)
    }

    fn look_also(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = elsewhere;
    }
}

/// A sink that holds a lane until it is overtaken.
pub(super) async fn hold(mut port: Model, me: Incarnation, ids: usize) -> Result<(), Stop> {
    let lane = port.lane.clone();
    let name = lane.to_string();
    let mut record = take(&mut port, &name, me, EPOCH, async |_| true).await?.record;
    let mut memory = Memory::new(Arc::new(MemoryBudget::new(ids * 40)));
    let mut turns = Turns::new(lane.clone(), me);
    let mut repairing = false;
    for round in 0_u64.. {
        let asked = |(tenant, (_, seat)): (&TenantNumber, &(u64, Seat))| {
            (seat.at == lane && !seat.asked.is_empty()).then_some(*tenant)
        };
        let wanted = port.world().seats.iter().filter_map(asked).collect();
        let free = turns.free(&wanted);
        // What others want is learned late; what is read before a decision is not.
        if !free.is_empty() && round % 4 == 3 {
            turns.give(&mut port, &mut memory, &mut record, &free).await?;
        }
        let looks = round % 8 == 7 || repairing;
        if let Some(range) = looks.then(|| port.gap(record.hi)).flatten() {
            let closed = record.closed();
            port.write(&closed).await?;
            record = closed;
            let turns = &mut turns;
            // One that waits for a seat is tried again before anything else is begun.
            repairing = repair(&mut port, &name, &mut record, &mut memory, turns, range, 8).await?.is_none();
            Step(false).await;
            continue;
        }
        let rest: Vec<LaneMessage> =
            port.world().lanes[&lane].messages.iter().skip(record.hi as usize).take(3).cloned().collect();
        let batch = Batch::cut(&rest, Limits { events: 12, days: 3 }).unwrap();
        let ready = turns.admit(&mut port, &mut memory, &batch.tenants()).await?;
        if ready == 0 {
            if record.state == State::Open && rest.is_empty() {
                let closed = record.closed();
                port.write(&closed).await?;
                record = closed;
            }
            Step(false).await;
            continue;
        }
        flush(&mut port, &name, &mut record, &mut memory, &batch.first(ready), 8).await?;
        turns.unpin();
        if record.intent % 2 == 0 {
            load(&mut port, &mut memory).await;
        }
    }
    Ok(())
}

async fn load(port: &mut Model, memory: &mut Memory) {
    let since = Day::of(NOW - 8 * DAY).unwrap();
    let own: Vec<(Day, Id)> = port.once(|world, lane| rows(&world.lanes[lane].raw)).await;
    memory.load(since, &own);
    let elsewhere = port.rows_elsewhere();
    Step(false).await;
    for guest in memory.strangers(since) {
        let ids: Vec<(Day, Id)> = elsewhere
            .iter()
            .filter(|(tenant, ..)| *tenant == guest)
            .map(|(_, day, id)| (*day, *id))
            .collect();
        memory.introduce(guest, since, &ids);
    }
}

fn rows(rows: &[Row]) -> Vec<(Day, Id)> {
    rows.iter().map(|row| (row.day, row.id)).collect()
}
