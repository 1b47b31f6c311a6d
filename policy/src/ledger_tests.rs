use super::*;
use crate::slice::Slice;
use proptest::prelude::*;

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn terms(cap: u64, cap_generation: u64) -> Terms<'static> {
    Terms { cap, cap_generation, ledger_id: "l" }
}

fn grant(by: Incarnation, number: u64, at_least: u64, want: u64) -> Op {
    Op { by, number, spent: 0, kind: OpKind::Grant { at_least, want } }
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
    let back = Op { by: A, number: 2, spent: 4, kind: OpKind::Return { units: 2 } };
    let record = changed(Some(&record), 10, back);
    assert_eq!((record.used, record.held(), record.free()), (4, 0, 6));
    let too_much = Op { by: A, number: 3, spent: 0, kind: OpKind::Return { units: 1 } };
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

/// What can happen next to a pod of the model.
#[derive(Debug, Clone)]
enum Step {
    Take {
        pod: usize,
        units: u64,
    },
    Settle {
        pod: usize,
        failed: bool,
    },
    Grant {
        pod: usize,
        want: u64,
    },
    Return {
        pod: usize,
    },
    /// The answer of the operation under way is lost; the write may or may not have happened.
    Lose {
        pod: usize,
        written: bool,
    },
    Crash {
        pod: usize,
    },
    Cap {
        max: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let pod = 0..3usize;
    prop_oneof![
        4 => (pod.clone(), 1..5u64).prop_map(|(pod, units)| Step::Take { pod, units }),
        4 => (pod.clone(), any::<bool>()).prop_map(|(pod, failed)| Step::Settle { pod, failed }),
        4 => (pod.clone(), 1..9u64).prop_map(|(pod, want)| Step::Grant { pod, want }),
        2 => pod.clone().prop_map(|pod| Step::Return { pod }),
        2 => (pod.clone(), any::<bool>()).prop_map(|(pod, written)| Step::Lose { pod, written }),
        1 => pod.prop_map(|pod| Step::Crash { pod }),
        1 => (5..40u64).prop_map(|max| Step::Cap { max }),
    ]
}

struct Pod {
    id: Incarnation,
    slice: Slice,
    taken: Vec<u64>,
    unanswered: Option<Op>,
}

struct Model {
    record: Option<Record>,
    pods: Vec<Pod>,
    next_id: u128,
    admitted: u64,
    highest_cap: u64,
    cap: (u64, u64),
}

impl Model {
    fn new() -> Self {
        let mut model =
            Self { record: None, pods: vec![], next_id: 1, admitted: 0, highest_cap: 20, cap: (20, 1) };
        for _ in 0..3 {
            let pod = model.pod();
            model.pods.push(pod);
        }
        model
    }

    fn pod(&mut self) -> Pod {
        self.next_id += 1;
        Pod { id: Incarnation(self.next_id), slice: Slice::default(), taken: vec![], unanswered: None }
    }

    /// Runs an operation against the record as the live code does: apply, compare-and-set, tell the slice.
    fn run(&mut self, pod: usize, op: Op) {
        let result = Record::apply(self.record.as_ref(), &terms(self.cap.0, self.cap.1), &op);
        let slice = &mut self.pods[pod].slice;
        match result {
            Ok(Applied::Changed(next)) => {
                slice.finish(&op, next.held_by(op.by));
                self.record = Some(next);
            }
            Ok(Applied::Already) => {
                slice.finish(&op, self.record.as_ref().map_or(0, |record| record.held_by(op.by)));
            }
            Ok(Applied::Dropped) => slice.finish(&op, 0),
            Err(_) => slice.abandon(&op),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Take { pod, units } => {
                if self.pods[pod].slice.take(units) {
                    self.pods[pod].taken.push(units);
                    // Admission is what counts, even if the publish fails later.
                    self.admitted += units;
                }
            }
            Step::Settle { pod, failed } => {
                if let Some(units) = self.pods[pod].taken.pop() {
                    if failed {
                        self.admitted -= units;
                        self.pods[pod].slice.credit(units);
                    } else {
                        self.pods[pod].slice.settle(units);
                    }
                }
            }
            Step::Grant { pod, want } => {
                let id = self.pods[pod].id;
                if let Some(op) =
                    self.pods[pod].unanswered.take().or_else(|| self.pods[pod].slice.begin_grant(id, 1, want))
                {
                    self.run(pod, op);
                }
            }
            Step::Return { pod } => {
                let id = self.pods[pod].id;
                if let Some(op) =
                    self.pods[pod].unanswered.take().or_else(|| self.pods[pod].slice.begin_return(id))
                {
                    self.run(pod, op);
                }
            }
            Step::Lose { pod, written } => {
                let id = self.pods[pod].id;
                if self.pods[pod].unanswered.is_none()
                    && let Some(op) = self.pods[pod].slice.begin_grant(id, 1, 3)
                {
                    if written
                        && let Ok(Applied::Changed(next)) =
                            Record::apply(self.record.as_ref(), &terms(self.cap.0, self.cap.1), &op)
                    {
                        self.record = Some(next);
                    }
                    self.pods[pod].unanswered = Some(op);
                }
            }
            Step::Crash { pod } => self.pods[pod] = self.pod(),
            Step::Cap { max } => {
                self.cap = (max, self.cap.1 + 1);
                self.highest_cap = self.highest_cap.max(max);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), ..ProptestConfig::default() })]

    /// Whatever is lost, repeated or killed: never more admitted than the highest cap there was, and the record
    /// always accounts for what live pods may still spend.
    #[test]
    fn never_more_than_the_cap_is_admitted(steps in proptest::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
            prop_assert!(model.admitted <= model.highest_cap, "{} > {}", model.admitted, model.highest_cap);
            for pod in &model.pods {
                let held = model.record.as_ref().map_or(0, |record| record.held_by(pod.id));
                prop_assert!(pod.slice.free() + pod.slice.pending() <= held, "a pod can spend only what the record says it holds");
            }
        }
    }
}
