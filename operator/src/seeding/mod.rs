//! What was used before a limit counted, put into its ledger.
//!
//! ```text
//! snapshot with seeding: pods charge and refuse nothing
//!   -> every pod has drained it: what is decided from now on is charged
//!   -> the lane's end is noted, and its sink has passed it: what was not charged is stored
//!   -> stored events of the period without a charge of the limit are counted, and added to the records
//!   -> snapshot without seeding
//! ```
//! Adding is idempotent, so whatever is interrupted begins again.

pub mod history;
pub mod records;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use policy::limit::Limit;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::engine::ObjectKey;
use crate::errors::Failure;
use crate::passage;
use crate::snapshot::publications::Publication;

/// How often it is looked whether pods have drained a revision.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a sink may take to pass the end of its lane before its progress is told.
const SINK_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a seeding that failed begins again.
const RETRY: Duration = Duration::from_secs(2);
/// Tenants that are seeded at once.
const AT_ONCE: usize = 8;

/// What has become of seedings in this process.
#[derive(Default)]
pub struct Seedings(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashSet<String>,
    not_before: HashMap<String, Instant>,
    /// Limits whose records hold what was used before, by tenant and identity, with the revision since which they were seeded.
    ended: HashMap<(String, String), u64>,
}

impl Seedings {
    /// Whether a limit needs no further seeding that is seeded since revision `since`.
    fn is_ended(&self, tenant: &str, identity: &str, since: u64) -> bool {
        self.0.lock().ended.get(&(tenant.to_owned(), identity.to_owned())) == Some(&since)
    }

    /// Limits of a tenant's snapshot whose seeding has ended.
    pub fn ended(&self, publication: Option<&Publication>) -> BTreeSet<String> {
        let Some(publication) = publication else { return BTreeSet::new() };
        let tenant = publication.snapshot.tenant.as_str();
        let ended =
            publication.seeding().filter(|(limit, since)| self.is_ended(tenant, &limit.identity, *since));
        ended.map(|(limit, _)| limit.identity.clone()).collect()
    }

    fn end(&self, tenant: &str, limits: &[(Limit, u64)]) {
        let mut state = self.0.lock();
        for (limit, since) in limits {
            state.ended.insert((tenant.to_owned(), limit.identity.clone()), *since);
        }
    }

    /// Forgets what was remembered of limits that are not seeded any more.
    pub fn forget(&self, tenant: &str, publication: Option<&Publication>) {
        let seeding: HashSet<&str> = publication
            .into_iter()
            .flat_map(|publication| publication.seeding().map(|(limit, _)| limit.identity.as_str()))
            .collect();
        self.0.lock().ended.retain(|(of, identity), _| of != tenant || seeding.contains(identity.as_str()));
    }

    /// Whether the caller may begin now.
    fn begin(&self, tenant: &str, now: Instant) -> bool {
        let mut state = self.0.lock();
        let due = state.not_before.get(tenant).is_none_or(|at| *at <= now);
        due && state.running.insert(tenant.to_owned())
    }

    fn finish(&self, tenant: &str, again: Option<Instant>) {
        let mut state = self.0.lock();
        state.running.remove(tenant);
        match again {
            Some(at) => state.not_before.insert(tenant.to_owned(), at),
            None => state.not_before.remove(tenant),
        };
    }
}

/// Seeds for ever.
pub async fn run(ctx: Arc<Context>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        for publication in ctx.publications.seeding() {
            let Some(limits) = due(&ctx, &publication) else { continue };
            let Ok(turn) = turns.clone().try_acquire_owned() else { break };
            let tenant = publication.snapshot.tenant.to_string();
            if ctx.seedings.begin(&tenant, Instant::now()) {
                let ctx = ctx.clone();
                tokio::spawn(async move {
                    let again = attempt(&ctx, &publication, &limits).await;
                    ctx.seedings.finish(&tenant, again);
                    drop(turn);
                });
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Limits that every pod charges by, and none by older policy any more.
fn due(ctx: &Context, publication: &Publication) -> Option<Vec<(Limit, u64)>> {
    let tenant = &publication.snapshot.tenant;
    let open = publication
        .seeding()
        .filter(|(limit, since)| !ctx.seedings.is_ended(tenant.as_str(), &limit.identity, *since));
    let limits: Vec<(Limit, u64)> = open.map(|(limit, since)| (limit.clone(), since)).collect();
    let revision = limits.iter().map(|(_, since)| *since).max()?;
    let now = Instant::now();
    let charged =
        ctx.fleet.reach(tenant, revision, now).is_applied() && ctx.fleet.undrained(revision, now).is_empty();
    charged.then_some(limits)
}

/// When to try again, if it failed.
async fn attempt(ctx: &Context, publication: &Publication, limits: &[(Limit, u64)]) -> Option<Instant> {
    let tenant = publication.snapshot.tenant.as_str();
    match seed(ctx, publication, limits).await {
        Ok(units) => {
            tracing::info!(tenant, limits = limits.len(), units, "what was used before is in the ledger");
            ctx.seedings.end(tenant, limits);
            ctx.queues.tenant.add(ObjectKey::cluster(tenant));
            None
        }
        Err(error) => {
            tracing::warn!(tenant, %error, "limits are not seeded yet: they refuse nothing; trying again");
            Some(Instant::now() + RETRY)
        }
    }
}

async fn seed(ctx: &Context, publication: &Publication, limits: &[(Limit, u64)]) -> Result<u64, Failure> {
    let snapshot = &publication.snapshot;
    let lanes = ctx.moves.lanes(snapshot);
    let ends = passage::all_passed(&ctx.nats, &lanes, SINK_PATIENCE).await?;
    // A lane that was left may be gone, and its rows not.
    if ends.is_empty() && lanes.len() == 1 {
        return Ok(0);
    }
    let mut units = 0;
    for (limit, _) in limits {
        let stored = history::Stored { snapshot, limit, ends: &ends };
        let used = history::uncharged(&ctx.events, &stored, clock::now().as_millisecond()).await?;
        units += used.iter().map(|used| used.units).sum::<u64>();
        records::add(ctx, limit.window, used).await?;
    }
    Ok(units)
}
