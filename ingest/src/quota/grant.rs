//! Asking the ledger for units: one operation a key at a time, and the answer is spent before anybody else sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::Incarnation;
use policy::attempt::Attempt;
use policy::ledger::{Denied, Op, Record, Terms};
use policy::slice::{Slice, grant_size};
use policy::window::{Window, remaining_ms};

use super::entry::{Entry, OpState, Take};
use super::ledger::{RunError, gave_up};
use super::take::{Ask, Limited, Quotas, TakeError, first_rate};

/// Recalls for one event before it is refused for now.
pub(super) const RECALLS: usize = 2;
/// Operations for one event before it is answered 503: each has failed for another reason.
const OPERATIONS: usize = 6;
/// `Retry-After` of a refusal that is not final: units held elsewhere may come back.
const NOT_FINAL_RETRY_MS: u64 = 1_000;
/// How long a final refusal is answered without asking the ledger again.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How long one that is not final is.
pub(super) const REFUSED_FOR_NOW: Duration = Duration::from_millis(100);

/// What one turn at the ledger came to.
pub(super) enum Turn {
    Taken,
    /// The operation had another effect than the one wished for: ask again.
    Again,
    /// Units are held elsewhere.
    Short(Limited, Vec<Incarnation>),
}

impl Quotas {
    /// Takes units that the slice does not have: grants, and recalls what others hold before the first refusal.
    pub(super) async fn acquire(&self, entry: &Arc<Entry>, ask: &Ask<'_>) -> Result<(), TakeError> {
        let _waiting = Waiting::new(entry, ask.units);
        let mut recalls = 0;
        for _ in 0..OPERATIONS {
            let asked = Instant::now();
            let turn = {
                let mut op = entry.op.lock().await;
                self.turn(entry, &mut op, ask).await
            };
            // A slice is spent in its own period only, and the answer may have come after its end.
            if !ask.period.contains(self.clock.now_ms()) {
                if matches!(turn, Ok(Turn::Taken)) {
                    entry.state.lock().slice.credit(ask.units);
                }
                return Err(TakeError::PeriodEnded);
            }
            match turn? {
                Turn::Taken => return Ok(()),
                Turn::Again => {}
                Turn::Short(limited, _) if recalls == RECALLS => {
                    let until = Instant::now() + REFUSED_FOR_NOW;
                    entry.state.lock().refuse(limited.clone(), ask.limit.cap_generation, until);
                    return Err(TakeError::Limited(Box::new(limited)));
                }
                Turn::Short(_, holders) => {
                    recalls += 1;
                    self.recall(entry, &holders, asked).await;
                }
            }
        }
        Err(TakeError::Unavailable("the ledger gave no definite answer".to_owned()))
    }

    /// Asks for more although some are left; whether any came.
    pub(super) async fn top_up(&self, entry: &Entry, ask: &Ask<'_>) -> bool {
        let mut op = entry.op.lock().await;
        if self.prepare(entry, &mut op, &ask.terms).await.is_err() {
            return false;
        }
        matches!(self.grant(entry, &mut op, ask).await, Ok(None))
    }

    async fn turn(&self, entry: &Entry, op: &mut OpState, ask: &Ask<'_>) -> Result<Turn, TakeError> {
        // Somebody else's grant may have been enough, or their refusal may stand.
        if let Some(turn) = self.spend(entry, ask)? {
            return Ok(turn);
        }
        self.floors.check(entry.key.rule, ask.limit.cap_generation)?;
        self.prepare(entry, op, &ask.terms).await?;
        if let Some(turn) = self.grant(entry, op, ask).await? {
            return Ok(turn);
        }
        Ok(self.spend(entry, ask)?.unwrap_or(Turn::Again))
    }

    fn spend(&self, entry: &Entry, ask: &Ask<'_>) -> Result<Option<Turn>, TakeError> {
        let (mut state, now) = (entry.state.lock(), Instant::now());
        match state.take(ask.units, &ask.terms, now) {
            Take::Taken => return Ok(Some(Turn::Taken)),
            Take::Low => {
                // The next one to come here asks for more.
                state.refilled(true);
                return Ok(Some(Turn::Taken));
            }
            Take::Short => {}
        }
        match state.refusal(ask.units, ask.limit.cap_generation, now) {
            Some(limited) => Err(TakeError::Limited(Box::new(limited.clone()))),
            None => Ok(None),
        }
    }

    /// Settles an operation whose answer was lost, and gives back units of a cap that was lowered: both before anything else.
    pub(super) async fn prepare(
        &self,
        entry: &Entry,
        op: &mut OpState,
        terms: &Terms<'_>,
    ) -> Result<(), TakeError> {
        if let Some(unanswered) = op.unanswered.take() {
            op.remembered = None;
            self.run(entry, op, terms, *unanswered, Attempt::again(*unanswered, op.seen)).await?;
        }
        let outdated = {
            let mut state = entry.state.lock();
            let number = self.next_operation();
            let outdated = state.slice.is_outdated(terms);
            outdated.then(|| state.slice.begin_return(self.pod.incarnation, number)).flatten()
        };
        match outdated {
            Some(return_op) => self.give(entry, op, terms, return_op).await,
            None => Ok(()),
        }
    }

    /// One grant; `None` when the slice has what came of it.
    pub(super) async fn grant(
        &self,
        entry: &Entry,
        op: &mut OpState,
        ask: &Ask<'_>,
    ) -> Result<Option<Turn>, TakeError> {
        let now_ms = self.clock.now_ms();
        let begun = {
            let mut state = entry.state.lock();
            let known = op.remembered.as_ref();
            let remaining = known.map_or(ask.limit.cap(), |known| known.0.free());
            let rate = state.units_per_second(Instant::now());
            let rate = if known.is_none() { first_rate(ask.limit.per, ask.limit.max, rate) } else { rate };
            let want = grant_size(ask.units, remaining, self.pod.live_pods(), rate).max(state.waiting);
            let number = self.next_operation();
            // What the slice has already counts: only the rest must be had for the event to fit.
            let missing = ask.units.saturating_sub(state.slice.free()).max(1);
            state.slice.begin_grant(self.pod.incarnation, number, missing, want, now_ms)
        };
        let Some(grant) = begun else {
            return Err(TakeError::Unavailable("an operation is under way".to_owned()));
        };
        let remembered = op.remembered.take().map(|known| *known);
        match self.run(entry, op, &ask.terms, grant, Attempt::new(grant, op.seen, remembered)).await? {
            None => {
                self.metrics.count_ledger("grant", "ok");
                entry.state.lock().granted();
                Ok(None)
            }
            Some((Denied::Exhausted { used, held, held_by_others, .. }, record)) => {
                self.metrics.count_ledger("grant", "denied");
                let known = used.saturating_add(held).saturating_add(held_by_others);
                self.exhausted(entry, ask, known, held_by_others, record).map(Some)
            }
            Some((Denied::Forgotten { .. } | Denied::Inconsistent, _)) => Ok(Some(Turn::Again)),
            Some((denied, _)) => Err(TakeError::Unavailable(denied.to_string())),
        }
    }

    /// Makes a return true.
    pub(super) async fn give(
        &self,
        entry: &Entry,
        op: &mut OpState,
        terms: &Terms<'_>,
        return_op: Op,
    ) -> Result<(), TakeError> {
        let remembered = op.remembered.take().map(|known| *known);
        match self.run(entry, op, terms, return_op, Attempt::new(return_op, op.seen, remembered)).await? {
            None => {
                self.metrics.count_ledger("return", "ok");
                Ok(())
            }
            Some((denied, _)) => Err(TakeError::Unavailable(denied.to_string())),
        }
    }

    /// Runs an operation and tells the slice; `Some` when it was denied.
    async fn run(
        &self,
        entry: &Entry,
        op: &mut OpState,
        terms: &Terms<'_>,
        sent: Op,
        attempt: Attempt,
    ) -> Result<Option<(Denied, Option<Box<Record>>)>, TakeError> {
        // A pod that slept through its own death must not appear in a record again.
        let ran = if self.pod.is_fenced() {
            Err(gave_up(&attempt, "this pod has lost touch with the others".to_owned()))
        } else {
            self.ledger.run(entry, terms, attempt).await
        };
        match ran {
            Ok((record, _)) if record.as_ref().is_some_and(|record| record.is_reaped(sent.by)) => {
                self.pod.declare_dead("what it held of a quota was given to others");
                Err(TakeError::Unavailable("this pod was taken for dead".to_owned()))
            }
            Ok((record, revision)) => {
                {
                    let mut state = entry.state.lock();
                    state.slice.finish(&sent, record.as_ref());
                    state.left = record.as_ref().map_or(terms.cap, Record::free);
                }
                op.seen = revision;
                op.remembered = record.map(|record| Box::new((record, revision)));
                Ok(None)
            }
            Err(RunError::Denied(denied, record)) => {
                let state = &mut *entry.state.lock();
                state.left = record.as_deref().map_or(state.left, Record::free);
                let slice = &mut state.slice;
                match denied {
                    Denied::Forgotten { last_op, held } => slice.resume(&sent, last_op, held),
                    // Nobody knows what of it is ours: it dies with the period.
                    Denied::Inconsistent => *slice = Slice::default(),
                    _ => slice.abandon(&sent),
                }
                Ok(Some((denied, record)))
            }
            Err(RunError::NotApplied(why)) => {
                self.metrics.count_ledger("any", "unknown");
                entry.state.lock().slice.abandon(&sent);
                Err(TakeError::Unavailable(why))
            }
            Err(RunError::Unanswered(why)) => {
                self.metrics.count_ledger("any", "unknown");
                op.unanswered = Some(Box::new(sent));
                Err(TakeError::Unavailable(why))
            }
        }
    }

    /// Too few units are free: final when nobody holds any that might come back.
    pub(super) fn exhausted(
        &self,
        entry: &Entry,
        ask: &Ask<'_>,
        used: u64,
        held_by_others: u64,
        record: Option<Box<Record>>,
    ) -> Result<Turn, TakeError> {
        let limited = |retry_after_ms| Limited {
            limit: ask.limit.name.clone(),
            identity: ask.limit.identity.clone(),
            max: ask.limit.max,
            used,
            units: ask.units,
            window: ask.limit.window,
            retry_after_ms,
        };
        if held_by_others > 0 {
            let us = self.pod.incarnation;
            let pods = record.iter().flat_map(|record| record.pods());
            let elsewhere = pods.filter(|(pod, holder)| *pod != us && holder.held > 0).map(|(pod, _)| pod);
            return Ok(Turn::Short(limited(Some(NOT_FINAL_RETRY_MS)), elsewhere.collect()));
        }
        let mut state = entry.state.lock();
        let (retry_after_ms, lasting) = if state.slice.pending() > 0 {
            (Some(NOT_FINAL_RETRY_MS), REFUSED_FOR_NOW)
        } else {
            // What never starts anew is worth no further try.
            let ends = ask.limit.window != Window::Total;
            (ends.then(|| remaining_ms(&ask.period, self.clock.now_ms())), REFUSED_FOR)
        };
        let limited = limited(retry_after_ms);
        state.refuse(limited.clone(), ask.limit.cap_generation, Instant::now() + lasting);
        Err(TakeError::Limited(Box::new(limited)))
    }
}

/// Units that a request waits for, as long as it waits.
pub(super) struct Waiting<'a> {
    entry: &'a Entry,
    units: u64,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(entry: &'a Entry, units: u64) -> Self {
        entry.state.lock().waiting += units;
        Self { entry, units }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.entry.state.lock().waiting -= self.units;
    }
}
