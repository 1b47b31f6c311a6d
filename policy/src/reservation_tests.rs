use event::violation::Effect;

use super::*;
use crate::ledger::{Applied, Denied, MAX_RESERVATIONS, RESERVATION_GRACE_MS, Record, Terms};
use crate::window::Period;

const TERMS: Terms<'static> = Terms { cap: 100, cap_generation: 1, ledger_id: "l" };

const POD: Incarnation = Incarnation(77);

fn hold(rule: u64, units: u64) -> Hold {
    Hold { key: QuotaKey { rule, subject: 7, period_start_ms: 1_000 }, units, revision: 1 << rule }
}

fn reservation(holds: usize) -> Reservation {
    let holds = (0..holds).map(|n| hold(n as u64, u64::MAX)).collect();
    Reservation { holder: Incarnation(u128::MAX - 5), expires_ms: 1_763_712_000_000, holds }
}

fn key(byte: u8) -> PseudonymKey {
    PseudonymKey::new([byte; 32])
}

#[test]
fn a_token_is_read_by_every_pod_of_its_tenant_and_by_nobody_else() {
    for holds in [0, 1, MAX_HOLDS] {
        let reservation = reservation(holds);
        let token = reservation.token(&key(1), "lineage");
        assert!(token.len() <= MAX_TOKEN_BYTES, "{} characters", token.len());
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{token}");
        assert_eq!(Reservation::read(&token, &key(1), "lineage"), Some(reservation));
        assert_eq!(Reservation::read(&token, &key(2), "lineage"), None, "another tenant");
        assert_eq!(Reservation::read(&token, &key(1), "successor"), None, "another lineage");
    }
}

#[test]
fn a_token_that_was_changed_anywhere_is_nobodys() {
    let token = reservation(2).token(&key(1), "l");
    let read = |token: &str| Reservation::read(token, &key(1), "l");
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(read(std::str::from_utf8(&changed).unwrap()), None, "character {at}");
        assert_eq!(read(&token[..at]), None, "cut at {at}");
    }
    let long = "A".repeat(MAX_TOKEN_BYTES * 2);
    for text in ["", "rsv_", "rsv_AAAA", "x", "rsv_ä", &format!("rsv_{long}")] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn an_event_spends_what_it_needs_and_takes_the_rest_elsewhere() {
    let need = |rule: u64, subject, units| {
        let key = QuotaKey { rule, subject, period_start_ms: 9_000 };
        let period = Period { start_ms: 9_000, end_ms: 10_000 };
        Need { rule: rule as usize, key, period, units, effect: Effect::Refused }
    };
    let holds = vec![hold(1, 60), hold(2, 5), hold(3, 5)];
    let reservation = Reservation { holds, ..reservation(0) };
    // Fewer, more, another user's, and a limit that was not reserved.
    let cover = reservation.cover(&[need(1, 7, 50), need(2, 7, 8), need(3, 8, 2), need(4, 7, 1)]);
    let spent: Vec<u64> = cover.parts.iter().map(|part| part.covers.map_or(0, |need| need.units)).collect();
    assert_eq!(spent, [50, 5, 0]);
    let rest: Vec<_> = cover.rest.iter().map(|need| (need.rule, need.key.subject, need.units)).collect();
    assert_eq!(rest, [(2, 7, 3), (3, 8, 2), (4, 7, 1)]);
    assert_eq!(cover.parts[0].hold.key.period_start_ms, 1_000, "the record of the period it was made in");
}

fn apply(record: Option<&Record>, op: &Op) -> Result<Option<Record>, Denied> {
    match Record::apply(record, &TERMS, op)? {
        Applied::Changed(next) => Ok(Some(next)),
        Applied::Already | Applied::Dropped => Ok(record.cloned()),
    }
}

#[test]
fn what_is_not_spent_comes_back_and_nothing_is_spent_twice() {
    let (r, hold) = (Incarnation(9), hold(1, 60));
    let record = apply(None, &hold.grant(r, 0, 1_000)).unwrap();
    assert_eq!(record.as_ref().unwrap().free(), 40);
    let committed = apply(record.as_ref(), &hold.commit(r, 50, POD)).unwrap();
    assert_eq!(committed.as_ref().map(|record| (record.used, record.free())), Some((50, 50)));
    assert_eq!(apply(committed.as_ref(), &hold.commit(r, 50, POD)), Err(Denied::Gone));
    let released = apply(record.as_ref(), &Hold::release(r, 60)).unwrap();
    assert_eq!(released.as_ref().map(|record| (record.used, record.free())), Some((0, 100)));
    assert_eq!(apply(released.as_ref(), &Hold::release(r, 60)), Ok(released.clone()), "repeated");
    assert_eq!(apply(released.as_ref(), &hold.commit(r, 50, POD)), Err(Denied::Gone));
}

#[test]
fn what_a_dead_pod_committed_is_counted_once_and_only_if_its_pack_is_stored() {
    let (r, hold) = (Incarnation(9), hold(1, 60));
    let record = apply(None, &hold.grant(r, 0, 1_000)).unwrap();
    let committed = apply(record.as_ref(), &hold.commit(r, 50, POD)).unwrap().unwrap();
    assert_eq!(committed.reap(POD, 50, 0).unwrap().used, 50, "its pack is stored");
    assert_eq!(committed.reap(POD, 0, 0).unwrap().used, 0, "its pack never will be");
    // It may lease afterwards like any pod, and its account goes on.
    let kind = OpKind::Grant { at_least: 5, want: 5, now_ms: 0, expires_ms: None };
    let leased =
        apply(Some(&committed), &Op { by: POD, number: 1, after: 0, spent: 0, kind }).unwrap().unwrap();
    assert_eq!((leased.held_by(POD), leased.reap(POD, 53, 0).unwrap().used), (5, 53));
    // A pod that was taken for dead commits nothing any more.
    let next = Incarnation(10);
    let reaped = apply(Some(&committed.reap(POD, 50, i64::MAX).unwrap()), &hold.grant(next, 0, 1_000));
    assert!(matches!(reaped, Err(Denied::Exhausted { .. })), "50 of 100 are used");
    let hold = Hold { units: 40, ..hold };
    let reaped =
        apply(Some(&committed.reap(POD, 50, i64::MAX).unwrap()), &hold.grant(next, 0, 1_000)).unwrap();
    assert_eq!(apply(reaped.as_ref(), &hold.commit(next, 40, POD)), Err(Denied::Inconsistent));
}

#[test]
fn an_ended_reservation_holds_for_the_grace_and_not_longer() {
    let (ended, next) = (Incarnation(9), Incarnation(10));
    let record = apply(None, &hold(1, 60).grant(ended, 0, 1_000)).unwrap();
    let at = |now_ms| apply(record.as_ref(), &hold(1, 41).grant(next, now_ms, now_ms + 1_000));
    assert!(matches!(
        at(1_000 + RESERVATION_GRACE_MS - 1),
        Err(Denied::Exhausted { held_by_others: 60, .. })
    ));
    let after = at(1_000 + RESERVATION_GRACE_MS).unwrap();
    assert_eq!(after.as_ref().map(|record| (record.held_by(ended), record.held_by(next))), Some((0, 41)));
    assert_eq!(apply(after.as_ref(), &hold(1, 60).commit(ended, 60, POD)), Err(Denied::Gone));
}

#[test]
fn a_record_has_a_bounded_number_of_them() {
    let record = (0..MAX_RESERVATIONS).fold(None, |record: Option<Record>, n| {
        apply(record.as_ref(), &hold(1, 0).grant(Incarnation(n as u128), 0, 1_000)).unwrap()
    });
    let one_more =
        |now_ms| apply(record.as_ref(), &hold(1, 1).grant(Incarnation(u128::MAX), now_ms, now_ms + 1));
    assert_eq!(one_more(0), Err(Denied::Crowded));
    assert!(one_more(1_000 + RESERVATION_GRACE_MS).is_ok(), "those that have ended make room");
}
