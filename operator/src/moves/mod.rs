//! Moving tenants between lanes (`docs/adr/0016-moves.md`).
//!
//! ```text
//! the target is made ─> every sink knows seats ─> the old lane's sink has passed its end ─> seat: lanes + the new one
//!   ─> both lanes are closed to older sinks (`sinks`) ─> snapshot with the new lane ─> no pod writes to the old lane any more (drained) ─> its end is noted: the cut-over ─> its sink has passed that
//!   ─> the seat is in the new lane ─> done
//! ```
//! The first line is `controllers/tenant`'s (`slices`), the rest is here (`progress`, which is pure, says what comes next). Sinks keep
//! identities right at every moment of it; what is here only tells people how far it is, and makes it end. Later `retired` deletes
//! the stream that a tenant left behind.

mod progress;
mod retired;
pub mod sinks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::names::SEATS_BUCKET;
use event::seat::{Mark, Seat};
use event::{Lane, TenantName, TenantNumber};
use futures_util::StreamExt;
use jetstream::{Bucket, CasError, Entry, WatchEvent};
use parking_lot::RwLock;
use policy::snapshot::Snapshot;
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::{Failure, System};
use crate::passage;
use progress::{Facts, Next, next};

/// How often moves that are not finished are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often streams that were left are looked at.
const RETIRE_EVERY: Duration = Duration::from_secs(10);
/// Tries of one compare-and-set.
const TRIES: u32 = 10;

/// Seats of tenants that have moved, as this process knows them.
#[derive(Default)]
pub struct Moves(RwLock<HashMap<TenantNumber, Known>>);

#[derive(Debug, Clone)]
struct Known {
    revision: u64,
    seat: Seat,
    /// What the move waits for.
    waits_for: Option<String>,
}

/// How a tenant's lane stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has had one lane.
    Never,
    /// It is on its way; a sentence says what it waits for.
    Moving(String),
    /// It has arrived.
    Settled(Lane),
}

impl Moves {
    /// Lanes that a tenant has had; the last is the one that its snapshot names, or is about to.
    pub fn lanes(&self, snapshot: &Snapshot) -> Vec<Lane> {
        let known = self.0.read();
        let lanes = known.get(&snapshot.number).map(|known| known.seat.lanes.clone());
        lanes.unwrap_or_else(|| vec![snapshot.lane.clone()])
    }

    /// Where a tenant that has moved lives; `None` when it never has.
    pub fn home(&self, tenant: TenantNumber) -> Option<Lane> {
        self.0.read().get(&tenant).map(|known| known.seat.home().clone())
    }

    /// How a tenant's lane stands.
    pub fn standing(&self, tenant: TenantNumber) -> Standing {
        let known = self.0.read();
        let Some(known) = known.get(&tenant) else { return Standing::Never };
        match &known.seat.moving {
            None => Standing::Settled(known.seat.home().clone()),
            Some(moving) => {
                let what = known.waits_for.as_deref().unwrap_or("the policy snapshot that names it");
                Standing::Moving(format!("from {} to {}: waits for {what}", moving.from, known.seat.home()))
            }
        }
    }

    /// Takes over an entry of the bucket; whether a status may change by it.
    pub fn put(&self, entry: &Entry) -> Option<TenantName> {
        let number = entry.key.parse().ok().map(TenantNumber)?;
        let seat = match Seat::decode(&entry.value) {
            Ok(seat) => seat,
            Err(error) => {
                tracing::error!(key = entry.key, error, "a seat that cannot be read");
                return None;
            }
        };
        let mut all = self.0.write();
        let old = all.get(&number);
        if old.is_some_and(|old| old.revision >= entry.revision) {
            return None;
        }
        let told = |seat: &Seat| (seat.lanes.clone(), seat.moving.clone());
        let changed = old.is_none_or(|old| told(&old.seat) != told(&seat)).then(|| seat.tenant.clone());
        let waits_for = old.and_then(|old| old.waits_for.clone()).filter(|_| seat.moving.is_some());
        all.insert(number, Known { revision: entry.revision, seat, waits_for });
        changed
    }

    fn remove(&self, key: &str) {
        if let Ok(number) = key.parse() {
            self.0.write().remove(&TenantNumber(number));
        }
    }

    /// Whether it is another sentence than before.
    fn says(&self, tenant: TenantNumber, waits_for: String) -> bool {
        let mut all = self.0.write();
        let Some(known) = all.get_mut(&tenant) else { return false };
        let waits_for = Some(waits_for);
        let new = known.waits_for != waits_for;
        known.waits_for = waits_for;
        new
    }

    fn list(&self) -> Vec<(TenantNumber, Seat)> {
        self.0.read().iter().map(|(number, known)| (*number, known.seat.clone())).collect()
    }
}

/// What the bucket holds: where tenants live has to be known before any of them is looked at.
///
/// # Errors
/// When NATS fails.
pub async fn stored(nats: &jetstream::Client) -> Result<Vec<Entry>, Failure> {
    Ok(Bucket::open(nats, SEATS_BUCKET).await?.entries().await?)
}

/// Follows the bucket for ever.
///
/// # Errors
/// When there is no such bucket.
pub async fn follow(ctx: &Context) -> Result<(), Failure> {
    let bucket = Bucket::open(&ctx.nats, SEATS_BUCKET).await?;
    let mut watch = bucket.watch();
    while let Some(event) = watch.next().await {
        match event {
            WatchEvent::Put(entry) => {
                if let Some(tenant) = ctx.moves.put(&entry) {
                    ctx.queues.tenant.add(ObjectKey::cluster(tenant.as_str()));
                }
            }
            WatchEvent::Delete { key, .. } => ctx.moves.remove(&key),
            WatchEvent::Reset | WatchEvent::Synced { .. } => {}
        }
    }
    Err(Failure::unknown(System::Nats, "the watch on seats ended"))
}

/// Moves on, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut retire_at = Instant::now() + RETIRE_EVERY;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for (number, seat) in ctx.moves.list() {
            if seat.moving.is_some()
                && let Err(error) = advance(&ctx, number, &seat).await
            {
                tracing::warn!(tenant = seat.tenant.as_str(), %error, "a move waits");
                tell(&ctx, number, &seat.tenant, error.to_string());
            }
        }
        if Instant::now() >= retire_at {
            retire_at = Instant::now() + RETIRE_EVERY;
            for (number, seat) in ctx.moves.list() {
                if let Err(error) = retired::look(&ctx, number, &seat).await {
                    tracing::debug!(tenant = seat.tenant.as_str(), %error, "a lane that was left stays for now");
                }
            }
        }
    }
}

/// Notes that a tenant's events are about to go to `to`: before the snapshot that says so, so that whoever meets one of them there
/// knows that the tenant was somewhere else.
///
/// # Errors
/// When NATS fails.
pub async fn begin(
    ctx: &Context,
    tenant: &TenantName,
    number: TenantNumber,
    from: &Lane,
    to: &Lane,
) -> Result<(), Failure> {
    let now_ms = clock::now().as_millisecond();
    change(ctx, number, |seat| match seat {
        None if from == to => None,
        None => Some(Seat::first(tenant.clone(), from.clone()).moved(to, now_ms)),
        Some(seat) => (seat.home() != to).then(|| seat.moved(to, now_ms)),
    })
    .await
}

/// Notes that a tenant stays in `lane`, if it was about to leave. The snapshot was not written yet, so nothing of it is elsewhere.
///
/// # Errors
/// When NATS fails.
pub async fn stay(ctx: &Context, number: TenantNumber, lane: &Lane) -> Result<(), Failure> {
    if ctx.moves.home(number).is_none_or(|home| home == *lane) {
        return Ok(());
    }
    let now_ms = clock::now().as_millisecond();
    change(ctx, number, |seat| seat.filter(|seat| seat.home() != lane).map(|seat| seat.moved(lane, now_ms)))
        .await
}

/// Forgets a tenant whose data are destroyed.
///
/// # Errors
/// When NATS fails.
pub async fn forget(ctx: &Context, number: TenantNumber) -> Result<(), Failure> {
    let bucket = Bucket::open(&ctx.nats, SEATS_BUCKET).await?;
    if let Some(entry) = bucket.get(&number.to_string()).await?.filter(|entry| !entry.deleted) {
        bucket.delete(&entry.key, entry.revision).await?;
    }
    ctx.moves.remove(&number.to_string());
    Ok(())
}

/// Changes a seat by compare-and-set, unless `next` says that nothing is to be changed.
async fn change(
    ctx: &Context,
    number: TenantNumber,
    next: impl Fn(Option<&Seat>) -> Option<Seat>,
) -> Result<(), Failure> {
    let defect = |detail: String| Failure::Defect { system: System::Nats, detail };
    let bucket = Bucket::open(&ctx.nats, SEATS_BUCKET).await?;
    let key = number.to_string();
    for _ in 0..TRIES {
        let entry = bucket.get(&key).await?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let seat = entry.filter(|entry| !entry.deleted).map(|entry| Seat::decode(&entry.value)).transpose();
        let seat = seat.map_err(|error| defect(format!("the seat of tenant {number}: {error}")))?;
        let Some(next) = next(seat.as_ref()) else { return Ok(()) };
        let value = next.encode().map_err(|error| defect(error.to_string()))?;
        match bucket.update(&key, value.clone().into(), revision).await {
            Ok(revision) => {
                let entry = Entry { key, revision, value: value.into(), deleted: false, created_ms: 0 };
                ctx.moves.put(&entry);
                return Ok(());
            }
            // A sink's write, or this one's whose answer was lost: the next look tells.
            Err(CasError::Conflict | CasError::Unknown(_)) => {}
            Err(error @ CasError::Refused(_)) => return Err(error.into()),
        }
    }
    Err(Failure::unknown(System::Nats, format!("the seat of tenant {number} changes all the time")))
}

fn tell(ctx: &Context, number: TenantNumber, tenant: &TenantName, waits_for: String) {
    if ctx.moves.says(number, waits_for) {
        ctx.queues.tenant.add(ObjectKey::cluster(tenant.as_str()));
    }
}

async fn advance(ctx: &Context, number: TenantNumber, seat: &Seat) -> Result<(), Failure> {
    let facts = facts(ctx, seat).await?;
    match next(seat, &facts) {
        Next::Wait(what) => {
            tell(ctx, number, &seat.tenant, what);
            Ok(())
        }
        Next::Write(next) => {
            // Only if nothing but the seat's place has changed meanwhile.
            let same = |now: &Seat| now.lanes == seat.lanes && now.moving == seat.moving;
            let done = next.moving.is_none();
            change(ctx, number, |now| now.filter(|now| same(now)).map(|now| next.onto(now))).await?;
            if done {
                tracing::info!(tenant = seat.tenant.as_str(), lane = %seat.home(), "moved");
                ctx.queues.tenant.add(ObjectKey::cluster(seat.tenant.as_str()));
            }
            Ok(())
        }
    }
}

async fn facts(ctx: &Context, seat: &Seat) -> Result<Facts, Failure> {
    let mut facts = Facts { now_ms: clock::now().as_millisecond(), ..Facts::default() };
    let Some(moving) = &seat.moving else { return Ok(facts) };
    let publication = ctx.publications.get(seat.tenant.as_str());
    let Some(publication) = publication.filter(|known| known.snapshot.lane == *seat.home()) else {
        return Ok(facts);
    };
    facts.published = true;
    facts.undrained = ctx.fleet.undrained(publication.revision, Instant::now());
    if !facts.undrained.is_empty() {
        return Ok(facts);
    }
    match moving.cut_over {
        None => {
            let mark = passage::mark(&ctx.nats, &moving.from).await?;
            let (epoch, sequence) = mark.map_or((0, 0), |mark| (mark.epoch, mark.sequence));
            facts.end = Some(Mark { epoch, sequence, at_ms: facts.now_ms });
        }
        Some(mark) if mark.sequence > 0 => {
            let passed = passage::passed(&ctx.nats, &moving.from, mark.position(), Duration::ZERO).await;
            facts.behind = passed.err().map(|error| error.to_string());
        }
        Some(_) => {}
    }
    Ok(facts)
}
