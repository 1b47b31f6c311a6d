use event::{EventHash, TenantNumber};
use jetstream::LaneMessage;

use super::*;
use crate::batch::Limits;
use crate::testing::{DAY, message, received};

const HORIZON: u32 = 8;
const NOW: i64 = 100 * DAY;

fn id(hash: u128) -> Id {
    Id { tenant: TenantNumber(1), hash: EventHash(hash) }
}

fn day(n: i64) -> Day {
    Day::of(n * DAY).unwrap()
}

fn memory(ids: usize) -> Memory {
    Memory::new(Arc::new(MemoryBudget::new(ids * ID_BYTES)))
}

fn messages(events: &[(u128, i64)]) -> Vec<LaneMessage> {
    vec![message(1, &received(NOW, events.iter().copied()))]
}

fn batch(messages: &[LaneMessage]) -> Batch<'_> {
    Batch::cut(messages, Limits { events: 1000, days: 100 }).unwrap()
}

#[test]
fn an_incomplete_memory_asks_for_everything() {
    let messages = messages(&[(2, NOW), (1, NOW), (2, NOW - DAY)]);
    let found = suspects(&batch(&messages), &memory(10), HORIZON);
    assert_eq!((found.ask, found.since_ms), (vec![id(1), id(2)], 92 * DAY));
}

#[test]
fn a_complete_memory_asks_for_what_it_knows() {
    let mut memory = memory(10);
    assert!(memory.load(day(92), &[(day(95), id(1))]));
    let known = messages(&[(1, NOW), (2, NOW)]);
    assert_eq!(
        suspects(&batch(&known), &memory, HORIZON).ask,
        [id(1)],
        "the time is no part of the identity"
    );
    memory.remember([(day(100), id(2))]);
    assert_eq!(suspects(&batch(&known), &memory, HORIZON).ask, [id(1), id(2)]);
    let backfilled = messages(&[(3, NOW - 30 * DAY)]);
    let found = suspects(&batch(&backfilled), &memory, HORIZON);
    assert_eq!(
        (found.ask, found.since_ms),
        (vec![id(3)], 70 * DAY),
        "before the horizon nothing is remembered"
    );
}

#[test]
fn only_what_was_found_is_removed_and_the_first_of_a_batch_stays() {
    let messages = messages(&[(1, NOW), (2, NOW), (1, NOW - DAY), (3, NOW), (3, NOW)]);
    let found = removed(&batch(&messages), &HashSet::from([id(3)]));
    assert_eq!(found, [2, 3, 4].into_iter().collect());
}

#[test]
fn a_full_memory_drops_its_oldest_days_and_says_so() {
    let mut memory = memory(3);
    assert!(memory.load(day(92), &[(day(92), id(1)), (day(93), id(2)), (day(100), id(3))]));
    memory.remember([(day(100), id(4))]);
    assert!(!memory.covers(day(92)) && memory.covers(day(93)));
    memory.remember([(day(93), id(5))]);
    assert!(!memory.covers(day(93)) && memory.covers(day(100)), "the day itself had to go");
    assert!(!memory.load(day(92), &[(day(92), id(6)), (day(93), id(7))]), "no room to load them again");
    assert!(memory.covers(day(100)));
    memory.remember([(day(100), id(8)), (day(100), id(9)), (day(100), id(10))]);
    assert!(!memory.covers(day(100)), "one day alone is too large");
    let budget = memory.budget.clone();
    drop(memory);
    assert_eq!(budget.used(), 0);
}

#[test]
fn days_behind_the_horizon_are_dropped() {
    let mut memory = memory(10);
    assert!(memory.load(day(90), &[(day(90), id(1)), (day(92), id(2))]));
    memory.forget_before(day(92));
    assert_eq!(memory.budget.used(), ID_BYTES);
    assert!(memory.covers(day(92)));
}
