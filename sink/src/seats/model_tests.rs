//! A model of several lanes, their sinks and tenants that move, in every order that a seed gives: sinks die and stand still at every
//! point, lanes are taken by others meanwhile, packs of a moved tenant arrive in any lane that it has had, at any time, and the tables
//! lose rows that are put back from the streams.
//!
//! The promise: each event is stored once over all lanes, every event is accounted for in its own, and nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

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
use crate::testing::{DAY, message, of_tenants};

const NOW: i64 = 100 * DAY;
const EPOCH: i64 = 7;

#[derive(Default)]
struct Contents {
    messages: Vec<LaneMessage>,
    record: Option<(u64, Record)>,
    tokens: HashSet<(Table, String)>,
    raw: Vec<Row>,
    removed: Vec<Row>,
}

impl Contents {
    /// What was packed, by place.
    fn packed(&self) -> BTreeMap<(u64, u32), Id> {
        let batch = Batch::whole(&self.messages, 0).unwrap();
        batch.places().map(|place| ((place.seq, place.idx), place.id())).collect()
    }

    /// Places that are in neither table.
    fn missing(&self) -> Vec<(u64, u32)> {
        let there: HashSet<(u64, u32)> = self.raw.iter().chain(&self.removed).map(|row| row.at).collect();
        self.packed().into_keys().filter(|at| !there.contains(at)).collect()
    }
}

struct World {
    lanes: BTreeMap<Lane, Contents>,
    seats: BTreeMap<TenantNumber, (u64, Seat)>,
    revision: u64,
    /// Whether seats are told: without it every sink decides for itself.
    told: bool,
}

/// One sink's way to one lane.
struct Model {
    world: Arc<Mutex<World>>,
    lane: Lane,
    me: Incarnation,
    revision: u64,
    elsewhere: Elsewhere,
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
async fn hold(mut port: Model, me: Incarnation, ids: usize) -> Result<(), Stop> {
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

/// Small and good enough for orders.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

type Task = Pin<Box<dyn Future<Output = Result<(), Stop>>>>;

struct Sink {
    lane: Lane,
    task: Task,
    frozen: bool,
}

struct Run {
    world: Arc<Mutex<World>>,
    sinks: Vec<Sink>,
    dice: Dice,
    started: u128,
    packs: u128,
    /// Where each tenant may move.
    places: BTreeMap<TenantNumber, Vec<Lane>>,
}

impl Run {
    fn new(seed: u64, told: bool) -> Self {
        let own = |name: &str| Lane::Dedicated(name.parse().unwrap());
        let (one, two) = (Lane::Pooled(1), Lane::Pooled(2));
        let places = [
            (1, vec![one.clone(), own("a")]),
            (2, vec![own("b"), two.clone()]),
            (3, vec![one.clone()]),
            (4, vec![one.clone(), two.clone()]),
            (5, vec![two.clone(), one.clone()]),
        ];
        let lanes = [one, two, own("a"), own("b")].map(|lane| (lane, Contents::default())).into();
        let world = World { lanes, seats: BTreeMap::new(), revision: 0, told };
        Self {
            world: Arc::new(Mutex::new(world)),
            sinks: Vec::new(),
            dice: Dice(seed),
            started: 0,
            packs: 0,
            places: places.map(|(tenant, lanes)| (TenantNumber(tenant), lanes)).into(),
        }
    }

    /// Begins a move, before any pack of the tenant is in the lane that it moves to.
    fn move_one(&mut self) {
        let number = TenantNumber(1 + self.dice.below(5) as u64);
        let to = self.dice.below(2);
        let places = &self.places[&number];
        let Some(to) = places.get(to) else { return };
        let mut world = self.world.lock().unwrap();
        world.revision += 1;
        let revision = world.revision;
        let known = world.seats.get(&number).map(|(_, seat)| seat.clone());
        let seat = known.unwrap_or_else(|| Seat::first("t".parse().unwrap(), places[0].clone()));
        if seat.home() != to {
            world.seats.insert(number, (revision, seat.moved(to, 0)));
        }
    }

    /// A pack in some lane, of tenants that have ever lived there, with ids of which there are few.
    fn append(&mut self) {
        let mut world = self.world.lock().unwrap();
        let lanes: Vec<Lane> = world.lanes.keys().cloned().collect();
        let lane = lanes[self.dice.below(lanes.len())].clone();
        let lives = |(tenant, places): (&TenantNumber, &Vec<Lane>)| {
            let had = world.seats.get(tenant).map_or(&places[..1], |(_, seat)| &seat.lanes);
            had.contains(&lane).then_some(*tenant)
        };
        let tenants: Vec<TenantNumber> = self.places.iter().filter_map(lives).collect();
        if tenants.is_empty() {
            return;
        }
        let events: Vec<_> = (0..1 + self.dice.below(4))
            .map(|_| {
                let tenant = tenants[self.dice.below(tenants.len())];
                (tenant, 1 + self.dice.below(25) as u128, NOW - self.dice.below(3) as i64 * DAY)
            })
            .collect();
        self.packs += 1;
        let pack = of_tenants((PackId(self.packs), Incarnation(4), NOW), events);
        let messages = &mut world.lanes.get_mut(&lane).unwrap().messages;
        messages.push(message(messages.len() as u64 + 1, &pack));
    }

    /// A power cut: the tables forget rows of intents that are closed, the server remembers their tokens.
    fn lose(&mut self) {
        let mut world = self.world.lock().unwrap();
        for lane in world.lanes.values_mut() {
            let closed = lane.record.as_ref().filter(|(_, record)| record.state == State::Closed);
            let Some(hi) = closed.map(|(_, record)| record.hi) else { continue };
            let lost = hi.saturating_sub(self.dice.below(6) as u64);
            let kept = |row: &Row| row.at.0 > hi || row.at.0 < lost || row.id.hash.0 % 3 != 0;
            lane.raw.retain(kept);
            lane.removed.retain(kept);
        }
    }

    fn start(&mut self, lane: &Lane) {
        self.started += 1;
        let (me, ids) = (Incarnation(self.started), [0, 10, 1_000][self.dice.below(3)]);
        let port = Model {
            world: self.world.clone(),
            lane: lane.clone(),
            me,
            revision: 0,
            elsewhere: Elsewhere::new(),
        };
        self.sinks.push(Sink { lane: lane.clone(), task: Box::pin(hold(port, me, ids)), frozen: false });
    }

    /// Somebody goes on, dies, stands still, or comes back.
    fn turn(&mut self, faults: bool) {
        let lanes: Vec<Lane> = self.world.lock().unwrap().lanes.keys().cloned().collect();
        for lane in lanes {
            if !self.sinks.iter().any(|sink| sink.lane == lane && !sink.frozen) {
                self.start(&lane);
            }
        }
        let at = self.dice.below(self.sinks.len());
        match self.dice.below(120) {
            0 if faults => drop(self.sinks.swap_remove(at)),
            1..=2 if faults => self.sinks[at].frozen = true,
            3..=6 => self.sinks[at].frozen = false,
            _ => {}
        }
        let at = self.dice.below(self.sinks.len().max(1));
        let Some(sink) = self.sinks.get_mut(at).filter(|sink| !sink.frozen) else { return };
        if sink.task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            drop(self.sinks.swap_remove(at));
        }
    }

    fn is_sunk(&self) -> bool {
        let world = self.world.lock().unwrap();
        world.lanes.values().all(|lane| {
            let record = lane.record.as_ref().map(|(_, record)| (record.hi, record.state));
            record == Some((lane.messages.len() as u64, State::Closed)) && lane.missing().is_empty()
        })
    }

    fn all(&mut self) -> Result<(), String> {
        for _ in 0..6_000 {
            match self.dice.below(60) {
                0 => self.append(),
                1 if self.dice.below(8) == 0 => self.move_one(),
                2 if self.dice.below(20) == 0 => self.lose(),
                _ => self.turn(true),
            }
        }
        for _ in 0..200_000 {
            if self.is_sunk() {
                return self.check();
            }
            self.turn(false);
        }
        Err("somebody waits for ever".to_owned())
    }

    fn check(&self) -> Result<(), String> {
        let world = self.world.lock().unwrap();
        let mut stored: HashMap<Id, (&Lane, (u64, u32))> = HashMap::new();
        for (lane, contents) in &world.lanes {
            let packed = contents.packed();
            for row in &contents.raw {
                if packed.get(&row.at) != Some(&row.id) {
                    return Err(format!("{lane} {:?} is no event", row.at));
                }
                if let Some(first) = stored.insert(row.id, (lane, row.at)) {
                    return Err(format!("{:?} is in {first:?} and in {lane} {:?}", row.id, row.at));
                }
            }
            let mut places: Vec<_> = contents.raw.iter().chain(&contents.removed).map(|row| row.at).collect();
            places.sort_unstable();
            if places != packed.keys().copied().collect::<Vec<_>>() {
                return Err(format!("{lane}: not everything is accounted for"));
            }
        }
        let lost =
            world.lanes.values().flat_map(|lane| &lane.removed).find(|row| !stored.contains_key(&row.id));
        lost.map_or(Ok(()), |row| Err(format!("{:?} was removed and is stored nowhere", row.id)))
    }
}

#[test]
fn every_event_is_stored_once_wherever_its_tenant_has_been() {
    for seed in 0..400 {
        let outcome = Run::new(seed, true).all();
        assert_eq!(outcome, Ok(()), "seed {seed}");
    }
}

#[test]
fn sinks_that_know_of_no_seats_store_events_twice() {
    let doubled = (0..20).filter(|seed| Run::new(*seed, false).all().is_err()).count();
    assert!(doubled > 15, "the model would find it: {doubled} of 20");
}
