//! What is said about a Tenant.

use std::time::Duration;

use crds::condition::{
    ACCEPTED, COUNTS_RECONCILED, Condition, ConditionStatus, DRIFTED, DURABLE, EFFECTIVE, ENFORCED,
    LANE_READY, NAMESPACES_CLAIMED, PAUSED, PROGRAMMED, QUERY_USER_READY, READY, find,
};
use crds::{Tenant, TenantStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use policy::effective::PLAN;
use policy::snapshot::Snapshot;

use super::placement::isolation;
use super::slices::{MOVING, is_of_a_move};
use super::validate::Refusal;
use super::{Hindrance, Round, limits};
use crate::audits::Counted;
use crate::clock;
use crate::conditions::{Statements, Why};
use crate::context::Context;
use crate::controllers::enforced::{self, Standing};
use crate::controllers::orders::{self, Mode, Orders};
use crate::controllers::{query_user, waiting, write};
use crate::errors::Failure;
use crate::moves::Standing as Moved;

/// Writes the status if it differs. Returns when to look again, if it changes by time.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn write(ctx: &Context, tenant: &Tenant, round: &Round) -> Result<Option<Duration>, Failure> {
    // The round may have added the finalizer: the newest object is the one to write on.
    let newest = ctx.caches.tenants.get(&crate::engine::ObjectKey::of(tenant));
    let tenant = newest.as_deref().unwrap_or(tenant);
    let standing = standing(ctx, tenant);
    let publication = ctx.publications.get(&tenant.name_any());
    let snapshot = publication.as_deref().map(|publication| publication.snapshot.as_ref());
    let counted = snapshot
        .map_or(Counted::NotYet, |snapshot| ctx.audits.of_all(&ctx.moves.lanes(snapshot), snapshot.number));
    let moved = snapshot.map_or(Moved::Never, |snapshot| ctx.moves.standing(snapshot.number));
    let durable = ctx.durability.of(ctx.settings.replicas);
    let wanted = tenant.spec.query_user.as_ref();
    let queried = wanted.and_then(|wanted| ctx.query_users.get(&tenant.name_any(), wanted));
    let facts = Facts {
        standing: standing.as_ref(),
        counted: &counted,
        durable: &durable,
        moved: &moved,
        queried: queried.as_ref(),
    };
    let (status, again) = compute(tenant, round, snapshot, &facts, clock::now());
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::status(&api, &ctx.caches.tenants, tenant, tenant.status.as_ref(), &status).await?;
    Ok(again)
}

/// Says that a system failed before anything could be looked at.
///
/// # Errors
/// When the kube-apiserver fails.
pub async fn unavailable(ctx: &Context, tenant: &Tenant, failure: &Failure) -> Result<(), Failure> {
    let old = tenant.status.clone().unwrap_or_default();
    let generation = tenant.metadata.generation;
    let mut statements = Statements::default();
    let kinds = [
        ACCEPTED,
        PROGRAMMED,
        ENFORCED,
        EFFECTIVE,
        NAMESPACES_CLAIMED,
        COUNTS_RECONCILED,
        DURABLE,
        LANE_READY,
        QUERY_USER_READY,
        PAUSED,
        DRIFTED,
    ];
    for kind in kinds {
        keep_current(&mut statements, kind, &old.conditions, generation);
    }
    failed(&mut statements, failure, &old.conditions, generation);
    let conditions = statements.conditions(&old.conditions, generation, clock::now());
    let status = TenantStatus { observed_generation: generation, conditions, ..old };
    let api: Api<Tenant> = Api::all(ctx.kube.clone());
    write::status(&api, &ctx.caches.tenants, tenant, tenant.status.as_ref(), &status).await
}

fn standing(ctx: &Context, tenant: &Tenant) -> Option<Standing> {
    let publication = ctx.publications.get(&tenant.name_any())?;
    // Other limits say it themselves; those of the plan have no object of their own in the tenant.
    let of_plan = || publication.snapshot.limits.iter().filter(|limit| limit.origin.kind == PLAN);
    let seeding = of_plan().any(|limit| limit.seeding);
    let lost = of_plan().find_map(|limit| ctx.ledgers.lost(limit.window));
    let reach = ctx.fleet.reach(&publication.snapshot.tenant, publication.revision, Instant::now());
    let reach = reach.while_seeding(seeding).without(lost);
    Some(Standing { revision: publication.revision, reach, published: publication.at })
}

/// What is known of a tenant that is in place, beside what was done in this round.
struct Facts<'a> {
    standing: Option<&'a Standing>,
    counted: &'a Counted,
    durable: &'a (ConditionStatus, Why),
    moved: &'a Moved,
    /// What came of its query user, once somebody looked.
    queried: Option<&'a Result<(), Hindrance>>,
}

/// The status, and when it changes by time.
fn compute(
    tenant: &Tenant,
    round: &Round,
    snapshot: Option<&Snapshot>,
    facts: &Facts<'_>,
    now: Timestamp,
) -> (TenantStatus, Option<Duration>) {
    let old = tenant.status.clone().unwrap_or_default();
    let generation = tenant.metadata.generation;
    let mut statements = Statements::default();
    let mut again = None;
    queries(&mut statements, tenant, facts.queried, &old.conditions);
    match &round.accepted {
        Ok(validated) => {
            statements.yes(ACCEPTED, "Accepted", "the spec and what it refers to are valid");
            if !validated.idle_overrides.is_empty() {
                let message =
                    format!("spec.overrides: the plan has no limit {}", validated.idle_overrides.join(", "));
                statements.no(EFFECTIVE, Why::new("OverrideWithoutLimit", message));
            }
            again = programmed(&mut statements, tenant, round, &old.conditions, now);
        }
        Err(Refusal::Final(why)) => {
            statements.refused(why);
        }
        Err(Refusal::Waiting(why)) => {
            statements.no(ACCEPTED, why.clone());
            again = waiting(&mut statements, why, &old.conditions, now);
        }
    }
    namespaces(&mut statements, tenant, round);
    if let Some(standing) = facts.standing {
        let soon = enforced::state(&mut statements, standing, "Enforcing", &old.conditions, generation);
        again = [again, soon].into_iter().flatten().min();
    }
    counts(&mut statements, facts.counted);
    lane(&mut statements, facts.moved, round);
    let (status, why) = facts.durable;
    statements.set(DURABLE, *status, why.clone());
    let mode = round.accepted.as_ref().map_or_else(|_| Mode::default(), |validated| validated.orders.mode);
    orders::state(&mut statements, mode, round.slice.as_ref().err(), &old.conditions);
    let placement = round.slice.as_ref().ok();
    let limits = snapshot.map_or((old.limits, old.limits_not_listed), limits::listed);
    let conditions = statements.conditions(&old.conditions, generation, now);
    let status = TenantStatus {
        observed_generation: generation,
        last_handled_reconcile_at: Orders::of(tenant).at,
        conditions,
        isolation: placement.map(|place| isolation(&place.place.lane)).or(old.isolation),
        lineage: placement.map(|place| place.place.lineage.clone()).or(old.lineage),
        stream: placement.map(|place| place.place.lane.stream()).or(old.stream),
        database: placement.map(|place| place.database.clone()).or(old.database),
        key: placement.map(|place| place.key.clone()).or(old.key),
        limits: limits.0,
        limits_not_listed: limits.1,
    };
    (status, again)
}

fn lane(statements: &mut Statements, moved: &Moved, round: &Round) {
    if let Err(Hindrance::Waiting(why)) = &round.slice
        && is_of_a_move(why)
    {
        statements.no(LANE_READY, why.clone());
        return;
    }
    match moved {
        Moved::Never => {}
        Moved::Moving(message) => {
            statements.no(LANE_READY, Why::new(MOVING, message.clone()));
        }
        Moved::Settled(lane) => {
            statements.yes(LANE_READY, "Settled", &format!("the tenant's events go to {}", lane.stream()));
        }
    }
}

/// Said only of a tenant that asks for a query user. A failing system makes nothing untrue that was said about this generation.
fn queries(
    statements: &mut Statements,
    tenant: &Tenant,
    looked: Option<&Result<(), Hindrance>>,
    previous: &[Condition],
) {
    let Some(wanted) = &tenant.spec.query_user else { return };
    match looked {
        Some(Ok(())) => {
            let message =
                format!("Secret {} opens a ClickHouse user of the tenant", query_user::place(tenant, wanted));
            statements.yes(QUERY_USER_READY, "Ready", &message);
        }
        Some(Err(Hindrance::Refused(why) | Hindrance::Waiting(why) | Hindrance::Stalled(why))) => {
            statements.no(QUERY_USER_READY, why.clone());
        }
        Some(Err(Hindrance::Failed(_) | Hindrance::OnHold(_))) | None => {
            keep_current(statements, QUERY_USER_READY, previous, tenant.metadata.generation);
            if statements.status(QUERY_USER_READY).is_none() {
                let why = match looked {
                    Some(Err(Hindrance::Failed(failure))) => Why::new(failure.reason(), failure.to_string()),
                    _ => Why::new("Pending", "nobody has looked yet"),
                };
                statements.set(QUERY_USER_READY, ConditionStatus::Unknown, why);
            }
        }
    }
}

fn counts(statements: &mut Statements, counted: &Counted) {
    match counted {
        Counted::NotYet => {
            let why = Why::new("NotCounted", "the lane was not counted yet, or is not counted any further");
            statements.set(COUNTS_RECONCILED, ConditionStatus::Unknown, why)
        }
        Counted::AddsUp { dead: 0 } => {
            let message = "every event that was packed is stored, or was a repeat";
            statements.yes(COUNTS_RECONCILED, "Reconciled", message)
        }
        Counted::AddsUp { dead } => {
            let message = format!(
                "every event that was packed is stored, was a repeat, or is dead: {dead} are in packs that the sink cannot read \
                 (its log says why); they stay in the stream, and a sink that can read them stores them"
            );
            statements.yes(COUNTS_RECONCILED, "DeadLetters", &message)
        }
        Counted::Differs(where_) => {
            statements.no(COUNTS_RECONCILED, Why::new("CountsDiffer", where_.clone()))
        }
    };
}

fn programmed(
    statements: &mut Statements,
    tenant: &Tenant,
    round: &Round,
    previous: &[Condition],
    now: Timestamp,
) -> Option<Duration> {
    let generation = tenant.metadata.generation;
    let (slice, published) = (round.slice.as_ref().err(), round.published.as_ref().err());
    // What is on hold keeps nobody from saying that a snapshot cannot be written.
    let failed_beside = published.filter(|_| matches!(slice, Some(Hindrance::OnHold(_))));
    let failed_beside = failed_beside.filter(|hindrance| matches!(hindrance, Hindrance::Failed(_)));
    match failed_beside.or(slice).or(published) {
        None => {
            let (reason, message) = readiness(tenant, round, statements);
            statements
                .yes(PROGRAMMED, "Programmed", "stream, database, key and policy snapshot are in place")
                .yes(READY, reason, message);
        }
        Some(Hindrance::Refused(why)) => {
            statements.refused(why);
        }
        Some(Hindrance::Stalled(why)) => {
            statements.stalled(why);
        }
        Some(Hindrance::Waiting(why)) => return waiting(statements, why, previous, now),
        Some(Hindrance::OnHold(hold)) => {
            let was = tenant.status.as_ref().and_then(|status| status.observed_generation);
            orders::on_hold(statements, hold, previous, (was, generation));
        }
        Some(Hindrance::Failed(failure)) => {
            keep_current(statements, PROGRAMMED, previous, generation);
            failed(statements, failure, previous, generation);
        }
    }
    None
}

/// What the one column that everybody looks at says of a tenant that is in place.
fn readiness(tenant: &Tenant, round: &Round, statements: &Statements) -> (&'static str, &'static str) {
    if tenant.spec.suspend {
        ("Suspended", "the tenant is as written: suspended, every request with its keys is refused")
    } else if !unclaimed(round).is_empty() {
        ("NamespacesNotClaimed", "the tenant is as written, but for namespaces: see NamespacesClaimed")
    } else if statements.status(QUERY_USER_READY) == Some(ConditionStatus::False) {
        ("QueryUserNotReady", "the tenant is as written, but for its ClickHouse user: see QueryUserReady")
    } else {
        ("Ready", "the tenant is as written")
    }
}

/// A failing system makes nothing untrue that was said about this generation; it only delays what is new.
fn failed(statements: &mut Statements, failure: &Failure, previous: &[Condition], generation: Option<i64>) {
    let why = Why::new(failure.reason(), failure.to_string());
    statements.reconciling(&why);
    keep_current(statements, READY, previous, generation);
    if statements.status(PROGRAMMED).is_none() {
        statements.no(PROGRAMMED, why);
    }
}

fn keep_current(
    statements: &mut Statements,
    kind: &'static str,
    previous: &[Condition],
    generation: Option<i64>,
) {
    let known = find(previous, kind).is_some_and(|old| {
        old.observed_generation == generation && (kind != READY || old.status == ConditionStatus::True)
    });
    if known {
        statements.keep(kind, previous);
    }
}

/// The message names only the tenant's own namespaces, never who else holds one.
fn namespaces(statements: &mut Statements, tenant: &Tenant, round: &Round) {
    if tenant.spec.namespaces.is_empty() {
        return;
    }
    let unclaimed = unclaimed(round);
    let Some((reason, _, _)) = unclaimed.first() else {
        statements.yes(NAMESPACES_CLAIMED, "Claimed", "the tenant holds every namespace that it names");
        return;
    };
    let said: Vec<String> =
        unclaimed.iter().map(|(_, names, what)| format!("{}: {what}", names.join(", "))).collect();
    statements.no(NAMESPACES_CLAIMED, Why::new(*reason, said.join("; ")));
}

/// Namespaces that the tenant names and does not hold, by reason.
fn unclaimed(round: &Round) -> Vec<(&'static str, &[String], &'static str)> {
    let claims = &round.claims;
    let all = [
        ("Reserved", claims.reserved.as_slice(), "cannot belong to a tenant"),
        ("Conflicted", &claims.conflicted, "held by another tenant"),
        ("NamespaceMissing", &round.missing_namespaces, "does not exist yet"),
    ];
    all.into_iter().filter(|(_, names, _)| !names.is_empty()).collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
