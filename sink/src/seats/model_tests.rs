//! A model of several lanes, their sinks and tenants that move, in every order that a seed gives: sinks die and stand still at every
//! point, lanes are taken by others meanwhile, packs of a moved tenant arrive in any lane that it has had, at any time, and the tables
//! lose rows that are put back from the streams.
//!
//! The promise: each event is stored once over all lanes, every event is accounted for in its own, and nobody waits for ever.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use event::seat::Seat;
use event::{Incarnation, Lane, PackId, TenantNumber};

use super::model::{Contents, Model, NOW, World, hold};
use super::turns::Elsewhere;
use crate::batch::Id;
use crate::intent::State;
use crate::model_tests::Row;
use crate::port::Stop;
use crate::testing::{DAY, message, of_tenants};

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
            let kept = |row: &Row| row.at.0 > hi || row.at.0 < lost || !row.id.hash.0.is_multiple_of(3);
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
