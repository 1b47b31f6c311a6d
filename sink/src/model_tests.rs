//! A model of the world in which everything goes wrong that can, and the promise: each event exactly once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use clickhouse::Day;
use clickhouse::schema::Table;
use event::pack::Charge;
use event::seat::Seat;
use event::{EventHash, Incarnation, PackId, TenantNumber};
use jetstream::LaneMessage;
use proptest::prelude::*;

use crate::batch::{Batch, Id, Limits};
use crate::charges::Doubtful;
use crate::dedup::{Memory, MemoryBudget};
use crate::flush::flush;
use crate::intent::Record;
use crate::port::{Certainty, Port, Positions, Range, Stop};
use crate::repair::repair;
use crate::seats::{Elsewhere, Found, Seats, Turns};
use crate::takeover::take;
use crate::testing::{DAY, charged, message, received};

const NOW: i64 = 100 * DAY;
const EPOCH: i64 = 7;
/// Keys of quotas: one that never starts anew, and one that does.
const TOTAL: &str = "lineage.epoch.0.subject.plan.all";
const DAILY: &str = "lineage.epoch.86400.subject.plan.daily";

/// What happens at an operation that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The process dies before the operation has an effect.
    CrashBefore,
    /// The operation takes effect and the process dies before it learns so.
    CrashAfter,
    /// The process dies while an insert is on its way; it lands when the next holder is at work.
    CrashInFlight,
    /// The server is killed after it remembered the token and before it published the rows.
    ServerKilled,
    /// An answer was lost; the retry succeeded.
    AnswerLost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: Id,
    pub(crate) at: (u64, u32),
    pub(crate) day: Day,
    pack: u128,
}

/// What one pod charged to one key in one intent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ChargeRow {
    key: String,
    incarnation: u128,
    intent: u64,
    stored: u64,
    repeated: u64,
}

#[derive(Default)]
struct World {
    messages: Vec<LaneMessage>,
    record: Option<(u64, Record)>,
    tokens: HashSet<(Table, String)>,
    raw: Vec<Row>,
    removed: Vec<Row>,
    charges: Vec<ChargeRow>,
    in_flight: Vec<(Table, Bytes, String)>,
    faults: Vec<Fault>,
}

impl World {
    fn fault(&mut self) -> Fault {
        self.faults.pop().unwrap_or(Fault::None)
    }

    fn land(&mut self, table: Table, rows: &Bytes, token: &str) {
        if self.tokens.insert((table, token.to_owned())) {
            match table {
                Table::Raw => self.raw.extend(read_raw(rows)),
                Table::Removed => self.removed.extend(read_removed(rows)),
                Table::Charges => self.charges.extend(read_charges(rows)),
                table => panic!("no rows of a lane go into {table:?}"),
            }
        }
    }
}

fn crashed() -> Stop {
    Stop::Lost("crashed".to_owned())
}

struct Model<'a> {
    world: &'a mut World,
    revision: u64,
}

impl Port for Model<'_> {
    async fn read(&mut self) -> Result<Option<Record>, Stop> {
        self.revision = self.world.record.as_ref().map_or(0, |(revision, _)| *revision);
        Ok(self.world.record.as_ref().map(|(_, record)| record.clone()))
    }

    async fn write(&mut self, record: &Record) -> Result<(), Stop> {
        let fault = self.world.fault();
        if fault == Fault::CrashBefore {
            return Err(crashed());
        }
        let last = self.world.record.as_ref().map_or(0, |(revision, _)| *revision);
        assert_eq!(last, self.revision, "one holder at a time in this model");
        // It travels as JSON.
        let record = Record::decode(&record.encode().unwrap()).unwrap();
        self.world.record = Some((last + 1, record));
        self.revision = last + 1;
        if fault == Fault::CrashAfter { Err(crashed()) } else { Ok(()) }
    }

    async fn has_rows(&mut self, _: i64) -> Result<bool, Stop> {
        Ok(!self.world.raw.is_empty())
    }

    async fn messages(&mut self, lo: u64, hi: u64) -> Result<Range, Stop> {
        let messages: Vec<_> =
            self.world.messages.iter().filter(|m| (lo..=hi).contains(&m.seq)).cloned().collect();
        let missing = messages.first().map_or(hi + 1, |first| first.seq) - lo;
        Ok(Range { messages, missing })
    }

    async fn known(&mut self, ids: &[Id], since_ms: i64) -> Result<HashSet<Id>, Stop> {
        let stored: HashSet<Id> =
            self.world.raw.iter().filter(|row| row.day.end_ms() > since_ms).map(|row| row.id).collect();
        Ok(ids.iter().filter(|id| stored.contains(id)).copied().collect())
    }

    async fn insert(&mut self, table: Table, rows: Bytes, token: &str) -> Result<Certainty, Stop> {
        for (table, rows, token) in std::mem::take(&mut self.world.in_flight) {
            self.world.land(table, &rows, &token);
        }
        match self.world.fault() {
            Fault::CrashBefore => return Err(crashed()),
            Fault::CrashInFlight => {
                self.world.in_flight.push((table, rows, token.to_owned()));
                return Err(crashed());
            }
            Fault::ServerKilled => {
                self.world.tokens.insert((table, token.to_owned()));
                return Ok(Certainty::Doubtful);
            }
            Fault::CrashAfter => {
                self.world.land(table, &rows, token);
                return Err(crashed());
            }
            Fault::AnswerLost => {
                self.world.land(table, &rows, token);
                return Ok(Certainty::Doubtful);
            }
            Fault::None => self.world.land(table, &rows, token),
        }
        Ok(Certainty::Certain)
    }

    async fn landed(&mut self, packs: &[Doubtful]) -> Result<HashSet<PackId>, Stop> {
        let there: HashSet<u128> =
            self.world.raw.iter().chain(&self.world.removed).map(|row| row.pack).collect();
        Ok(packs.iter().map(|one| one.pack).filter(|pack| there.contains(&pack.0)).collect())
    }

    async fn positions(&mut self, record: &Record) -> Result<Positions, Stop> {
        let (lo, hi) = (record.lo, record.hi);
        let charges = self.world.charges.iter().filter(|row| row.intent == record.intent).count() as u32;
        let within =
            |rows: &[Row]| rows.iter().map(|row| row.at).filter(|at| (lo..=hi).contains(&at.0)).collect();
        Ok(Positions {
            raw: within(&self.world.raw),
            removed: within(&self.world.removed),
            charges,
            ..Positions::default()
        })
    }

    async fn settle(&mut self) {}
}

/// Nobody moves here.
impl Seats for Model<'_> {
    async fn seats(&mut self, _: &[TenantNumber]) -> Result<Found, Stop> {
        Ok(Found::new())
    }

    async fn put_seat(&mut self, _: TenantNumber, _: &Seat, _: u64) -> Result<bool, Stop> {
        Ok(false)
    }

    fn look_also(&mut self, _: Elsewhere) {}
}

struct Bytewise<'a>(&'a [u8]);

impl<'a> Bytewise<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }
    fn text(&mut self) -> &'a [u8] {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            length |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return self.take(length);
            }
            shift += 7;
        }
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }
    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.take(16).try_into().unwrap())
    }
    fn origin(&mut self) -> (u64, u32) {
        self.text();
        assert_eq!(self.u64(), EPOCH as u64);
        let at = (self.u64(), u32::from_le_bytes(self.take(4).try_into().unwrap()));
        self.u64();
        at
    }
}

pub(crate) fn read_raw(bytes: &[u8]) -> Vec<Row> {
    let (mut reader, mut rows) = (Bytewise(bytes), Vec::new());
    while !reader.0.is_empty() {
        let id = Id { tenant: TenantNumber(reader.u64()), hash: EventHash(reader.u128()) };
        for _source_id_feature in 0..3 {
            reader.text();
        }
        reader.take(16);
        reader.text();
        let day = Day::of(reader.u64() as i64).unwrap();
        reader.take(16);
        if reader.take(1)[0] == 0 {
            reader.take(4);
        }
        reader.text();
        let at = reader.origin();
        let pack = reader.u128();
        reader.take(20);
        for _ in 0..reader.take(1)[0] {
            reader.text();
            reader.u64();
        }
        rows.push(Row { id, at, day, pack });
    }
    rows
}

pub(crate) fn read_removed(bytes: &[u8]) -> Vec<Row> {
    let (mut reader, mut rows) = (Bytewise(bytes), Vec::new());
    while !reader.0.is_empty() {
        let tenant = TenantNumber(reader.u64());
        let at = reader.origin();
        assert_eq!(reader.take(1), [1], "a duplicate");
        let id = Id { tenant, hash: EventHash(reader.u128()) };
        reader.take(8);
        let pack = reader.u128();
        rows.push(Row { id, at, day: Day::of(0).unwrap(), pack });
    }
    rows
}

fn read_charges(bytes: &[u8]) -> Vec<ChargeRow> {
    let (mut reader, mut rows) = (Bytewise(bytes), Vec::new());
    while !reader.0.is_empty() {
        assert_eq!(reader.u64(), 1, "the tenant");
        let key = String::from_utf8(reader.text().to_vec()).unwrap();
        let incarnation = reader.u128();
        reader.text();
        assert_eq!(reader.u64(), EPOCH as u64);
        let intent = reader.u64();
        reader.u64();
        rows.push(ChargeRow { key, incarnation, intent, stored: reader.u64(), repeated: reader.u64() });
    }
    rows
}

/// Sinks everything, with a new holder after every crash.
async fn run(world: &mut World, batch_messages: usize, memory_ids: usize) {
    for holder in 1.. {
        assert!(holder < 1_000, "no progress");
        match hold(world, Incarnation(holder), batch_messages, memory_ids).await {
            Ok(()) => return,
            Err(stop) => assert_eq!(stop, crashed()),
        }
    }
}

async fn hold(world: &mut World, me: Incarnation, batch_messages: usize, ids: usize) -> Result<(), Stop> {
    let mut port = Model { world, revision: 0 };
    let mut record = take(&mut port, "acme", me, EPOCH, async |_| true).await?.record;
    let mut memory = Memory::new(Arc::new(MemoryBudget::new(ids * 40)));
    let all = port.world.messages.clone();
    while record.next_seq() <= all.len() as u64 {
        let next = &all[record.hi as usize..];
        let next = &next[..next.len().min(batch_messages)];
        let batch = Batch::cut(next, Limits { events: 12, days: 3 }).unwrap();
        flush(&mut port, "acme", &mut record, &mut memory, &batch, 8).await?;
        let stored: Vec<(Day, Id)> = port.world.raw.iter().map(|row| (row.day, row.id)).collect();
        // Loading replaces nothing, so loading late is loading right.
        if record.intent % 2 == 0 && memory.complete_from().is_none() {
            memory.load(Day::of(NOW - 8 * DAY).unwrap(), &stored);
        }
    }
    Ok(())
}

fn check(world: &World) {
    let mut first: BTreeMap<(u64, u32), Id> = BTreeMap::new();
    for message in &world.messages {
        let messages = [message.clone()];
        for place in Batch::whole(&messages, 0).unwrap().places() {
            first.insert((place.seq, place.idx), place.id());
        }
    }
    let mut stored: HashMap<Id, (u64, u32)> = HashMap::new();
    for row in &world.raw {
        assert_eq!(first.get(&row.at), Some(&row.id));
        assert_eq!(stored.insert(row.id, row.at), None, "stored once");
    }
    let mut places: Vec<_> = world.raw.iter().chain(&world.removed).map(|row| row.at).collect();
    places.sort_unstable();
    assert_eq!(places, first.keys().copied().collect::<Vec<_>>(), "packed = stored + duplicates");
    for (at, id) in first.iter().rev() {
        assert!(stored[id] <= *at, "the first of equal events is the one that is stored");
    }
    check_charges(world);
}

/// Every pack is charged once, however often it landed; of what is charged, `stored` is in the table and the rest came back.
fn check_charges(world: &World) {
    let (mut charged, mut kept) = (BTreeMap::new(), BTreeMap::new());
    let mut packs = HashSet::new();
    let places: HashSet<(u64, u32)> = world.raw.iter().map(|row| row.at).collect();
    for message in &world.messages {
        let messages = [message.clone()];
        let batch = Batch::whole(&messages, 0).unwrap();
        let is_first = batch.packs().all(|(_, _, pack)| packs.insert(pack.id));
        for place in batch.places() {
            for charge in place.event.charges.iter().filter(|charge| charge.key == TOTAL) {
                if is_first {
                    *charged.entry(place.incarnation.0).or_default() += charge.units;
                }
                if places.contains(&(place.seq, place.idx)) {
                    *kept.entry(place.incarnation.0).or_default() += charge.units;
                }
            }
        }
    }
    let (mut all, mut stored): (BTreeMap<u128, u64>, BTreeMap<u128, u64>) = Default::default();
    for row in &world.charges {
        assert_eq!(row.key, TOTAL);
        *all.entry(row.incarnation).or_default() += row.stored + row.repeated;
        *stored.entry(row.incarnation).or_default() += row.stored;
    }
    stored.retain(|_, units| *units > 0);
    assert_eq!((all, stored), (charged, kept), "charged, and stored of it");
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
        1 => Just(Fault::CrashInFlight),
        1 => Just(Fault::ServerKilled),
        1 => Just(Fault::AnswerLost),
    ];
    prop::collection::vec(fault, 0..60)
}

/// A pack: its pod and its events, with the units that each takes of a quota which never starts anew.
type Packed = (u128, Vec<(u128, i64, u64)>);

/// Packs of up to six events out of thirty ids, over four days.
fn packs() -> impl Strategy<Value = Vec<Packed>> {
    let event = (1u128..30, 0i64..4, 0u64..3).prop_map(|(id, day, units)| (id, NOW - day * DAY, units));
    prop::collection::vec((1u128..3, prop::collection::vec(event, 1..6)), 1..12)
}

/// Messages that hold these packs, and some of them again: (the pack, behind which message).
fn messages(packs: &[Packed], again: &[(usize, usize)]) -> Vec<LaneMessage> {
    let mut order: Vec<usize> = (0..packs.len()).collect();
    for (pack, behind) in again {
        let pack = pack % packs.len();
        let first = order.iter().position(|at| *at == pack).unwrap();
        order.insert((first + 1 + behind).min(order.len()), pack);
    }
    let sealed = |at: usize| {
        let (pod, events) = &packs[at];
        let charges = |units: u64| {
            let charge = |key, units| Charge { key, units };
            [charge(DAILY, 1), charge(TOTAL, units)].into_iter().filter(|charge| charge.units > 0).collect()
        };
        let events = events.iter().map(|(id, time, units)| (*id, *time, charges(*units)));
        charged((PackId(100 + at as u128), Incarnation(*pod), NOW), events)
    };
    (1..).zip(order).map(|(seq, at)| message(seq, &sealed(at))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn every_event_is_stored_once_wherever_it_crashes(
        packs in packs(), again in prop::collection::vec((0usize..12, 0usize..4), 0..3), faults in faults(),
        batch_messages in 1usize..5, memory_ids in prop_oneof![Just(0usize), Just(10), Just(1000)],
    ) {
        let mut world = World { messages: messages(&packs, &again), faults, ..World::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(&mut world, batch_messages, memory_ids));
        check(&world);
    }
}

#[tokio::test]
async fn what_is_missing_comes_back_once_from_the_stream() {
    let messages: Vec<LaneMessage> = (1..=4u64)
        .map(|seq| message(seq, &received(NOW, [(u128::from(seq), NOW), (9, NOW), (u128::from(seq), NOW)])))
        .collect();
    let mut world = World { messages, ..World::default() };
    run(&mut world, 2, 1000).await;
    check(&world);
    let mut port = Model { world: &mut world, revision: 0 };
    let mut record = take(&mut port, "acme", Incarnation(7), EPOCH, async |_| true).await.unwrap().record;
    let revision = port.revision;
    // Rows that were there are gone: an original whose repeats were removed, one whose repeat stands in its pack, and repeats.
    world.raw.retain(|row| ![(1, 1), (3, 0)].contains(&row.at));
    world.removed.retain(|row| row.at != (2, 1));
    let mut memory = Memory::new(Arc::new(MemoryBudget::new(0)));
    let mut port = Model { world: &mut world, revision };
    let (before, next) = (record.intent, record.next_seq());
    let turns = &mut Turns::new("acme".parse().unwrap(), Incarnation(7));
    let done = repair(&mut port, "acme", &mut record, &mut memory, turns, (1, 4), 8).await.unwrap().unwrap();
    assert_eq!((done.repaired, record.intent, record.next_seq()), (3, before + 1, next));
    let again = repair(&mut port, "acme", &mut record, &mut memory, turns, (1, 4), 8).await.unwrap().unwrap();
    assert_eq!((again.repaired, record.intent), (0, before + 1), "nothing is missing");
    check(&world);
}

#[tokio::test]
async fn an_intent_whose_first_messages_are_gone_keeps_what_is_left() {
    let messages =
        (1..=3u64).map(|seq| message(seq, &received(NOW, [(u128::from(seq), NOW), (9, NOW)]))).collect();
    let faults = vec![Fault::CrashBefore, Fault::None, Fault::None];
    let mut world = World { messages, faults, ..World::default() };
    assert_eq!(hold(&mut world, Incarnation(1), 3, 0).await, Err(crashed()));
    world.messages.remove(0);
    let mut port = Model { world: &mut world, revision: 0 };
    let taken = take(&mut port, "acme", Incarnation(2), EPOCH, async |_| true).await.unwrap();
    assert_eq!((taken.lost, taken.record.next_seq()), (2, 4));
    let at = |rows: &[Row]| rows.iter().map(|row| row.at).collect::<Vec<_>>();
    assert_eq!((at(&world.raw), at(&world.removed)), (vec![(2, 0), (3, 0)], vec![(2, 1), (3, 1)]));
}

#[tokio::test]
async fn a_recreated_stream_begins_at_one_and_a_lost_intent_stops_the_lane() {
    let messages = vec![message(1, &received(NOW, [(1, NOW)]))];
    let mut world = World { messages, ..World::default() };
    run(&mut world, 1, 0).await;
    let mut port = Model { world: &mut world, revision: 0 };
    let taken = take(&mut port, "acme", Incarnation(5), EPOCH + 1, async |_| true).await.unwrap();
    assert_eq!((taken.record.next_seq(), taken.record.epoch, taken.lost), (1, EPOCH + 1, 0));
    world.record = None;
    let mut port = Model { world: &mut world, revision: 0 };
    let lost = take(&mut port, "acme", Incarnation(6), EPOCH, async |_| true).await;
    assert!(matches!(lost, Err(Stop::Stuck(_))), "{lost:?}");
}
