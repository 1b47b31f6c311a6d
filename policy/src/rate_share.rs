//! A pod's part of one rate: what it was handed of each label, what it took, and what it will ask for.

use std::collections::BTreeMap;

use event::Incarnation;

use crate::rate::{Op, Record, ahead, length_ms};
use crate::window::Window;

/// Labels whose demand is remembered.
const HISTORY: i64 = 3;
/// Demand a window from which on a pod leases ahead; what is sparser asks when it comes.
const STEADY: u64 = 4;
/// A share is forgotten so many labels after the last that it knows of: more than clocks are ever set back.
const FORGET_AFTER: i64 = 3;
/// A lease of a longer window is for this long.
const LEASE_MS: u64 = 2_000;

/// The part of one rate in one pod.
#[derive(Debug, Clone)]
pub struct Share {
    window: Window,
    /// Labels before it are over: nothing is taken of them, because what they left was or is being reported.
    passed: i64,
    parts: BTreeMap<i64, Part>,
    unspent: BTreeMap<i64, u64>,
    wanted: BTreeMap<i64, Wanted>,
    cap_generation: u64,
    known: Option<Known>,
}

/// Units of one label.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    handed: u64,
    taken: u64,
    /// Handed out under an older policy: not spent under the newer one.
    void: u64,
}

impl Part {
    fn free(&self) -> u64 {
        self.handed.saturating_sub(self.taken.saturating_add(self.void))
    }
}

/// What events of one label asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    units: u64,
    refused: bool,
}

/// The record as the last operation left it.
#[derive(Debug, Clone)]
struct Known {
    record: Record,
    by: Incarnation,
    label: i64,
    asked_ms: i64,
}

/// What became of an attempt to take units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// They are taken.
    Taken,
    /// The label is over in this pod: decide again, for the present one.
    Passed,
    /// The ledger must be asked.
    Ask,
    /// The ledger was asked, and would hand out too few.
    Refused {
        /// Windows to wait.
        windows: u64,
    },
}

impl Share {
    /// Nothing of a rate of this window.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            passed: i64::MIN,
            parts: BTreeMap::new(),
            unspent: BTreeMap::new(),
            wanted: BTreeMap::new(),
            cap_generation: 0,
            known: None,
        }
    }

    /// Counts what an event asks for, whatever comes of it: shares follow demand.
    pub fn want(&mut self, label: i64, units: u64) {
        let wanted = self.wanted.entry(label).or_default();
        wanted.units = wanted.units.saturating_add(units);
        self.wanted.retain(|known, _| label.saturating_sub(*known) <= HISTORY);
    }

    /// Takes units of a label for an event, under the policy of `cap_generation` or a newer one.
    pub fn take(&mut self, label: i64, units: u64, cap_generation: u64, now_ms: i64) -> Take {
        if label < self.passed {
            return Take::Passed;
        }
        if self.cap_generation < cap_generation {
            self.cap_generation = cap_generation;
            self.known = None;
            self.parts.values_mut().for_each(|part| part.void = part.handed.saturating_sub(part.taken));
        }
        let part = self.parts.entry(label).or_default();
        let free = part.free();
        if free >= units {
            part.taken += units;
            return Take::Taken;
        }
        match self.refusal(label, units - free, now_ms) {
            Some(windows) => {
                self.wanted.entry(label).or_default().refused = true;
                Take::Refused { windows }
            }
            None => Take::Ask,
        }
    }

    /// The event was definitely not stored, or another limit refused it. What a label that is over got back is lost.
    pub fn credit(&mut self, label: i64, units: u64) {
        if let Some(part) = self.parts.get_mut(&label) {
            part.taken = part.taken.saturating_sub(units);
        }
    }

    /// Begins an operation for an event of `units`; whether it gets them is for [`Share::take`] to say, after
    /// [`Share::finish`]. `number` is higher than that of any operation of this pod before, on this record or another: a
    /// share may be forgotten and begun anew. An operation whose answer is lost is forgotten too: what the record says
    /// after a later one is what this pod holds.
    pub fn begin(&mut self, by: Incarnation, number: u64, label: i64, units: u64, now_ms: i64) -> Op {
        self.close(label);
        let part = self.parts.get(&label).copied().unwrap_or_default();
        let gone = part.taken.saturating_add(part.void);
        let needs = gone.saturating_add(units);
        Op {
            by,
            number,
            label,
            needs,
            wants: needs.saturating_add(self.soon(label, now_ms)),
            demand: self.demand(label),
            unspent: self.unspent.iter().map(|(label, units)| (*label, *units)).collect(),
        }
    }

    /// The operation is in the record: what it says of this pod is what this pod may spend.
    pub fn finish(&mut self, op: &Op, record: &Record, now_ms: i64) {
        for (label, _) in &op.unspent {
            self.unspent.remove(label);
        }
        for label in op.label..=op.label.saturating_add(ahead(self.window)) {
            let handed = record.share(op.by, label);
            if label >= self.passed && handed > 0 {
                self.parts.entry(label).or_default().handed = handed;
            }
        }
        let label = op.label;
        self.known = Some(Known { record: record.clone(), by: op.by, label, asked_ms: now_ms });
    }

    /// Units of a label that this pod may take without asking.
    pub fn free(&self, label: i64) -> u64 {
        self.parts.get(&label).map_or(0, Part::free)
    }

    /// Units of a label that this pod could admit, as its last operation left the record.
    pub fn remaining(&self, label: i64) -> Option<u64> {
        let known = self.known.as_ref()?;
        Some(known.record.available(known.by, label).saturating_add(self.free(label)))
    }

    /// Whether it can be forgotten, which loses nothing but a report: no clock that is set right will show a label again
    /// of which something was taken.
    pub fn is_over(&self, label: i64) -> bool {
        let before = label.saturating_sub(FORGET_AFTER);
        let labels = self.parts.keys().chain(self.wanted.keys()).chain([&self.passed]);
        labels.max().is_none_or(|last| *last < before)
    }

    /// Labels before `label` take no more: what they leave is reported with this or a later operation.
    fn close(&mut self, label: i64) {
        self.passed = self.passed.max(label);
        let open = self.parts.split_off(&self.passed);
        let over = std::mem::replace(&mut self.parts, open);
        for (label, part) in over {
            self.unspent.insert(label, part.handed.saturating_sub(part.taken));
        }
        // Reports that are older than the record remembers are not missed.
        while self.unspent.len() > 8 {
            self.unspent.pop_first();
        }
    }

    /// Units that every window needs: as much as the last two both did, or the last one if it was refused some.
    fn demand(&self, label: i64) -> u64 {
        if ahead(self.window) == 0 {
            return 0;
        }
        let of = |label: i64| self.wanted.get(&label).copied().unwrap_or_default();
        let (last, before) = (of(label - 1), of(label - 2));
        if last.refused {
            return last.units.max(before.units.min(last.units));
        }
        let both = last.units.min(before.units);
        if both >= STEADY { both } else { 0 }
    }

    /// Units that events will probably ask for before a lease ends, besides the present one.
    fn soon(&self, label: i64, now_ms: i64) -> u64 {
        let of = |label: i64| self.wanted.get(&label).map_or(0, |wanted| wanted.units);
        let length_ms = length_ms(self.window);
        if ahead(self.window) > 0 {
            return of(label).max(of(label - 1));
        }
        let elapsed_ms = now_ms.saturating_sub(label.saturating_mul(length_ms));
        let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(0).max(LEASE_MS);
        let rate = |units: u64, over_ms: u64| units.saturating_mul(LEASE_MS) / over_ms.max(1);
        rate(of(label), elapsed_ms).max(rate(of(label - 1), length_ms.unsigned_abs()))
    }

    /// Whether the record as it is known would not hand out `missing` units; the windows to wait then.
    fn refusal(&self, label: i64, missing: u64, now_ms: i64) -> Option<u64> {
        let known = self.known.as_ref()?;
        let is_covered = label >= known.label && label <= known.label.saturating_add(ahead(self.window));
        if !is_covered || known.record.available(known.by, label) >= missing {
            return None;
        }
        // Handed out is handed out; only what is saved can have grown since, by others' reports.
        let may_grow = known.record.saved(label) < known.record.burst;
        if may_grow && now_ms.saturating_sub(known.asked_ms) >= LEASE_MS as i64 {
            return None;
        }
        let units = missing.saturating_add(self.free(label));
        Some(known.record.windows_until(label, units))
    }
}
