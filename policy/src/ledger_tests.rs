use super::*;
use crate::model;
use proptest::prelude::*;

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn terms(cap: u64, cap_generation: u64) -> Terms<'static> {
    Terms { cap, cap_generation, ledger_id: "l" }
}

fn grant(by: Incarnation, number: u64, at_least: u64, want: u64) -> Op {
    Op {
        by,
        number,
        after: number - 1,
        spent: 0,
        kind: OpKind::Grant { at_least, want, now_ms: 0, expires_ms: None },
    }
}

fn changed(record: Option<&Record>, cap: u64, op: Op) -> Record {
    match Record::apply(record, &terms(cap, 1), &op) {
        Ok(Applied::Changed(next)) => next,
        other => panic!("{op:?} gave {other:?}"),
    }
}

#[test]
fn grants_are_cut_at_the_cap() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    assert_eq!((record.held_by(A), record.free()), (6, 4));
    let record = changed(Some(&record), 10, grant(B, 1, 1, 6));
    assert_eq!((record.held_by(B), record.free()), (4, 0));
    let denied = Record::apply(Some(&record), &terms(10, 1), &grant(B, 2, 1, 1));
    assert_eq!(denied, Err(Denied::Exhausted { cap: 10, used: 0, held: 4, held_by_others: 6 }));
}

#[test]
fn repeating_an_operation_changes_nothing() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    assert_eq!(Record::apply(Some(&record), &terms(10, 1), &grant(A, 1, 1, 6)), Ok(Applied::Already));
}

#[test]
fn spent_units_move_to_used_and_rest_goes_back() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    let back = Op { by: A, number: 2, after: 1, spent: 4, kind: OpKind::Return { units: 2, last: false } };
    let record = changed(Some(&record), 10, back);
    assert_eq!((record.used, record.held(), record.free()), (4, 0, 6));
    let too_much =
        Op { by: A, number: 3, after: 2, spent: 0, kind: OpKind::Return { units: 1, last: false } };
    assert_eq!(Record::apply(Some(&record), &terms(10, 1), &too_much), Err(Denied::Inconsistent));
    assert_eq!(
        Record::apply(None, &terms(10, 1), &back),
        Ok(Applied::Dropped),
        "a period that is gone stays gone"
    );
}

#[test]
fn caps_change_only_forward() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    let lowered = Record::apply(Some(&record), &terms(4, 2), &grant(A, 2, 1, 1));
    assert!(matches!(lowered, Err(Denied::Exhausted { cap: 4, .. })));
    let Ok(Applied::Changed(raised)) = Record::apply(Some(&record), &terms(20, 2), &grant(B, 1, 1, 20))
    else {
        panic!()
    };
    assert_eq!((raised.cap, raised.held()), (20, 20));
    assert_eq!(Record::apply(Some(&raised), &terms(10, 1), &grant(A, 2, 1, 1)), Err(Denied::OldPolicy));
}

#[test]
fn another_ledger_is_noticed() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    let other = Terms { ledger_id: "m", ..terms(10, 1) };
    assert_eq!(Record::apply(Some(&record), &other, &grant(A, 2, 1, 1)), Err(Denied::LedgerLost));
}

#[test]
fn a_last_return_takes_the_pod_out_of_the_record_and_may_be_repeated() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    let last = Op { by: A, number: 2, after: 1, spent: 4, kind: OpKind::Return { units: 2, last: true } };
    let gone = changed(Some(&record), 10, last);
    assert_eq!((gone.used, gone.holders.len(), gone.free()), (4, 0, 6));
    assert_eq!(Record::apply(Some(&gone), &terms(10, 1), &last), Ok(Applied::Already));
}

#[test]
fn a_return_brings_the_cap_of_newer_policy() {
    let record = changed(None, 10, grant(A, 1, 1, 6));
    let back = Op { by: A, number: 2, after: 1, spent: 0, kind: OpKind::Return { units: 6, last: false } };
    let Ok(Applied::Changed(lowered)) = Record::apply(Some(&record), &terms(3, 2), &back) else { panic!() };
    assert_eq!((lowered.cap, lowered.cap_generation), (3, 2));
    assert_eq!(Record::apply(Some(&lowered), &terms(10, 1), &grant(B, 1, 1, 6)), Err(Denied::OldPolicy));
}

#[test]
fn a_slice_that_was_forgotten_is_noticed() {
    let record = changed(None, 10, grant(A, 3, 1, 6));
    let fresh = Op { after: 0, ..grant(A, 9, 1, 1) };
    let denied = Record::apply(Some(&record), &terms(10, 1), &fresh);
    assert_eq!(denied, Err(Denied::Forgotten { last_op: 3, held: 6 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// Whatever is lost, late, repeated, forgotten or killed: see [`model`] for what holds.
    #[test]
    fn never_more_than_the_cap_is_admitted(seed in any::<u64>()) {
        let report = model::run(seed, 300);
        prop_assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
    }
}
