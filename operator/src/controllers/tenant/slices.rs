//! A tenant's slice of the three systems: stream, database, key.
//!
//! It is looked at when the Tenant or its plan changes and every few minutes, by workers of its own: a ClickHouse that
//! hangs keeps no limit and no revocation from pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crds::Tenant;
use crds::tenant::Adoption;
use event::{Lane, Stamp, TenantName, TenantNumber};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::FINALIZER;
use super::apply::apply;
use super::build::{Desired, Placed, build, placed_retention};
use super::dereference::dereference;
use super::placement::{choose, placed};
use super::validate::{Validated, validate};
use crate::conditions::Why;
use crate::context::Context;
use crate::controllers::orders::{Mode, OnHold};
use crate::controllers::ownership::claim;
use crate::controllers::settle::{Hindrance, Permission};
use crate::controllers::write;
use crate::engine::ObjectKey;
use crate::engine::queue::{Action, spread};
use crate::errors::{Failure, System};
use crate::moves;
use crate::passage;
use crate::snapshot::assemble::Place;

/// Longest time that one look may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the sink of a lane that is left may take to pass the lane's end in one look, and the pause before the next look.
const SINK_PATIENCE: Duration = Duration::from_secs(5);
const MOVE_AGAIN: Duration = Duration::from_secs(2);
/// Reason of what is said of a tenant on its way.
pub const MOVING: &str = "Moving";
/// Reason of what is said of a tenant that cannot move yet because of sinks that know no seats.
pub const SINKS_OUTDATED: &str = "SinksOutdated";

/// Where a tenant lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Whose data they are, and where they go.
    pub place: Place,
    /// The database.
    pub database: String,
    /// The key.
    pub key: String,
}

/// What the last look at each tenant's slice said.
#[derive(Default)]
pub struct Slices {
    looks: Mutex<HashMap<String, Look>>,
    granted: Mutex<HashMap<String, Instant>>,
}

/// A look at a slice, and the tenant as it was then.
#[derive(Clone)]
struct Look {
    validated: Validated,
    result: Result<Placement, Hindrance>,
}

impl Slices {
    /// What the last look said, if the tenant is still what it was then.
    pub fn get(&self, tenant: &str, validated: &Validated) -> Option<Result<Placement, Hindrance>> {
        let looks = self.looks.lock();
        looks.get(tenant).filter(|look| look.validated == *validated).map(|look| look.result.clone())
    }

    /// Forgets a tenant.
    pub fn forget(&self, tenant: &str) {
        self.looks.lock().remove(tenant);
    }

    fn note(&self, tenant: &str, validated: Validated, result: Result<Placement, Hindrance>) {
        self.looks.lock().insert(tenant.to_owned(), Look { validated, result });
    }

    /// Whether rights were granted in a namespace since the last look at its tenant's slice.
    pub fn is_granted(&self, namespace: &str) -> bool {
        self.granted.lock().contains_key(namespace)
    }

    /// Whether rights were granted a moment ago: the kube-apiserver may not know them yet.
    pub fn granted_lately(&self, namespace: &str) -> bool {
        self.granted.lock().get(namespace).is_some_and(|at| at.elapsed() < Duration::from_secs(5))
    }

    /// Notes that rights were granted or taken in a namespace, or have to be looked at again.
    pub fn note_granted(&self, namespace: &str, granted: bool) {
        let mut all = self.granted.lock();
        if granted {
            all.insert(namespace.to_owned(), Instant::now());
        } else {
            all.remove(namespace);
        }
    }
}

/// Looks at one tenant's slice and repairs it; the Tenant's own round says what came of it.
///
/// # Errors
/// The failure that kept it from its end.
pub async fn reconcile(ctx: Arc<Context>, key: ObjectKey) -> Result<Action, Failure> {
    let Some(tenant) =
        ctx.caches.tenants.get(&key).filter(|tenant| tenant.metadata.deletion_timestamp.is_none())
    else {
        ctx.slices.forget(&key.name);
        return Ok(Action::Await);
    };
    let Ok(validated) = validate(&tenant, ctx.plan_of(&tenant).as_deref(), &ctx.settings) else {
        return Ok(Action::Await);
    };
    if validated.orders.mode == Mode::Paused {
        ctx.slices.note(&key.name, validated, Err(Hindrance::OnHold(OnHold::Paused)));
        ctx.queues.tenant.add(key);
        return Ok(Action::Await);
    }
    let look = tokio::time::timeout(LIMIT, look(&ctx, &tenant, &validated));
    let result = look.await.unwrap_or_else(|_| {
        let detail = format!("no end within {} s", LIMIT.as_secs());
        Err(Failure::unknown(System::ClickHouse, detail).into())
    });
    let failure = match &result {
        Err(Hindrance::Failed(failure)) => Some(failure.clone()),
        _ => None,
    };
    let waits_to_move = matches!(&result, Err(Hindrance::Waiting(why)) if is_of_a_move(why));
    ctx.slices.note(&key.name, validated, result);
    for namespace in &tenant.spec.namespaces {
        ctx.slices.note_granted(namespace, false);
    }
    ctx.queues.tenant.add(key.clone());
    match failure {
        Some(failure) => Err(failure),
        None if waits_to_move => Ok(Action::After(MOVE_AGAIN)),
        None => Ok(Action::After(ctx.settings.resync.mul_f64(0.8 + 0.4 * spread(&key, 0)))),
    }
}

/// Whether this is why a tenant is not where it shall be.
pub fn is_of_a_move(why: &Why) -> bool {
    [MOVING, SINKS_OUTDATED].contains(&why.reason.as_str())
}

async fn look(ctx: &Context, tenant: &Tenant, validated: &Validated) -> Result<Placement, Hindrance> {
    let desired = settle(ctx, tenant, validated).await?;
    Ok(Placement {
        place: desired.place,
        database: desired.database.name,
        key: desired.key.tenant.transit_key(),
    })
}

fn number(stamp: &Stamp) -> Result<TenantNumber, Hindrance> {
    let invalid = |error: event::ids::NotAnId| Hindrance::Stalled(Why::new("Invalid", error.to_string()));
    TenantNumber::from_lineage(&stamp.lineage).map_err(invalid)
}

/// Lets a tenant leave `from` for `to`, which is made: the snapshot may name it. Not before the old lane's sink is seen at work,
/// because the new lane may have to wait for it, and not while a sink might take one of the lanes that knows nothing of the other.
async fn depart(
    ctx: &Context,
    tenant: &TenantName,
    number: TenantNumber,
    from: Option<&Lane>,
    to: &Lane,
) -> Result<(), Hindrance> {
    let Some(from) = from else {
        // It may have been about to leave when that was taken back.
        return Ok(moves::stay(ctx, number, to).await?);
    };
    let waits = |reason: &str, what: String| {
        Err(Hindrance::Waiting(Why::new(reason, format!("from {from} to {to}: {what}"))))
    };
    let outdated = moves::sinks::outdated(&ctx.nats).await?;
    if !outdated.is_empty() {
        let what = "would store repeated events twice: the move begins when they run the operator's version, or are stopped";
        return waits(SINKS_OUTDATED, format!("sinks of an older version ({}) {what}", outdated.join(", ")));
    }
    if let Some(mark) = passage::mark(&ctx.nats, from).await?
        && let Err(error) = passage::passed(&ctx.nats, from, mark, SINK_PATIENCE).await
    {
        return waits(MOVING, format!("waits for the old lane's sink: {error}"));
    }
    moves::begin(ctx, tenant, number, from, to).await?;
    match moves::sinks::unseated(&ctx.nats, &[from, to], SINK_PATIENCE).await? {
        None => Ok(()),
        Some(lane) => waits(MOVING, format!("waits for a sink to close lane {lane} to older sinks")),
    }
}

async fn settle(ctx: &Context, tenant: &Tenant, validated: &Validated) -> Result<Desired, Hindrance> {
    let name = tenant.name_any().parse().map_err(|error: event::names::InvalidTenantName| {
        Hindrance::Stalled(Why::new("Invalid", error.to_string()))
    })?;
    let found = dereference(&ctx.nats, &ctx.clickhouse, &ctx.vault, &name).await;
    let stamps = found.found(&name)?;
    let stamps: Vec<_> = stamps.iter().map(|(what, found)| (what.as_str(), found.clone())).collect();
    let owner = validated.owner(&ctx.settings.installation, &name);
    let claim = claim(&owner, &stamps).map_err(Hindrance::Refused)?;
    let published = ctx.publications.get(name.as_str());
    let published = published.as_deref().filter(|old| old.snapshot.lineage == claim.stamp.lineage);
    let place = published.map(|published| Place::of(&published.snapshot));
    let shards = ctx.shards.of(&validated.pool);
    let number = number(&claim.stamp)?;
    let home = place.as_ref().map(|place| place.lane.clone()).or_else(|| ctx.moves.home(number));
    let placed = placed(&name, home.as_ref(), &found);
    let lane = choose(&name, &claim.stamp.lineage, validated, placed.clone(), &shards)?;
    let comes_from = placed.filter(|placed| *placed != lane);
    let retention = match found.stream.present() {
        Some(stream) => placed_retention(stream),
        None => Placed { events_days: place.as_ref().map(|place| place.retention_days), rollups_days: None },
    };
    let has_rows = found.database.present().is_some_and(|database| !database.tables.is_empty());
    let desired = build(&name, validated, &claim.stamp, (lane, has_rows), retention, &ctx.settings)
        .map_err(Hindrance::Stalled)?;
    let must_exist = place.is_some() && validated.adoption != Adoption::Force;
    let drift = desired.differences(&found, must_exist);
    if validated.orders.mode == Mode::Observe {
        let leaves = comes_from.iter().map(|from| format!("it would move from lane {from}"));
        let drift: Vec<String> = drift.into_iter().chain(leaves).collect();
        return if drift.is_empty() { Ok(desired) } else { Err(OnHold::Drifted(drift.join("; ")).into()) };
    }
    if place.is_some() && !drift.is_empty() {
        tracing::warn!(tenant = name.as_str(), differences = drift.join("; "), "repairing");
        ctx.metrics.repaired("Tenant", drift.len());
    }
    // From here on we own something, so from here on a deletion has to be waited for; never before.
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::finalizer(&api, &ctx.caches.tenants, tenant, FINALIZER, true).await?;
    // A snapshot is published only when all exist: a tenant that has one and lacks one of them has lost it.
    let permission = Permission { adopt: claim.adopt, must_exist };
    let systems = (&ctx.nats, &ctx.clickhouse, &ctx.vault);
    apply(systems, &desired, found, permission, comes_from.is_some()).await?;
    depart(ctx, &name, number, comes_from.as_ref(), &desired.place.lane).await?;
    Ok(desired)
}
