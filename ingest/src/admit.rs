//! From a request's bytes to acknowledged events: parse, decide, take units, hand to the lane, settle.

mod admission;
mod reservations;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use event::pack::PackedEvent;
use event::pseudonym::PseudonymKey;
use event::violation::{Effect, RuleKind};
use event::wire::{self, BodyError, Invalid, UsageEvent};
use event::{EventHash, UserKey};
use policy::access::AccessDenial;
use policy::decide::{Cause, Facts, Need, Permit, decide};
use policy::tenant::Periods;

use self::admission::{ACCESS_DENIED, LIMIT_EXCEEDED, used_up};
pub use admission::{Admission, Rejected, Warning, not_admitted};
pub use reservations::{Reserved, commit, release, reserve};

use crate::App;
use crate::http::{Caller, Mode};
use crate::lane::{Outcome, Submitted};
use crate::problem::Problem;
use crate::quota::{Limited, Met, TakeError, Taken};
use crate::snapshot::Policies;
use crate::violations::Denial;

/// How often an event is decided anew because a period ended while its units were being granted.
const DECISIONS: usize = 3;

/// An event that policy has judged, before its limits are asked.
struct Judged<'a> {
    index: usize,
    event: UsageEvent<'a>,
    hash: EventHash,
    user: UserKey,
    permit: Result<Permit, Refused>,
}

/// An event that has its units.
struct Admitted<'a> {
    event: UsageEvent<'a>,
    hash: EventHash,
    user: UserKey,
    taken: Taken,
    /// The time of receipt that its units were taken for, Unix milliseconds.
    received_ms: i64,
}

/// Admits a request's events.
pub async fn admit(
    app: &App,
    policies: &Arc<Policies>,
    caller: &Caller,
    mode: &Mode,
    body: &Bytes,
) -> Result<Admission, Problem> {
    let mut admission = Admission::default();
    let events = parse(mode, body)?;
    let snapshot = caller.policy.snapshot();
    let key = app.pseudonym_key(snapshot).await?;
    let mut decision = Decision::new(app, policies, caller);
    let judged_at_ms = decision.received_ms;
    let mut judged = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        match event {
            Ok(event) => {
                let (hash, user) = identify(&key, &event, &caller.key.id);
                let permit = decision.permit(&event, user);
                judged.push(Judged { index, event, hash, user, permit });
            }
            Err(invalid) => admission.invalid(index, invalid),
        }
    }
    if judged.len() > 1 {
        let needs = judged.iter().flat_map(|judged| judged.permit.iter().flat_map(|permit| &permit.needs));
        let lacking = app.quotas.lacking(&caller.policy, &policies.ledgers, needs);
        app.quotas.stock(&caller.policy, lacking).await;
    }
    let mut seen = HashSet::with_capacity(judged.len());
    let mut admitted = Vec::with_capacity(judged.len());
    for Judged { index, event, hash, user, permit } in judged {
        if !seen.insert(hash) {
            admission.duplicates += 1;
            continue;
        }
        let attempt = Attempt { app, caller, index, user, id: &event.id };
        // A period that ended for an event has ended for those behind it.
        let permit =
            if decision.received_ms == judged_at_ms { permit } else { decision.permit(&event, user) };
        match decision.take(permit, &event, user, |needs| needs).await {
            Ok((taken, remarks)) => {
                attempt.beyond(decision.received_ms, taken.exceeded(), &remarks, &mut admission);
                let received_ms = decision.received_ms;
                admitted.push(Admitted { event, hash, user, taken, received_ms });
            }
            Err(refused) => {
                // A repeat of a refused event is a new attempt, not a duplicate of a stored one.
                seen.remove(&hash);
                if let Err(problem) = attempt.refused(decision.received_ms, refused, &mut admission) {
                    admitted.into_iter().for_each(|admitted| admitted.taken.credit());
                    return Err(problem);
                }
            }
        }
    }
    // What could not be read was taken down before the others were decided.
    admission.rejected.sort_by_key(|rejected| rejected.index);
    admission.accepted = admitted.len();
    admission.standings = app.quotas.standings(&caller.policy, &decision.met);
    publish(app, policies, caller, admitted).await?;
    Ok(admission)
}

/// Reads the events that a request carries; what is wrong with one is its own.
pub fn parse<'a>(mode: &'a Mode, body: &'a Bytes) -> Result<Vec<Result<UsageEvent<'a>, Invalid>>, Problem> {
    match mode {
        Mode::Binary(attributes) => Ok(vec![wire::parse_binary(attributes.iter().cloned(), body)]),
        Mode::Body(form) => {
            let texts = wire::split(body, *form).map_err(|error| {
                let field =
                    if matches!(error, BodyError::TooMany | BodyError::Empty) { "events" } else { "body" };
                Problem::bad_request(error.to_string()).field(field)
            })?;
            Ok(texts.into_iter().map(|text| wire::parse(text, *form)).collect())
        }
    }
}

/// Identity of an event, and the pseudonym of its user.
pub fn identify(key: &PseudonymKey, event: &UsageEvent<'_>, key_id: &str) -> (EventHash, UserKey) {
    let source = event.source.as_deref().unwrap_or(key_id);
    (key.event(source, &event.id), key.user(event.user.as_deref()))
}

/// One event's attempt, for the records of violations.
struct Attempt<'a> {
    app: &'a App,
    caller: &'a Caller,
    index: usize,
    user: UserKey,
    id: &'a str,
}

impl Attempt<'_> {
    fn record(&self, received_ms: i64, (kind, rule): (RuleKind, &str), effect: Effect) {
        let snapshot = self.caller.policy.snapshot();
        self.app.violations.record(Denial {
            tenant: snapshot.tenant.clone(),
            number: snapshot.number,
            lane: snapshot.lane.clone(),
            rule: rule.to_owned(),
            kind,
            effect,
            user_key: self.user,
            received_ms,
            id: self.id.to_owned(),
        });
    }

    /// Takes down why an event was refused.
    ///
    /// # Errors
    /// 503 when it was not decided.
    fn refused(&self, received_ms: i64, refused: Refused, admission: &mut Admission) -> Result<(), Problem> {
        match refused {
            Refused::Invalid(invalid) => admission.invalid(self.index, invalid),
            Refused::Denied(denial) => {
                self.record(received_ms, (RuleKind::Access, &denial.identity), Effect::Refused);
                admission.deny(self.index, denial);
            }
            Refused::Limited(limited) => {
                self.record(received_ms, (RuleKind::Limit, &limited.identity), Effect::Refused);
                admission.limit(self.index, limited);
            }
            Refused::Unavailable(why) => {
                return Err(Problem::unavailable(format!("the quota ledger is not available: {why}")));
            }
        }
        Ok(())
    }

    /// Records what an admitted event is beyond, and warns of what warns.
    fn beyond(
        &self,
        received_ms: i64,
        limits: &[(Limited, Effect)],
        policies: &[(AccessDenial, Effect)],
        admission: &mut Admission,
    ) {
        let index = self.index;
        for (denial, effect) in policies {
            self.record(received_ms, (RuleKind::Access, &denial.identity), *effect);
            if *effect == Effect::Warned {
                let (detail, policy) = (not_admitted(denial), Some(denial.policy.clone()));
                let warning = Warning { index, code: ACCESS_DENIED, detail, limit: None, policy };
                admission.warnings.push(warning);
            }
        }
        for (limited, effect) in limits {
            self.record(received_ms, (RuleKind::Limit, &limited.identity), *effect);
            if *effect == Effect::Warned {
                let (detail, limit) = (used_up(limited.used, limited.max), Some(limited.limit.clone()));
                let warning = Warning { index, code: LIMIT_EXCEEDED, detail, limit, policy: None };
                admission.warnings.push(warning);
            }
        }
    }
}

enum Refused {
    Invalid(Invalid),
    Denied(AccessDenial),
    Limited(Box<Limited>),
    Unavailable(String),
}

struct Decision<'a> {
    app: &'a App,
    policies: &'a Policies,
    caller: &'a Caller,
    received_ms: i64,
    periods: Periods,
    met: Met,
}

impl<'a> Decision<'a> {
    fn new(app: &'a App, policies: &'a Policies, caller: &'a Caller) -> Self {
        let received_ms = app.clock.now_ms();
        let periods = caller.policy.periods(received_ms);
        Self { app, policies, caller, received_ms, periods, met: Met::default() }
    }

    fn permit(&mut self, event: &UsageEvent<'_>, user: UserKey) -> Result<Permit, Refused> {
        let facts =
            Facts { key: &self.caller.key, user, received_ms: self.received_ms, periods: &self.periods };
        let permit = decide(&self.caller.policy, event, &facts).map_err(|denial| match denial.cause {
            Cause::Invalid(invalid) => Refused::Invalid(invalid),
            Cause::Access(denial) => Refused::Denied(denial),
        })?;
        self.met.note(&permit.needs);
        Ok(permit)
    }

    /// Takes what an event needs by its permit, less what it has in another way: `rest` says what is left of its needs.
    async fn take(
        &mut self,
        permit: Result<Permit, Refused>,
        event: &UsageEvent<'_>,
        user: UserKey,
        mut rest: impl FnMut(Vec<Need>) -> Vec<Need>,
    ) -> Result<(Taken, Vec<(AccessDenial, Effect)>), Refused> {
        let mut permit = permit?;
        for _ in 0..DECISIONS {
            match self.units(&rest(permit.needs)).await {
                Ok(taken) => return Ok((taken, permit.remarks)),
                Err(TakeError::Limited(limited)) => return Err(Refused::Limited(limited)),
                Err(TakeError::Unavailable(why)) => return Err(Refused::Unavailable(why)),
                Err(TakeError::PeriodEnded) => {
                    self.received_ms = self.app.clock.now_ms();
                    self.periods = self.caller.policy.periods(self.received_ms);
                    permit = self.permit(event, user)?;
                }
            }
        }
        Err(Refused::Unavailable("the ledger is slower than the window is long".to_owned()))
    }

    async fn units(&self, needs: &[Need]) -> Result<Taken, TakeError> {
        let taken = self.app.quotas.take(&self.caller.policy, &self.policies.ledgers, needs).await?;
        if self.app.pod.is_fenced() {
            taken.credit();
            return Err(TakeError::Unavailable("this pod has lost touch with the others".to_owned()));
        }
        Ok(taken)
    }
}

/// Hands the events to the tenant's lane and waits until the fate of every pack is known.
async fn publish(
    app: &App,
    policies: &Arc<Policies>,
    caller: &Caller,
    admitted: Vec<Admitted<'_>>,
) -> Result<(), Problem> {
    let lane = &caller.policy.snapshot().lane;
    let packer = app.lanes.packer(lane);
    let (mut submitted, mut failure) = (Vec::with_capacity(admitted.len()), None);
    // A pack says when its events were received, and that decides the period: those decided anew have another one.
    for same in admitted.chunk_by(|a, b| a.received_ms == b.received_ms) {
        let events = same.iter().map(|admitted| packed(caller, admitted));
        match packer.submit(events, same[0].received_ms, policies) {
            Ok(more) => submitted.extend(more),
            Err(busy) => {
                failure = Some(format!("lane {lane}: {busy}"));
                break;
            }
        }
    }
    let mut submitted = submitted.into_iter();
    for admitted in admitted {
        let outcome = match submitted.next() {
            Some(submitted) => fate(submitted).await,
            None => Outcome::Failed(String::new()),
        };
        let why = match outcome {
            Outcome::Stored => {
                admitted.taken.settle();
                continue;
            }
            Outcome::Failed(why) => {
                admitted.taken.credit();
                why
            }
            Outcome::Unknown(why) => {
                app.metrics.count_events(caller.policy.name().as_str(), "unknown", 1);
                admitted.taken.settle();
                why
            }
        };
        failure.get_or_insert_with(|| {
            format!("lane {lane} did not acknowledge: {why}; send the same ids again")
        });
    }
    failure.map_or(Ok(()), |detail| Err(Problem::unavailable(detail)))
}

fn packed<'a>(caller: &'a Caller, admitted: &'a Admitted<'_>) -> PackedEvent<'a> {
    let event = &admitted.event;
    PackedEvent {
        tenant: caller.policy.snapshot().number,
        retention_days: caller.policy.snapshot().retention_days,
        event_hash: admitted.hash,
        user_key: admitted.user,
        time_ms: event.time_ms.unwrap_or(admitted.received_ms),
        value: event.value,
        latency_ms: event.latency_ms,
        charges: admitted.taken.charges(),
        source: event.source.as_deref().unwrap_or(&caller.key.id),
        id: &event.id,
        feature: &event.feature,
        user: event.user.as_deref().unwrap_or_default(),
        data: event.data,
    }
}

async fn fate(mut submitted: Submitted) -> Outcome {
    match submitted.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Outcome::Unknown("no outcome".to_owned())),
        Err(_) => Outcome::Unknown("the sender ended".to_owned()),
    }
}
