//! Reserve, then commit or release: for applications that must know before an expensive job that its units are there.

use std::sync::Arc;

use bytes::Bytes;
use event::Incarnation;
use event::violation::Effect;
use event::wire::{Invalid, UsageEvent};
use futures_util::future::join_all;
use policy::decide::Need;
use policy::reservation::{Cover, Hold, MAX_HOLDS, Reservation};

use super::{Admission, Admitted, Attempt, Decision, Refused, identify, parse, publish};
use crate::App;
use crate::http::{Caller, Mode};
use crate::problem::Problem;
use crate::quota::{Committed, ReserveError, Standing, TakeError, Taken, Under};
use crate::snapshot::Policies;

/// What came of asking for a reservation.
pub enum Reserved {
    /// The units are held.
    Held {
        /// Its id.
        token: String,
        /// When it ends, Unix milliseconds.
        expires_ms: i64,
        /// Names of limits, and units.
        held: Vec<(String, u64)>,
        /// How the limits stand that the event met.
        standings: Vec<Standing>,
    },
    /// Such an event would be refused now.
    Refused(Admission),
}

/// Holds what an event needs of every quota that enforces. Rates have their turn when the event comes.
///
/// # Errors
/// The problem when the request was not decided.
pub async fn reserve(
    app: &App,
    policies: &Policies,
    caller: &Caller,
    (mode, body): (&Mode, &Bytes),
    ttl_ms: i64,
) -> Result<Reserved, Problem> {
    let mut admission = Admission::default();
    let event = match only(mode, body)? {
        Ok(event) => event,
        Err(invalid) => return Ok(refused(admission, invalid)),
    };
    let snapshot = caller.policy.snapshot();
    let key = app.pseudonym_key(snapshot).await?;
    let mut decision = Decision::new(app, policies, caller);
    let (_, user) = identify(&key, &event, &caller.key.id);
    let attempt = Attempt { app, caller, index: 0, user, id: &event.id };
    let needs = match decision.permit(&event, user) {
        Ok(permit) => permit.needs.into_iter().filter(|need| is_reserved(caller, need)).collect::<Vec<_>>(),
        Err(why) => {
            attempt.refused(decision.received_ms, why, &mut admission)?;
            return Ok(Reserved::Refused(admission));
        }
    };
    if needs.len() > MAX_HOLDS {
        let detail = format!("is counted by {} limits: {MAX_HOLDS} can be reserved at once", needs.len());
        return Ok(refused(admission, Invalid::new("too_many_limits", "type", detail)));
    }
    let holds = needs.iter().map(|need| Hold { key: need.key, units: need.units, revision: 0 }).collect();
    let (holder, expires_ms) = (Incarnation((app.random)()), decision.received_ms + ttl_ms);
    let mut reservation = Reservation { holder, expires_ms, holds };
    let under = Under { policy: &caller.policy, ledgers: &policies.ledgers };
    match app.quotas.reserve(under, &needs, &mut reservation).await {
        Ok(()) if app.pod.is_fenced() => {
            // What cannot be given back now comes back at its end.
            drop(app.quotas.release(under, &reservation).await);
            return Err(Problem::unavailable("this pod has lost touch with the others"));
        }
        Ok(()) => {}
        Err(ReserveError::Limited(limited)) => {
            attempt.refused(decision.received_ms, Refused::Limited(limited), &mut admission)?;
            admission.standings = app.quotas.standings(&caller.policy, &decision.met);
            return Ok(Reserved::Refused(admission));
        }
        Err(ReserveError::Crowded(limit)) => return Err(crowded(&limit)),
        Err(ReserveError::Unavailable(why)) => return Err(unavailable(&why)),
    }
    let name = |need: &Need| (caller.policy.rules()[need.rule].limit.name.clone(), need.units);
    Ok(Reserved::Held {
        token: reservation.token(&key, &snapshot.lineage),
        expires_ms,
        held: needs.iter().map(name).collect(),
        standings: app.quotas.standings(&caller.policy, &decision.met),
    })
}

/// Admits the event that a reservation was made for.
///
/// # Errors
/// 404 and 410 for a reservation that is not there, and what is answered to events that were not decided.
pub async fn commit(
    app: &App,
    policies: &Arc<Policies>,
    caller: &Caller,
    (mode, body): (&Mode, &Bytes),
    token: &str,
) -> Result<Admission, Problem> {
    let mut admission = Admission::default();
    let key = app.pseudonym_key(caller.policy.snapshot()).await?;
    let reservation =
        Reservation::read(token, &key, &caller.policy.snapshot().lineage).ok_or_else(unknown)?;
    let event = match only(mode, body)? {
        Ok(event) => event,
        Err(invalid) => {
            admission.invalid(0, invalid);
            return Ok(admission);
        }
    };
    let mut decision = Decision::new(app, policies, caller);
    if decision.received_ms >= reservation.expires_ms {
        return Err(ended());
    }
    let (hash, user) = identify(&key, &event, &caller.key.id);
    let attempt = Attempt { app, caller, index: 0, user, id: &event.id };
    let taken = match take(&mut decision, &event, user, &reservation).await {
        Ok((taken, remarks)) => {
            attempt.beyond(decision.received_ms, taken.exceeded(), &remarks, &mut admission);
            taken
        }
        Err(why) => {
            attempt.refused(decision.received_ms, why, &mut admission)?;
            admission.standings = app.quotas.standings(&caller.policy, &decision.met);
            return Ok(admission);
        }
    };
    admission.accepted = 1;
    admission.standings = app.quotas.standings(&caller.policy, &decision.met);
    let received_ms = decision.received_ms;
    publish(app, policies, caller, vec![Admitted { event, hash, user, taken, received_ms }]).await?;
    Ok(admission)
}

type Remarks = Vec<(policy::access::AccessDenial, Effect)>;

/// All units of the event: first what the reservation does not cover, then what it holds. Holds that are gone were committed or
/// released before, and what they would have covered is taken like any event's: at most too few are admitted.
async fn take(
    decision: &mut Decision<'_>,
    event: &UsageEvent<'_>,
    user: event::UserKey,
    reservation: &Reservation,
) -> Result<(Taken, Remarks), Refused> {
    let mut cover = Cover::default();
    let permit = decision.permit(event, user);
    let (mut taken, remarks) = decision
        .take(permit, event, user, |needs| {
            cover = reservation.cover(&needs);
            std::mem::take(&mut cover.rest)
        })
        .await?;
    let under = Under { policy: &decision.caller.policy, ledgers: &decision.policies.ledgers };
    let commits = cover.parts.iter().map(|part| decision.app.quotas.commit(under, reservation.holder, part));
    let (mut gone, mut failed) = (Vec::new(), None);
    for committed in join_all(commits).await {
        match committed {
            Ok(Committed::Used(key, units)) => taken.add_reserved(key, units),
            Ok(Committed::Gone(need)) => gone.push(need),
            Ok(Committed::Nothing) => {}
            Err(why) => failed = Some(Refused::Unavailable(why)),
        }
    }
    if failed.is_none() && !gone.is_empty() {
        match decision.units(&gone).await {
            Ok(more) => taken.join(more),
            Err(TakeError::Limited(limited)) => failed = Some(Refused::Limited(limited)),
            Err(TakeError::Unavailable(why)) => failed = Some(Refused::Unavailable(why)),
            Err(TakeError::PeriodEnded) => failed = Some(Refused::Unavailable("the period ended".to_owned())),
        }
    }
    match failed {
        None => Ok((taken, remarks)),
        Some(refused) => {
            taken.credit();
            Err(refused)
        }
    }
}

/// Gives back what a reservation holds.
///
/// # Errors
/// 404 when it was never made, 503 when the ledger does not answer.
pub async fn release(app: &App, policies: &Policies, caller: &Caller, token: &str) -> Result<(), Problem> {
    let snapshot = caller.policy.snapshot();
    let key = app.pseudonym_key(snapshot).await?;
    let reservation = Reservation::read(token, &key, &snapshot.lineage).ok_or_else(unknown)?;
    let under = Under { policy: &caller.policy, ledgers: &policies.ledgers };
    app.quotas.release(under, &reservation).await.map_err(|why| unavailable(&why))
}

/// A reservation is for one event.
fn only<'a>(mode: &'a Mode, body: &'a Bytes) -> Result<Result<UsageEvent<'a>, Invalid>, Problem> {
    let mut events = parse(mode, body)?;
    match (events.pop(), events.is_empty()) {
        (Some(event), true) => Ok(event),
        _ => Err(Problem::bad_request("a reservation is for one event").field("events")),
    }
}

fn is_reserved(caller: &Caller, need: &Need) -> bool {
    let window = caller.policy.rules()[need.rule].limit.window;
    need.effect == Effect::Refused && !window.is_rate()
}

fn refused(mut admission: Admission, invalid: Invalid) -> Reserved {
    admission.invalid(0, invalid);
    Reserved::Refused(admission)
}

fn unavailable(why: &str) -> Problem {
    Problem::unavailable(format!("the quota ledger is not available: {why}"))
}

/// Forged, another tenant's, or of no form: one answer for all.
pub fn unknown() -> Problem {
    let detail = "there is no such reservation";
    Problem::new(http::StatusCode::NOT_FOUND, "urn:meterplane:problem:not-found", "Not Found", detail)
}

fn ended() -> Problem {
    let detail =
        "the reservation has ended, and what it held has gone back: post the event to /v1/usage/events";
    let kind = "urn:meterplane:problem:reservation-ended";
    Problem::new(http::StatusCode::GONE, kind, "Reservation Ended", detail).with("code", "reservation_ended")
}

fn crowded(limit: &str) -> Problem {
    let detail =
        format!("limit {limit:?} has as many open reservations as it may have: commit or release some");
    let kind = "urn:meterplane:problem:too-many-reservations";
    let problem = Problem::new(http::StatusCode::TOO_MANY_REQUESTS, kind, "Too Many Reservations", detail);
    Problem { retry_after_s: Some(1), ..problem }
        .with("code", "too_many_reservations")
        .with("limit", serde_json::json!({ "name": limit }))
}
