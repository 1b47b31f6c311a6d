//! From configuration to a running operator.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use policy::snapshot::{Index, Snapshot};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinSet;

use crate::caches::Caches;
use crate::config::{ClickHouse, Config};
use crate::context::{Context, FirstPass, Queues, Settings};
use crate::controllers::{
    access_policy, api_key, lane_pool, plan, query_user, tenant, triggers, usage_limit,
};
use crate::engine::worker;
use crate::leadership::{Candidate, Term};
use crate::observe::Metrics;
use crate::snapshot::store::{Store, Stored};
use crate::{
    audits, belonging, data_plane, durability, enforcement, fleet, installation, kube_clients, leadership,
    ledgers, levels, moves, reaper, seeding, snapshot, webhook,
};

/// Time before a failed start-up step is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Longest time that a call to the kube-apiserver may take.
const KUBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Workers of each kind.
const WORKERS: usize = 8;

/// Why the operator cannot start; retrying would not mend it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No way to the kube-apiserver.
    #[error("the kube-apiserver: {0}")]
    Kube(#[from] kube_clients::NoClient),
    /// Two operators could not be told apart.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// No way to NATS.
    #[error(transparent)]
    Nats(#[from] jetstream::ConnectError),
    /// No way to ClickHouse.
    #[error(transparent)]
    ClickHouse(#[from] clickhouse::InvalidEndpoint),
    /// No way to Vault.
    #[error(transparent)]
    Vault(#[from] vault::VaultError),
}

/// Connected, and following what is declared: everything that needs no lease.
pub struct Standby {
    /// What is declared.
    pub caches: Caches,
    /// Ends when it is not followed any more.
    pub watches: JoinSet<()>,
    /// NATS; reads only, until there is a term.
    pub nats: jetstream::Client,
    /// Takes part in the election.
    pub candidate: Arc<Candidate>,
}

/// Connects and begins to follow what is declared; changes nothing.
///
/// # Errors
/// See [`StartError`].
pub async fn stand_by(config: &Config) -> Result<Standby, StartError> {
    let caches = Caches::default();
    let watches = caches.watch(&kube_clients::watching().await?);
    let nats = jetstream::Client::connect(jetstream::Config {
        url: config.nats.url.clone(),
        ca_file: config.nats.ca_file.clone(),
        user: config.nats.user.clone(),
        password_file: config.nats.password_file.clone(),
        name: "operator".to_owned(),
    })
    .await?;
    let identity = format!("{}-{}", config.pod_name, random_suffix()?);
    let candidate =
        Candidate::new(kube_clients::electing(leadership::CALL).await?, &config.namespace, identity);
    Ok(Standby { caches, watches, nats, candidate: Arc::new(candidate) })
}

/// Settles the installation's own objects and reads the policy bucket; this process leads. Systems that are down are waited for.
///
/// # Errors
/// See [`StartError`].
pub async fn lead(
    config: &Config,
    metrics: Metrics,
    standby: &Standby,
    term: &Arc<Term>,
) -> Result<Arc<Context>, StartError> {
    let kube = kube_clients::calling(KUBE_TIMEOUT, term.gate()).await?;
    let nats = standby.nats.clone().behind(term.gate());
    let settings = settings(config)?;
    let events = stored_events(config, &settings)?.behind(term.gate());
    let vault = vault(config)?.behind(term.gate());
    let (id, replicas) = (config.installation.as_str(), config.nats.replicas);
    retry("buckets", || installation::ensure(&nats, id, replicas)).await;
    let store = retry("the policy bucket", || Store::open(&nats, vault.clone(), term.clone())).await;
    let index = retry("the index", || store.index()).await;
    let told = index.value.as_ref().map(|index| index.ledgers.clone());
    let stored = retry("the snapshots", || store.all()).await;
    let newest = newest_epoch(&index, &stored);
    retry("the epoch", || standby.candidate.raise(term, newest + 1)).await;
    let ledgers =
        retry("quota ledgers", || installation::ensure_ledgers(&nats, id, replicas, told.as_ref())).await;
    let seats = retry("seats", || moves::stored(&nats)).await;
    let belonging = Arc::new(belonging::Belonging::new(&config.namespace));
    let context = Context {
        settings,
        kube,
        nats,
        clickhouse: clickhouse::databases::LiveDatabases::new(events.clone()),
        users: clickhouse::query_users::LiveQueryUsers::new(events.clone()),
        vault,
        store,
        events,
        ledgers: ledgers::Known::new(ledgers),
        caches: standby.caches.clone(),
        queues: Queues::new(&belonging),
        belonging,
        records: snapshot::keys::KeyRecords::default(),
        publications: snapshot::publications::Publications::default(),
        fleet: fleet::Fleet::default(),
        levels: levels::Levels::default(),
        audits: audits::Audits::default(),
        moves: moves::Moves::default(),
        durability: durability::Durability::default(),
        slices: tenant::Slices::default(),
        query_users: query_user::Looks::default(),
        shards: lane_pool::Shards::default(),
        seedings: seeding::Seedings::default(),
        metrics,
        first_pass: FirstPass::default(),
    };
    for entry in &seats {
        context.moves.put(entry);
    }
    for (name, stored) in stored {
        if let Some(snapshot) = stored.value {
            context.belonging.record(name.as_str(), &snapshot.namespaces);
            context.publications.put(stored.revision, snapshot);
        }
    }
    Ok(Arc::new(context))
}

/// ClickHouse as the operator's user.
///
/// # Errors
/// When its password cannot be read.
pub fn stored_events(config: &Config, settings: &Settings) -> Result<clickhouse::Client, StartError> {
    let ClickHouse { user, password_file, .. } = &config.clickhouse;
    Ok(clickhouse::Client::new(settings.clickhouse.endpoint_of(user, password_file)?))
}

fn vault(config: &Config) -> Result<vault::Client, StartError> {
    Ok(vault::Client::new(vault::Config {
        addr: config.vault.addr.clone(),
        ca_file: config.vault.ca_file.clone(),
        role: config.vault.role.clone(),
        jwt_file: config.vault.jwt_file.clone(),
        mount: "jwt".to_owned(),
    })?)
}

/// The highest epoch under which anything in the bucket was written.
fn newest_epoch(index: &Stored<Index>, snapshots: &[(event::TenantName, Stored<Snapshot>)]) -> u64 {
    let of_index = index.value.as_ref().map(|index| index.epoch);
    let of_snapshots = snapshots.iter().filter_map(|(_, stored)| Some(stored.value.as_ref()?.epoch));
    of_snapshots.chain(of_index).max().unwrap_or_default()
}

/// Starts every task; the operator leads as long as all of them live. `None`: one has ended already.
pub async fn run(ctx: Arc<Context>) -> Option<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    macro_rules! follow {
        ($what:literal, $run:path) => {
            let context = ctx.clone();
            tasks.spawn(async move {
                if let Err(error) = $run(&context).await {
                    tracing::error!(%error, concat!($what, " are not followed"));
                }
            });
        };
    }
    follow!("heartbeats", enforcement::run);
    follow!("audits", audits::run);
    follow!("seats", moves::follow);
    follow!("levels of limits", levels::run);
    // Nobody knows who enforces what before the heartbeats are known.
    tokio::select! {
        () = ctx.fleet.wait_synced() => {}
        _ = tasks.join_next() => return None,
    }
    macro_rules! listen {
        ($cache:ident, $trigger:path) => {
            // Weak: the caches are among what the context holds.
            let context = Arc::downgrade(&ctx);
            ctx.caches.$cache.listen(move |change| {
                if let Some(context) = context.upgrade() {
                    $trigger(&context, change);
                }
            });
        };
    }
    // What an editor changes meanwhile may go behind as well; it takes milliseconds.
    ctx.queues.initial(true);
    listen!(plans, triggers::plan);
    listen!(tenants, triggers::tenant);
    listen!(pools, triggers::lane_pool);
    listen!(limits, triggers::usage_limit);
    listen!(access, triggers::access_policy);
    listen!(keys, triggers::api_key);
    ctx.queues.initial(false);
    ctx.first_pass.begin(ctx.caches.tenants.list().iter().map(|tenant| tenant.name_any()));
    macro_rules! work {
        ($name:literal, $queue:ident, $reconcile:path) => {
            let context = ctx.clone();
            let metrics = ctx.metrics.controller($name, WORKERS);
            worker::spawn(&mut tasks, WORKERS, &ctx.queues.$queue, &metrics, move |key| {
                $reconcile(context.clone(), key)
            });
        };
    }
    work!("plan", plan, plan::reconcile);
    work!("tenant", tenant, tenant::reconcile);
    work!("slice", slice, tenant::slices::reconcile);
    work!("queryuser", query_user, query_user::reconcile);
    work!("lanepool", lane_pool, lane_pool::reconcile);
    work!("usagelimit", usage_limit, usage_limit::reconcile);
    work!("accesspolicy", access_policy, access_policy::reconcile);
    work!("apikey", api_key, api_key::reconcile);
    in_the_background(&mut tasks, &ctx);
    Some(tasks)
}

/// What goes on beside the reconciles.
fn in_the_background(tasks: &mut JoinSet<()>, ctx: &Arc<Context>) {
    let context = ctx.clone();
    tasks.spawn(async move { data_plane::run(&context).await });
    tasks.spawn(ledgers::run(ctx.clone()));
    tasks.spawn(durability::run(ctx.clone()));
    tasks.spawn(seeding::run(ctx.clone()));
    tasks.spawn(moves::run(ctx.clone()));
    tasks.spawn(webhook::keeper::run(ctx.clone()));
    let context = ctx.clone();
    tasks.spawn(async move { reaper::run(&context).await });
    let context = ctx.clone();
    tasks.spawn(async move { snapshot::index::run(&context).await });
}

/// Tells two runs of one pod apart.
fn random_suffix() -> Result<String, StartError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoRandomness)?;
    Ok(event::ids::base32(u128::from_be_bytes(bytes)))
}

/// What controllers decide by.
///
/// # Errors
/// When an address is none.
pub fn settings(config: &Config) -> Result<Settings, StartError> {
    let clickhouse = clickhouse::Server::new(&config.clickhouse.url, config.clickhouse.ca_file.as_deref())?;
    let query_address = config.clickhouse.query_url.as_deref().map(str::parse).transpose()?;
    Ok(Settings {
        installation: config.installation.clone(),
        namespace: config.namespace.clone(),
        endpoint: config.endpoint.clone(),
        query_address: query_address.unwrap_or_else(|| clickhouse.address().clone()),
        clickhouse,
        secret_poll: Duration::from_secs(config.secret_poll_seconds),
        resync: Duration::from_secs(config.resync_seconds),
        deletion_deadline: Duration::from_secs(config.deletion_deadline_seconds),
        replicas: config.nats.replicas,
        nats_monitors: config.nats.monitor_urls.clone(),
        lane_age: Duration::from_secs(config.nats.lane_hours * 3_600),
        lane_max_bytes: config.nats.lane_max_mib << 20,
        webhook: config.webhook.listen.map(|_| config.webhook.lifetimes()),
    })
}

/// Tries until it succeeds, and says why it did not.
async fn retry<T, E, F>(what: &str, step: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    loop {
        match step().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(what, %error, "start-up waits"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
