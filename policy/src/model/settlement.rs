//! What the model knows of packs and of time: which are stored, which may still be, which never will; what is put right in
//! the record from that; reservations.

use std::collections::{BTreeMap, BTreeSet};

use event::Incarnation;

use super::Model;
use crate::ledger::{Applied, Denied, Op, OpKind, Record};

/// Milliseconds between two steps.
const STEP_MS: i64 = 3_000;
/// Units that were used before the limit counted.
const BEFORE: u64 = 4;

#[derive(Default)]
pub(super) struct Settled {
    pub now_ms: i64,
    /// Units in packs that are stored, by the pod that charged them.
    stored: BTreeMap<Incarnation, u64>,
    /// Those of events that were stored before.
    repeats: u64,
    /// Packs whose sender waits for them no longer: they may be stored, later or never.
    afloat: Vec<(Incarnation, u64)>,
    /// Pods of which nothing is stored any more.
    fenced: BTreeSet<Incarnation>,
    dead: Vec<Incarnation>,
    /// Reservations that may be committed: units and end.
    open: Vec<(Incarnation, u64, i64)>,
}

impl Settled {
    pub fn is_fenced(&self, pod: Incarnation) -> bool {
        self.fenced.contains(&pod)
    }

    pub fn float(&mut self, pod: Incarnation, units: u64) {
        self.afloat.push((pod, units));
    }

    pub fn dead(&mut self, pod: Incarnation) {
        self.dead.push(pod);
    }

    /// Units that may still be spent by reservations.
    pub fn reserved(&self) -> u64 {
        self.open.iter().map(|(_, units, _)| units).sum()
    }
}

impl Model {
    pub(super) fn tick(&mut self) {
        self.settled.now_ms += STEP_MS;
        let now_ms = self.settled.now_ms;
        self.settled.open.retain(|(_, _, expires_ms)| now_ms < *expires_ms);
    }

    pub(super) fn land(&mut self, pod: Incarnation, units: u64) {
        *self.settled.stored.entry(pod).or_default() += units;
        if self.random.one_in(6) {
            self.settled.repeats += units;
        }
    }

    /// A pack that nobody waits for is stored after all.
    pub(super) fn land_late(&mut self) {
        if !self.settled.afloat.is_empty() {
            let at = self.random.below(self.settled.afloat.len() as u64) as usize;
            let (pod, units) = self.settled.afloat.swap_remove(at);
            self.land(pod, units);
        }
    }

    /// Packs of fenced pods that are not stored never will be.
    pub(super) fn drop_fenced(&mut self) {
        let fenced = &self.settled.fenced;
        let (gone, afloat) =
            std::mem::take(&mut self.settled.afloat).into_iter().partition(|(pod, _)| fenced.contains(pod));
        self.settled.afloat = afloat;
        let gone: Vec<(Incarnation, u64)> = gone;
        self.report.admitted -= gone.iter().map(|(_, units)| units).sum::<u64>();
    }

    /// Somebody takes a pod for dead, rightly or not, and reaps it behind the fence.
    pub(super) fn reap_one(&mut self) {
        if !self.keeps_entries {
            return;
        }
        let live = self.pods.iter().map(|pod| pod.id);
        let all: Vec<Incarnation> = self.settled.dead.iter().copied().chain(live).collect();
        let pod = all[self.random.below(all.len() as u64) as usize];
        self.reap(pod);
    }

    fn reap(&mut self, pod: Incarnation) {
        self.report.faults += 1;
        self.settled.fenced.insert(pod);
        self.drop_fenced();
        let charged = self.settled.stored.get(&pod).copied().unwrap_or(0);
        self.put(self.record.as_ref().and_then(|record| record.reap(pod, charged, i64::MAX)));
    }

    /// The end: what is used is what was stored, to the unit.
    pub(super) fn reap_all(&mut self) {
        if !self.keeps_entries {
            return;
        }
        for pod in 0..self.pods.len() {
            self.crash(pod);
        }
        for pod in self.settled.dead.clone() {
            self.reap(pod);
        }
        self.return_repeats();
        let Some(record) = &self.record else { return };
        let stored: u64 = self.settled.stored.values().sum();
        let before = record.seeded;
        let right = stored + before - self.settled.repeats;
        if record.used != right || record.pods().count() > 0 {
            self.violate(&format!("{} used, {right} stored", record.used));
        }
    }

    pub(super) fn return_repeats(&mut self) {
        let repeats = self.settled.repeats;
        self.put(self.record.as_ref().and_then(|record| record.return_repeats(repeats)));
    }

    /// What was used before the limit counted is known, perhaps not for the first time.
    pub(super) fn seed(&mut self) {
        let seeded = match &self.record {
            Some(record) => record.seed(BEFORE),
            None => Some(Record::seeded(super::LEDGER, 0, BEFORE)),
        };
        self.put(seeded);
    }

    /// What stands in the record and was admitted by no pod, less what pods admitted and the record has given back.
    pub(super) fn came_back(&self) -> (u64, u64) {
        let Some(record) = &self.record else { return (0, 0) };
        (record.repeats, record.seeded)
    }

    pub(super) fn reserve(&mut self) {
        self.ids += 1;
        let (id, units) = (Incarnation(self.ids), 1 + self.random.below(3));
        let now_ms = self.settled.now_ms;
        let expires_ms = now_ms + 20_000 + STEP_MS * self.random.below(50) as i64;
        let kind = OpKind::Grant { at_least: units, want: units, now_ms, expires_ms: Some(expires_ms) };
        let op = Op { by: id, number: 1, after: 0, spent: 0, kind };
        if let Ok(Applied::Changed(next)) = Record::apply(self.record.as_ref(), &self.newest(), &op) {
            self.put(Some(next));
            self.settled.open.push((id, units, expires_ms));
        }
    }

    /// Commits, releases or forgets a reservation; each once, whatever is asked again. A pod that is fenced answers nobody.
    pub(super) fn end_reservation(&mut self, at: usize) {
        let pod = self.pods[at].id;
        if self.settled.is_fenced(pod) {
            return;
        }
        let Some((by, units, _)) = self.settled.open.pop() else { return };
        let choice = self.random.below(4);
        let spent = 1 + self.random.below(units);
        let (spent, kind) = match choice {
            0 => return,
            1 => (0, OpKind::Return { units, last: true }),
            _ => (spent, OpKind::Commit { pod }),
        };
        let op = Op { by, number: 2, after: 1, spent, kind };
        match Record::apply(self.record.as_ref(), &self.newest(), &op) {
            Ok(Applied::Changed(next)) => self.put(Some(next)),
            other => return self.violate(&format!("a reservation that has not ended gave {other:?}")),
        }
        self.report.admitted += spent;
        // Whatever becomes of the pack, the units are used.
        if self.random.one_in(2) {
            self.land(pod, spent);
        } else {
            self.settled.float(pod, spent);
        }
        let again = Op { kind: OpKind::Commit { pod }, spent: units, ..op };
        if Record::apply(self.record.as_ref(), &self.newest(), &again) != Err(Denied::Gone) {
            self.violate("a reservation was used twice");
        }
    }

    fn newest(&self) -> crate::ledger::Terms<'static> {
        let at = self.caps.len() - 1;
        crate::ledger::Terms { cap: self.caps[at], cap_generation: at as u64 + 1, ledger_id: super::LEDGER }
    }

    fn put(&mut self, record: Option<Record>) {
        if record.is_some() {
            self.before = self.record.take().map(|record| (record, self.revision));
            self.revision += 1;
            self.record = record;
        }
    }
}
