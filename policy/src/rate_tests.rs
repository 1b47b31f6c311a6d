use super::*;
use crate::rate_share::{Share, Take};
use proptest::prelude::*;

const A: Incarnation = Incarnation(1);
const B: Incarnation = Incarnation(2);

fn terms(max: u64, burst: u64) -> Terms {
    Terms { max, burst, cap_generation: 1, from: 0, quiet_from: i64::MAX, ahead: 1 }
}

fn op(by: Incarnation, number: u64, label: i64, needs: u64) -> Op {
    Op { by, number, label, needs, wants: needs, demand: 0, unspent: vec![] }
}

fn changed(record: Option<&Record>, terms: &Terms, op: &Op) -> Record {
    match Record::apply(record, terms, op) {
        Ok(Applied::Changed(next)) => next,
        other => panic!("{op:?} gave {other:?}"),
    }
}

#[test]
fn a_window_hands_out_its_units_once() {
    let terms = terms(10, 0);
    let record = changed(None, &terms, &op(A, 1, 100, 6));
    let record = changed(Some(&record), &terms, &op(B, 1, 100, 4));
    assert_eq!((record.share(A, 100), record.share(B, 100), record.handed(100)), (6, 4, 10));
    let more = changed(Some(&record), &terms, &op(B, 2, 100, 5));
    assert_eq!(more.share(B, 100), 4, "nothing is left of this window");
    let next = changed(Some(&more), &terms, &op(B, 3, 101, 5));
    assert_eq!(next.share(B, 101), 5, "the next one is whole");
}

#[test]
fn quiet_windows_are_saved_up_to_the_burst_and_spent_once() {
    let terms = terms(10, 15);
    let record = changed(None, &terms, &op(A, 1, 100, 10));
    assert_eq!(changed(Some(&record), &terms, &op(A, 2, 101, 11)).share(A, 101), 0, "nothing was left over");
    let record = changed(Some(&record), &terms, &op(A, 2, 104, 25));
    assert_eq!(record.share(A, 104), 25, "three quiet windows left 30, of which 15 are kept");
    assert_eq!(changed(Some(&record), &terms, &op(A, 3, 104, 26)).share(A, 104), 25);
    assert_eq!(changed(Some(&record), &terms, &op(A, 3, 105, 11)).share(A, 105), 0, "they are spent");
}

#[test]
fn what_a_pod_reports_as_unspent_is_saved_as_if_it_had_never_been_handed_out() {
    let terms = terms(10, 10);
    let record = changed(None, &terms, &op(A, 1, 100, 10));
    let record = changed(Some(&record), &terms, &op(B, 1, 102, 20));
    assert_eq!(record.share(B, 102), 20, "window 101 was quiet");
    let late = Op { unspent: vec![(100, 10)], ..op(A, 2, 103, 11) };
    let record = changed(Some(&record), &terms, &late);
    assert_eq!(
        record.share(A, 103),
        0,
        "window 100 and 101 together would not have saved more than the burst"
    );
    let repeated = changed(Some(&record), &terms, &Op { number: 3, ..late });
    assert_eq!((repeated.saved(103), repeated.handed(100)), (record.saved(103), 0), "a report counts once");
}

#[test]
fn a_rate_that_nobody_used_begins_with_what_its_quiet_windows_saved() {
    let quiet = |from| Record::new(&Terms { quiet_from: from, ..terms(10, 25) }, 100).saved(100);
    assert_eq!([quiet(i64::MAX), quiet(100), quiet(98), quiet(0)], [0, 0, 20, 25]);
}

#[test]
fn applying_an_operation_twice_changes_nothing() {
    let terms = terms(10, 0);
    let record = changed(None, &terms, &op(A, 1, 100, 6));
    assert_eq!(Record::apply(Some(&record), &terms, &op(A, 1, 100, 6)), Ok(Applied::Already));
}

#[test]
fn labels_that_a_lost_bucket_may_have_handed_out_are_not_handed_out_again() {
    let terms = Terms { from: 103, ..terms(10, 0) };
    assert_eq!(Record::apply(None, &terms, &op(A, 1, 102, 1)), Err(Denied::Settling));
    assert!(Record::apply(None, &terms, &op(A, 1, 103, 1)).is_ok());
}

#[test]
fn rates_change_only_forward_and_what_was_saved_stays_earned() {
    let old = Terms { quiet_from: 0, ..terms(10, 5) };
    let record = changed(None, &old, &op(A, 1, 100, 1));
    let new = Terms { cap_generation: 2, ..terms(1_000, 1_000) };
    let raised = changed(Some(&record), &new, &op(B, 1, 104, 1));
    assert_eq!((raised.max, raised.saved(104)), (1_000, 5), "quiet windows before were worth ten each");
    assert_eq!(Record::apply(Some(&raised), &old, &op(A, 2, 104, 1)), Err(Denied::OldPolicy));
    let lowered = changed(Some(&raised), &Terms { cap_generation: 3, ..terms(3, 0) }, &op(B, 2, 104, 4));
    assert_eq!(lowered.share(B, 104), 1);
}

#[test]
fn busy_pods_share_by_demand_and_together_have_exactly_max() {
    let terms = terms(100, 0);
    let mut record = None;
    for round in 0..2 {
        for (pod, demand) in [(1, 300), (2, 200), (3, 1), (4, 99)] {
            let label = 100 + 2 * round;
            let ask = Op { demand, ..op(Incarnation(pod), 1 + round as u64, label, 1) };
            record = Some(changed(record.as_ref(), &terms, &ask));
        }
    }
    let record = record.unwrap();
    let shares = [1, 2, 3, 4].map(|pod| record.share(Incarnation(pod), 102));
    assert_eq!(shares.iter().sum::<u64>(), 100);
    assert_eq!(shares, [50, 33, 1, 16], "and the smallest has one");
    assert_eq!(record.available(A, 102), 0);
}

#[test]
fn refusals_say_when_units_exist() {
    let record = Record::new(&terms(10, 25), 100);
    let windows = |units| record.windows_until(100, units);
    // After this quiet window 10 are saved: 20 units wait for it, 21 for one more.
    assert_eq!(
        [windows(1), windows(20), windows(21), windows(30), windows(31), windows(36)],
        [1, 1, 2, 2, 3, 1]
    );
}

#[test]
fn a_label_that_is_over_takes_and_credits_nothing() {
    let (terms, mut share) = (terms(10, 10), Share::new(Window::Second));
    let first = share.begin(A, 1, 100, 5, 100_000);
    let record = changed(None, &terms, &first);
    share.finish(&first, &record, 100_000);
    assert_eq!(share.take(100, 5, 0, 100_000), Take::Taken);
    let second = share.begin(A, 2, 101, 1, 101_000);
    assert_eq!(second.unspent, [(100, 0)]);
    share.credit(100, 5);
    assert_eq!(share.take(100, 1, 0, 101_000), Take::Passed);
    assert_eq!(
        share.begin(A, 2, 101, 1, 101_000).unspent,
        [(100, 0)],
        "not spent after all, but not said twice"
    );
}

/// What can happen next in the model.
#[derive(Debug, Clone)]
enum Step {
    /// True time goes on.
    Pass {
        ms: i64,
    },
    /// An event at a pod: it asks when it must. `lost`: the answer is, and whether the write happened.
    Event {
        pod: usize,
        units: u64,
        lost: Option<bool>,
    },
    /// A pod read its clock, and was paused before it took.
    Paused {
        pod: usize,
        units: u64,
        behind: i64,
    },
    /// The last event's pack was definitely not stored.
    Failed {
        pod: usize,
    },
    Crash {
        pod: usize,
    },
    /// The pod forgets its share of the rate, and begins it anew.
    Forget {
        pod: usize,
    },
    /// The clock of a pod is set.
    Clock {
        pod: usize,
        off_ms: i64,
    },
    /// The bucket is lost with its records, and made anew.
    Lost,
    /// The record expires, which it does only after it was not written for long.
    Expired,
}

fn step() -> impl Strategy<Value = Step> {
    let pod = 0..3usize;
    let units = prop_oneof![4 => 1..4u64, 1 => 4..30u64];
    let lost = prop_oneof![6 => Just(None), 1 => any::<bool>().prop_map(Some)];
    prop_oneof![
        6 => (0..700i64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..9_000i64).prop_map(|ms| Step::Pass { ms }),
        24 => (pod.clone(), units.clone(), lost).prop_map(|(pod, units, lost)| Step::Event { pod, units, lost }),
        3 => (pod.clone(), units, 0..3i64).prop_map(|(pod, units, behind)| Step::Paused { pod, units, behind }),
        3 => pod.clone().prop_map(|pod| Step::Failed { pod }),
        1 => pod.clone().prop_map(|pod| Step::Crash { pod }),
        1 => pod.clone().prop_map(|pod| Step::Forget { pod }),
        1 => (pod, -1_000..1_000i64).prop_map(|(pod, off_ms)| Step::Clock { pod, off_ms }),
        1 => Just(Step::Lost),
        1 => Just(Step::Expired),
    ]
}

struct Pod {
    id: Incarnation,
    share: Share,
    off_ms: i64,
    taken: Vec<(i64, u64)>,
}

struct Model {
    window: Window,
    terms: Terms,
    record: Option<Record>,
    written_ms: i64,
    now_ms: i64,
    pods: Vec<Pod>,
    next_id: u128,
    number: u64,
    admitted: BTreeMap<i64, u64>,
    /// Label of the first operation: an exact token bucket saves from there on.
    began: Option<i64>,
    operations: u64,
}

impl Model {
    fn new(window: Window, max: u64, burst: u64, pods: usize) -> Self {
        let mut model = Self {
            window,
            terms: Terms { ahead: ahead(window), ..terms(max, burst) },
            record: None,
            written_ms: 0,
            now_ms: 1_000_000_500,
            pods: vec![],
            next_id: 0,
            number: 0,
            admitted: BTreeMap::new(),
            began: None,
            operations: 0,
        };
        for _ in 0..pods {
            let pod = model.pod();
            model.pods.push(pod);
        }
        model
    }

    fn pod(&mut self) -> Pod {
        self.next_id += 1;
        Pod { id: Incarnation(self.next_id), share: Share::new(self.window), off_ms: 0, taken: vec![] }
    }

    /// Applies an operation to the record, as compare-and-set does; whether it is in the record then.
    fn write(&mut self, op: &Op) -> bool {
        self.operations += 1;
        self.began.get_or_insert(op.label);
        match Record::apply(self.record.as_ref(), &self.terms, op) {
            Ok(Applied::Changed(next)) => {
                let again = Record::apply(Some(&next), &self.terms, op);
                assert_eq!(again, Ok(Applied::Already), "applying an operation twice changes nothing");
                (self.record, self.written_ms) = (Some(next), self.now_ms);
                true
            }
            Ok(Applied::Already) => true,
            Err(_) => false,
        }
    }

    /// An event at a pod, as the live code does it: take, else ask once and take again. `behind`: the pod read its clock
    /// so many labels ago. `lost`: the answer is, and whether the write happened all the same.
    fn event(&mut self, at: usize, units: u64, behind: i64, lost: Option<bool>) -> Take {
        let now_ms = self.now_ms + self.pods[at].off_ms;
        let label = label_of(self.window, now_ms) - behind;
        self.pods[at].share.want(label, units);
        let mut take = self.pods[at].share.take(label, units, 1, now_ms);
        if take == Take::Ask {
            self.number += 1;
            let pod = &mut self.pods[at];
            let op = pod.share.begin(pod.id, self.number, label, units, now_ms);
            if (lost != Some(false) && !self.write(&op)) || lost.is_some() {
                return Take::Ask;
            }
            let (record, pod) = (self.record.clone().unwrap(), &mut self.pods[at]);
            pod.share.finish(&op, &record, now_ms);
            take = pod.share.take(label, units, 1, now_ms);
        }
        if take == Take::Taken {
            *self.admitted.entry(label).or_default() += units;
            self.pods[at].taken.push((label, units));
        }
        take
    }

    fn step(&mut self, step: &Step) {
        let next_safe = |ms| untouched_after(self.window, ms);
        match *step {
            Step::Pass { ms } => self.now_ms += ms * length_ms(self.window) / 1_000,
            Step::Event { pod, units, lost } => {
                self.event(pod, units, 0, lost);
            }
            Step::Paused { pod, units, behind } => {
                self.event(pod, units, behind, None);
            }
            Step::Failed { pod } => {
                if let Some((label, units)) = self.pods[pod].taken.pop() {
                    *self.admitted.get_mut(&label).unwrap() -= units;
                    self.pods[pod].share.credit(label, units);
                }
            }
            Step::Crash { pod } => self.pods[pod] = self.pod(),
            Step::Forget { pod } => {
                let label = label_of(self.window, self.now_ms + self.pods[pod].off_ms);
                if self.pods[pod].share.is_over(label) {
                    self.pods[pod].share = Share::new(self.window);
                }
            }
            Step::Clock { pod, off_ms } => self.pods[pod].off_ms = off_ms,
            Step::Lost => {
                self.terms.from = next_safe(self.now_ms);
                (self.record, self.terms.quiet_from) = (None, self.terms.from);
                self.began.get_or_insert(self.terms.from);
            }
            Step::Expired => {
                if self.record.is_some() && self.now_ms - self.written_ms > kept_ms(self.window) {
                    self.terms.quiet_from = next_safe(self.written_ms).max(self.terms.from);
                    self.record = None;
                }
            }
        }
    }

    /// The promise: a token bucket that knows everything would have admitted this as well. So every window is within
    /// `max + burst`, and any `n` windows in a row within `n * max + burst`.
    fn holds(&self) -> Result<(), String> {
        let (max, burst) = (self.terms.max, self.terms.burst);
        let (Some(first), Some(last)) = (self.began, self.admitted.keys().next_back()) else { return Ok(()) };
        let mut saved = 0;
        for label in first..=*last {
            let admitted = self.admitted.get(&label).copied().unwrap_or(0);
            if admitted > max + saved {
                return Err(format!("label {label}: {admitted} admitted of {max} and {saved} saved"));
            }
            saved = (saved + max - admitted).min(burst);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, repeated, paused, killed or wrongly timed.
    #[test]
    fn no_window_admits_more_than_an_exact_token_bucket_would(
        minutes in any::<bool>(),
        max in 0..12u64,
        burst in 0..30u64,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let window = if minutes { Window::Minute } else { Window::Second };
        let mut model = Model::new(window, max, burst, 3);
        for step in &steps {
            if matches!(step, Step::Failed { .. }) {
                prop_assert_eq!(model.holds(), Ok(()), "before units came back");
            }
            model.step(step);
        }
        prop_assert_eq!(model.holds(), Ok(()));
    }
}

/// Deterministic pseudo-randomness for the simulation.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What eight pods did in twenty windows, under a load that is skewed to the first ones.
struct Outcome {
    offered: u64,
    admitted: Vec<u64>,
    operations: u64,
    /// Of the last fifteen windows, when demand is known.
    steady_operations: u64,
}

fn simulate(window: Window, max: u64, burst: u64, events_per_second: u64) -> Outcome {
    let mut model = Model::new(window, max, burst, 8);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    model.now_ms = 1_000_020_000;
    let begin = label_of(window, model.now_ms);
    let (mut thousandths, mut offered, mut before) = (0, 0, 0);
    while model.now_ms < (begin + 20) * length_ms(window) {
        thousandths += events_per_second;
        while thousandths >= 1_000 {
            thousandths -= 1_000;
            offered += 1;
            model.event(dice.below(8).min(dice.below(8)) as usize, 1, 0, None);
        }
        model.now_ms += 1;
        if label_of(window, model.now_ms) < begin + 5 {
            before = model.operations;
        }
    }
    model.holds().unwrap();
    let admitted =
        (begin..begin + 20).map(|label| model.admitted.get(&label).copied().unwrap_or(0)).collect();
    Outcome { offered, admitted, operations: model.operations, steady_operations: model.operations - before }
}

/// What a rate costs, and what it lets through: `cargo test -p policy eight_pods -- --nocapture`.
#[test]
fn eight_pods_admit_nearly_all_of_a_rate_for_less_than_one_operation_a_pod_and_second() {
    for (name, window, max, burst, events_per_second) in [
        ("below the rate", Window::Second, 5_000, 0, 2_000),
        ("at the rate", Window::Second, 2_000, 0, 2_000),
        ("twice the rate", Window::Second, 1_000, 0, 2_000),
        ("twice the rate, with burst", Window::Second, 1_000, 2_000, 2_000),
        ("far above the rate", Window::Second, 50, 0, 2_000),
        ("at the platform's peak", Window::Second, 6_600, 0, 6_600),
        ("below the rate a minute", Window::Minute, 60_000, 0, 500),
        ("twice the rate a minute", Window::Minute, 15_000, 5_000, 500),
    ] {
        let outcome = simulate(window, max, burst, events_per_second);
        let per_thousand = |operations: u64, windows: u64| {
            (operations * 1_000) as f64 / (outcome.offered * windows / 20) as f64
        };
        let seconds = 15 * length_ms(window).unsigned_abs() / 1_000;
        let per_pod_second = outcome.steady_operations as f64 / (8 * seconds) as f64;
        let (admitted, possible) = (outcome.admitted.iter().sum::<u64>(), outcome.offered.min(max * 20));
        println!(
            "{name} ({max} a {window:?}, burst {burst}, {events_per_second} events/s): operations per 1,000 events \
             {:.2}, when steady {:.2}, that is {per_pod_second:.2} a pod and second; {:.1} % admitted of what was \
             possible: {:?}",
            per_thousand(outcome.operations, 20),
            per_thousand(outcome.steady_operations, 15),
            (admitted * 100) as f64 / possible as f64,
            outcome.admitted
        );
        assert!(per_pod_second < 1.0, "{name}");
        assert!(admitted * 100 >= possible * 95, "{name}: {admitted} of {possible}");
    }
}
