//! Reservations: holders of their own in the records, beside the pods' slices. Nothing of them is kept in this pod.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::Incarnation;
use policy::attempt::Attempt;
use policy::decide::Need;
use policy::ledger::{Denied, Record, Terms};
use policy::ledger_ids::LedgerIds;
use policy::limit::Limit;
use policy::reservation::{Hold, Part, Reservation};
use policy::tenant::{QuotaKey, TenantPolicy};

use super::entry::Entry;
use super::grant::{RECALLS, REFUSED_FOR_NOW, Turn};
use super::ledger::RunError;
use super::take::{Ask, Limited, Quotas, TakeError, silent};

/// How long units that a failed reservation may hold are given back for; then they wait for its end.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// Why nothing is reserved.
#[derive(Debug)]
pub enum ReserveError {
    /// An event that needs these units would be refused now.
    Limited(Box<Limited>),
    /// The limit of this name has as many reservations as it may have.
    Crowded(String),
    /// The ledger does not answer.
    Unavailable(String),
}

/// What became of one hold of a reservation that is committed.
#[derive(Debug)]
pub enum Committed {
    /// The units are used, in this record.
    Used(Box<str>, u64),
    /// The hold is not there any more: these units must be had in another way.
    Gone(Need),
    /// The event does not concern it.
    Nothing,
}

/// A reservation's place: the tenant's policy and the ledgers that it names.
#[derive(Clone, Copy)]
pub struct Under<'a> {
    /// The policy.
    pub policy: &'a Arc<TenantPolicy>,
    /// The ledgers.
    pub ledgers: &'a LedgerIds,
}

impl Under<'_> {
    /// The limit of a record; `None` when it is not in force any more: what is held of it ends by itself.
    fn rule(&self, key: &QuotaKey) -> Option<usize> {
        self.policy.rules().iter().position(|rule| rule.id == key.rule)
    }
}

/// A reservation outlasts the seeding of a limit, and is not asked back: there is none before its end.
fn not_seeded(limit: &Limit) -> Result<(), ReserveError> {
    if limit.seeding {
        let why = format!("what limit {} has used is being counted", limit.name);
        return Err(ReserveError::Unavailable(why));
    }
    Ok(())
}

impl Quotas {
    /// Grants the units of every need to the reservation's holder: all, or none. Each hold learns the revision that has it.
    ///
    /// # Errors
    /// [`ReserveError`]: what was granted before is given back, or ends by itself.
    pub async fn reserve(
        &self,
        under: Under<'_>,
        needs: &[Need],
        reservation: &mut Reservation,
    ) -> Result<(), ReserveError> {
        for (at, need) in needs.iter().enumerate() {
            match self.reserve_one(under, need, reservation).await {
                Ok(revision) => reservation.holds[at].revision = revision,
                Err(error) => {
                    reservation.holds.truncate(at + 1);
                    let released = self.release(under, reservation);
                    if tokio::time::timeout(RELEASE_WITHIN, released).await.is_err() {
                        tracing::debug!(holder = %reservation.holder, "units wait for the end of a reservation");
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn reserve_one(
        &self,
        under: Under<'_>,
        need: &Need,
        reservation: &Reservation,
    ) -> Result<u64, ReserveError> {
        let unavailable = |error| match error {
            TakeError::Limited(limited) => ReserveError::Limited(limited),
            TakeError::PeriodEnded => ReserveError::Unavailable("the period ended".to_owned()),
            TakeError::Unavailable(why) => ReserveError::Unavailable(why),
        };
        let limit = &under.policy.rules()[need.rule].limit;
        not_seeded(limit)?;
        let entry = self.entry(under.policy, under.ledgers, need).map_err(unavailable)?;
        if !self.ledger.answers(&entry).await {
            return Err(unavailable(silent()));
        }
        self.floors.check(entry.key.rule, limit.cap_generation).map_err(unavailable)?;
        let terms = terms(limit, &entry);
        let ask = Ask { limit, terms, period: need.period, units: need.units };
        let mut recalls = 0;
        loop {
            let standing =
                entry.state.lock().refusal(need.units, limit.cap_generation, Instant::now()).cloned();
            if let Some(limited) = standing {
                return Err(ReserveError::Limited(Box::new(limited)));
            }
            let asked = Instant::now();
            let (used, others, record) = match self.hold(&entry, &terms, need, reservation).await {
                Ok((record, revision)) => {
                    self.reserved(&entry, record, reservation.holder, need.units)?;
                    return Ok(revision);
                }
                Err(RunError::Denied(Denied::Exhausted { used, held_by_others, .. }, record)) => {
                    (used.saturating_add(held_by_others), held_by_others, record)
                }
                Err(RunError::Denied(Denied::Crowded, _)) => {
                    return Err(ReserveError::Crowded(limit.name.clone()));
                }
                Err(RunError::Denied(denied, _)) => {
                    return Err(ReserveError::Unavailable(denied.to_string()));
                }
                Err(RunError::NotApplied(why) | RunError::Unanswered(why)) => {
                    return Err(ReserveError::Unavailable(why));
                }
            };
            let ours = record.as_ref().is_some_and(|record| record.held_by(self.pod.incarnation) > 0);
            match self.exhausted(&entry, &ask, used, others, record).map_err(unavailable)? {
                Turn::Short(_, holders) if recalls < RECALLS => {
                    recalls += 1;
                    if ours {
                        self.give_back(&entry).await;
                    }
                    self.recall(&entry, &holders, asked).await;
                }
                Turn::Short(limited, _) => {
                    let until = Instant::now() + REFUSED_FOR_NOW;
                    entry.state.lock().refuse(limited.clone(), limit.cap_generation, until);
                    return Err(ReserveError::Limited(Box::new(limited)));
                }
                Turn::Taken | Turn::Again => {}
            }
        }
    }

    /// One grant to the reservation. One operation at a time on a key, as with slices: a pod does not compete with itself.
    async fn hold(
        &self,
        entry: &Entry,
        terms: &Terms<'_>,
        need: &Need,
        reservation: &Reservation,
    ) -> Result<(Option<Record>, u64), RunError> {
        let mut op = entry.op.lock().await;
        let hold = Hold { key: need.key, units: need.units, revision: 0 };
        let grant = hold.grant(reservation.holder, self.clock.now_ms(), reservation.expires_ms);
        let remembered = op.remembered.take().map(|known| *known);
        let (record, revision) = self.ledger.run(entry, terms, Attempt::new(grant, 0, remembered)).await?;
        op.remembered = record.clone().map(|record| Box::new((record, revision)));
        Ok((record, revision))
    }

    /// Whether the record holds what was asked for: an operation whose answer was lost may have been replaced by one that asks
    /// for nothing.
    fn reserved(
        &self,
        entry: &Entry,
        record: Option<Record>,
        holder: Incarnation,
        units: u64,
    ) -> Result<(), ReserveError> {
        let held = record.as_ref().map_or(0, |record| record.held_by(holder));
        if let Some(record) = record {
            entry.state.lock().left = record.free();
        }
        if held == units {
            self.metrics.count_ledger("reserve", "ok");
            return Ok(());
        }
        Err(ReserveError::Unavailable("the ledger gave no definite answer".to_owned()))
    }

    /// Uses what `part` covers of one hold and gives back the rest.
    ///
    /// # Errors
    /// Why there was no answer: nobody knows whether the units are used.
    pub async fn commit(
        &self,
        under: Under<'_>,
        holder: Incarnation,
        part: &Part,
    ) -> Result<Committed, String> {
        let Some(rule) = under.rule(&part.hold.key) else { return Ok(Committed::Nothing) };
        let entry = self.place(under, rule, &part.hold.key)?;
        let spent = part.covers.map_or(0, |need| need.units);
        let op = part.hold.commit(holder, spent, self.pod.incarnation);
        let terms = terms(&under.policy.rules()[rule].limit, &entry);
        match (self.ledger.run(&entry, &terms, Attempt::new(op, part.hold.revision, None)).await, part.covers)
        {
            (Ok(_), Some(need)) => {
                self.metrics.count_ledger("commit", "ok");
                Ok(Committed::Used(entry.record_key.clone(), need.units))
            }
            (Ok(_) | Err(RunError::Denied(Denied::Gone, _)), None) => Ok(Committed::Nothing),
            (Err(RunError::Denied(Denied::Gone, _)), Some(need)) => {
                self.metrics.count_ledger("commit", "denied");
                Ok(Committed::Gone(need))
            }
            (Err(RunError::Denied(denied, _)), _) => Err(denied.to_string()),
            (Err(RunError::NotApplied(why) | RunError::Unanswered(why)), _) => Err(why),
        }
    }

    /// Gives everything back; what has come back before stays so.
    ///
    /// # Errors
    /// Why there was no answer: the rest comes back at the reservation's end.
    pub async fn release(&self, under: Under<'_>, reservation: &Reservation) -> Result<(), String> {
        let mut failed = None;
        for hold in &reservation.holds {
            if let Err(why) = self.release_one(under, reservation.holder, hold).await {
                failed = Some(why);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn release_one(&self, under: Under<'_>, holder: Incarnation, hold: &Hold) -> Result<(), String> {
        let Some(rule) = under.rule(&hold.key) else { return Ok(()) };
        let entry = self.place(under, rule, &hold.key)?;
        let terms = terms(&under.policy.rules()[rule].limit, &entry);
        // An operation that was replaced holds nothing, and its entry goes all the same.
        for units in [hold.units, 0] {
            let op = Hold::release(holder, units);
            match self.ledger.run(&entry, &terms, Attempt::new(op, hold.revision, None)).await {
                Ok(_) | Err(RunError::Denied(Denied::Gone | Denied::LedgerLost, _)) => return Ok(()),
                Err(RunError::Denied(Denied::Inconsistent, _)) if units > 0 => {}
                Err(RunError::Denied(denied, _)) => return Err(denied.to_string()),
                Err(RunError::NotApplied(why) | RunError::Unanswered(why)) => return Err(why),
            }
        }
        Ok(())
    }

    /// The record of a hold, whose period may be over: not one of those that this pod leases slices of.
    fn place(&self, under: Under<'_>, rule: usize, key: &QuotaKey) -> Result<Entry, String> {
        let limit = &under.policy.rules()[rule].limit;
        let bucket = (limit.window, key.shard());
        let ledger_id = under.ledgers.get(bucket.0, bucket.1).ok_or("the policy does not name its ledger")?;
        let record_key = key.record_key(&under.policy.snapshot().lineage, limit);
        let period = limit.window.period(key.period_start_ms, under.policy.zone());
        Ok(Entry::new(*key, record_key, bucket, ledger_id.clone(), period))
    }
}

fn terms<'a>(limit: &Limit, entry: &'a Entry) -> Terms<'a> {
    Terms { cap: limit.cap(), cap_generation: limit.cap_generation, ledger_id: &entry.ledger_id }
}
