//! A model of pods, a store and everything that goes wrong between them, around the very transitions that pods run.
//!
//! After every step:
//! - what was admitted, and what live pods may still admit, is accounted for in the record: `<= used + held`;
//! - a grant leaves `used + held <= cap`, and the cap is the newest that any operation brought;
//! - an operation that the record holds changes nothing when it is applied again.
//!
//! And at the end, when every pod was reaped, `used` is what is stored, to the unit.
//!
//! Seeded, so that a run that fails is repeated by its number.

use event::Incarnation;

use crate::attempt::{Attempt, Outcome, Step, Wrote};
use crate::ledger::{Applied, Denied, Op, OpKind, Record, Terms};
use crate::slice::Slice;

mod settlement;

use settlement::Settled;

/// Pods of the model.
const PODS: usize = 3;
const LEDGER: &str = "l";

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Units admitted.
    pub admitted: u64,
    /// Operations that changed the record.
    pub operations: u64,
    /// Pods killed, answers lost, writes that arrived late, slices forgotten.
    pub faults: u64,
    /// What did not hold, and after which step.
    pub violation: Option<String>,
}

struct Pod {
    id: Incarnation,
    slice: Slice,
    /// Units of packs under way.
    packs: Vec<u64>,
    /// Which of the caps this pod knows.
    policy: usize,
    attempt: Option<(Attempt, Op)>,
    unanswered: Option<Op>,
    remembered: Option<(Record, u64)>,
    seen: u64,
}

struct Model {
    random: Random,
    record: Option<Record>,
    revision: u64,
    before: Option<(Record, u64)>,
    /// Writes whose sender has given up on them; they may still arrive.
    late: Vec<(Record, u64, Op, u64)>,
    pods: Vec<Pod>,
    ids: u128,
    /// Numbers operations; shared by all pods, which makes them no less rising for each.
    numbers: u64,
    /// The caps that policy had, oldest first; the generation is the place.
    caps: Vec<u64>,
    settled: Settled,
    /// Entries stay when pods give back all (`Total`), so that dead pods can be reaped; otherwise they go and die with the period.
    keeps_entries: bool,
    report: Report,
}

/// Runs `steps` random steps.
pub fn run(seed: u64, steps: usize) -> Report {
    let mut model = Model {
        random: Random(seed),
        record: None,
        revision: 0,
        before: None,
        late: vec![],
        pods: vec![],
        ids: 0,
        numbers: 0,
        caps: vec![20],
        settled: Settled::default(),
        keeps_entries: seed.is_multiple_of(2),
        report: Report::default(),
    };
    model.pods = (0..PODS).map(|_| model.pod()).collect();
    for step in 0..=steps {
        if step < steps {
            model.step();
        } else {
            model.reap_all();
        }
        model.check();
        if let Some(violation) = &mut model.report.violation {
            violation.push_str(&format!(" (step {step})"));
            break;
        }
    }
    model.report
}

impl Model {
    fn pod(&mut self) -> Pod {
        self.ids += 1;
        Pod {
            id: Incarnation(self.ids),
            slice: Slice::default(),
            packs: vec![],
            policy: self.caps.len() - 1,
            attempt: None,
            unanswered: None,
            remembered: None,
            seen: 0,
        }
    }

    fn terms(&self, pod: usize) -> Terms<'static> {
        let at = self.pods[pod].policy;
        Terms { cap: self.caps[at], cap_generation: at as u64 + 1, ledger_id: LEDGER }
    }

    fn step(&mut self) {
        self.tick();
        let pod = self.random.below(PODS as u64) as usize;
        match self.random.below(50) {
            0..=7 => self.take(pod),
            8..=13 => self.settle(pod),
            14..=17 => self.begin(pod),
            18..=33 => self.drive(pod),
            34 => self.crash(pod),
            35 => self.forget(pod),
            36 => self.arrive_late(),
            37 => self.lose_all_answers(),
            38 => self.caps.push(5 + self.random.below(35)),
            39 => self.seed(),
            40 => self.reap_one(),
            41..=42 => self.land_late(),
            43 => self.return_repeats(),
            44..=45 => self.reserve(),
            46..=47 => self.end_reservation(pod),
            _ => self.pods[pod].policy = self.caps.len() - 1,
        }
    }

    fn take(&mut self, pod: usize) {
        let (units, terms) = (1 + self.random.below(4), self.terms(pod));
        if self.pods[pod].slice.take(units, &terms) {
            self.pods[pod].packs.push(units);
            self.report.admitted += units;
        }
    }

    fn settle(&mut self, pod: usize) {
        let fate = self.random.below(8);
        let Some(units) = self.pods[pod].packs.pop() else { return };
        let id = self.pods[pod].id;
        match fate {
            // The fence refuses it: somebody has taken this pod for dead, so it ends.
            _ if self.settled.is_fenced(id) => {
                self.report.admitted -= units;
                self.crash(pod);
            }
            0..=1 => {
                self.report.admitted -= units;
                self.pods[pod].slice.credit(units);
            }
            // No answer: it may be stored, later or never.
            2 => {
                self.settled.float(id, units);
                self.pods[pod].slice.settle(units);
            }
            _ => {
                self.land(id, units);
                self.pods[pod].slice.settle(units);
            }
        }
    }

    /// Begins an operation, or takes up the one whose answer was lost.
    fn begin(&mut self, at: usize) {
        let (want, choice) = (1 + self.random.below(8), self.random.below(6));
        self.numbers += 1;
        let pod = &mut self.pods[at];
        if pod.attempt.is_some() {
            return;
        }
        if let Some(op) = pod.unanswered.take() {
            pod.attempt = Some((Attempt::again(op, pod.seen), op));
            return;
        }
        let begun = match choice {
            0 => pod.slice.begin_return(pod.id, self.numbers),
            1 if !pod.slice.is_unknown() && !self.keeps_entries => {
                pod.slice.begin_last_return(pod.id, self.numbers)
            }
            _ => pod.slice.begin_grant(pod.id, self.numbers, 1, want, self.settled.now_ms),
        };
        let remembered = pod.remembered.take().filter(|_| choice != 3);
        pod.attempt = begun.map(|op| (Attempt::new(op, pod.seen, remembered), op));
    }

    /// One exchange with the store, if an operation is under way.
    fn drive(&mut self, at: usize) {
        let terms = self.terms(at);
        let Some((mut attempt, op)) = self.pods[at].attempt.take() else { return };
        match attempt.step(&terms) {
            Step::Read => {
                let stale = self.random.one_in(8).then(|| self.before.clone()).flatten();
                let now = self.record.clone().map(|record| (record, self.revision));
                attempt.read(&terms, stale.or(now));
                self.pods[at].attempt = Some((attempt, op));
            }
            Step::Write(record, revision) => self.write(at, attempt, op, record, revision),
            Step::Done(outcome) => self.finish(at, &op, outcome),
        }
    }

    fn write(&mut self, at: usize, mut attempt: Attempt, op: Op, record: Record, revision: u64) {
        let fate = self.random.below(12);
        let wrote = match fate {
            // Lost on the way there, perhaps only late; or lost on the way back.
            0 => {
                self.late.push((record.clone(), revision, op, self.terms(at).cap_generation));
                Wrote::Unknown
            }
            1 => {
                self.store(&record, revision, &op, self.terms(at).cap_generation);
                Wrote::Unknown
            }
            _ if self.store(&record, revision, &op, self.terms(at).cap_generation) => {
                Wrote::Stored(self.revision)
            }
            _ => Wrote::Conflict,
        };
        if wrote == Wrote::Unknown {
            self.report.faults += 1;
        }
        match attempt.wrote(record, wrote) {
            Some(outcome) => self.finish(at, &op, outcome),
            // A pod that has lost patience leaves the operation for later.
            None if attempt.is_unanswered() && self.random.one_in(2) => self.pods[at].unanswered = Some(op),
            None => self.pods[at].attempt = Some((attempt, op)),
        }
    }

    /// The store's compare-and-set, and what must hold of whatever it takes.
    fn store(&mut self, record: &Record, revision: u64, op: &Op, generation: u64) -> bool {
        if revision != self.revision {
            return false;
        }
        let terms =
            Terms { cap: self.caps[generation as usize - 1], cap_generation: generation, ledger_id: LEDGER };
        if matches!(op.kind, OpKind::Grant { .. }) && record.used + record.held() > record.cap {
            // An operation that became a mere report carries its first kind here; it grants nothing.
            let grew =
                self.record.as_ref().is_none_or(|old| record.used + record.held() > old.used + old.held());
            if grew {
                self.violate("a grant exceeds the cap");
            }
        }
        if record.cap_generation > 0 && record.cap != self.caps[record.cap_generation as usize - 1] {
            self.violate("the cap is not that of its generation");
        }
        if Record::apply(Some(record), &terms, op) != Ok(Applied::Already) {
            self.violate("an operation applied twice changes something");
        }
        self.before = self.record.take().map(|record| (record, self.revision));
        self.revision += 1;
        self.record = Some(record.clone());
        self.report.operations += 1;
        true
    }

    fn finish(&mut self, at: usize, op: &Op, outcome: Outcome) {
        let pod = &mut self.pods[at];
        match outcome {
            Outcome::Applied(record, revision) => {
                pod.slice.finish(op, record.as_ref());
                pod.seen = revision;
                pod.remembered = record.map(|record| (record, revision));
                if matches!(op.kind, OpKind::Return { last: true, .. }) && pod.slice.is_settled() {
                    (pod.slice, pod.remembered, pod.seen) = (Slice::default(), None, 0);
                }
            }
            Outcome::Denied(Denied::Forgotten { last_op, held }, _) => pod.slice.resume(op, last_op, held),
            Outcome::Denied(..) => pod.slice.abandon(op),
        }
    }

    fn crash(&mut self, at: usize) {
        self.report.faults += 1;
        let terms = self.terms(at);
        // What it was about to send may have been sent.
        if let Some((mut attempt, op)) = self.pods[at].attempt.take()
            && let Step::Write(record, revision) = attempt.step(&terms)
        {
            self.late.push((record, revision, op, terms.cap_generation));
        }
        for units in std::mem::take(&mut self.pods[at].packs) {
            self.settled.float(self.pods[at].id, units);
        }
        self.drop_fenced();
        self.settled.dead(self.pods[at].id);
        self.pods[at] = self.pod();
    }

    /// The slice is dropped without a return, as after a clock that was set back.
    fn forget(&mut self, at: usize) {
        let pod = &mut self.pods[at];
        if pod.attempt.is_none() && pod.unanswered.is_none() && pod.packs.is_empty() {
            self.report.faults += 1;
            (pod.slice, pod.remembered, pod.seen) = (Slice::default(), None, 0);
        }
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let at = self.random.below(self.late.len() as u64) as usize;
            // It may arrive more than once.
            let (record, revision, op, generation) =
                if self.random.one_in(4) { self.late[at].clone() } else { self.late.swap_remove(at) };
            self.report.faults += 1;
            self.store(&record, revision, &op, generation);
        }
    }

    /// The store restarts: whoever waits for an answer gets none.
    fn lose_all_answers(&mut self) {
        self.report.faults += 1;
        for at in 0..self.pods.len() {
            let terms = self.terms(at);
            let Some((mut attempt, op)) = self.pods[at].attempt.take() else { continue };
            match attempt.step(&terms) {
                Step::Write(record, revision) => {
                    if self.random.one_in(2) {
                        self.store(&record, revision, &op, terms.cap_generation);
                    }
                    self.pods[at].unanswered = Some(op);
                }
                Step::Read | Step::Done(_) if attempt.is_unanswered() => self.pods[at].unanswered = Some(op),
                Step::Read | Step::Done(_) => self.pods[at].slice.abandon(&op),
            }
        }
    }

    fn check(&mut self) {
        let accounted = self.record.as_ref().map_or(0, |record| record.used + record.held());
        // A pod behind the fence may believe what it likes: nothing of it is stored any more.
        let (fenced, able): (Vec<&Pod>, Vec<&Pod>) =
            self.pods.iter().partition(|pod| self.settled.is_fenced(pod.id));
        let free: u64 = able.iter().map(|pod| pod.slice.free()).sum();
        let never: u64 = fenced.iter().flat_map(|pod| &pod.packs).sum();
        let admitted = self.report.admitted - never + self.settled.reserved();
        let (came_back, before) = self.came_back();
        if admitted + free + before > accounted + came_back {
            self.violate(&format!(
                "{admitted} admitted, {free} free, {before} before; {accounted} accounted for, {came_back} came back"
            ));
        }
    }

    fn violate(&mut self, what: &str) {
        self.report.violation.get_or_insert_with(|| what.to_owned());
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for choosing steps.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
