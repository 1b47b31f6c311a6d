//! From configuration to a running operator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::context::{Context, FirstPass, Queues, Settings};
use crate::controllers::{
    access_policy, api_key, lane_pool, plan, query_user, tenant, triggers, usage_limit,
};
use crate::engine::{Cache, watch, worker};
use crate::observe::Metrics;
use crate::snapshot::store::Store;
use crate::{
    audits, belonging, data_plane, durability, enforcement, fleet, installation, ledgers, moves, reaper,
    seeding, snapshot,
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
    /// A file that cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Its path.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// No way to the kube-apiserver.
    #[error("the kube-apiserver: {0}")]
    Kube(String),
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

/// The context and the client for watches.
pub struct Started {
    /// What controllers work with.
    pub context: Arc<Context>,
    /// The client for watches, which may be silent for minutes.
    watching: kube::Client,
}

/// Connects to everything, settles the installation's own objects and reads the policy bucket. Systems that are down are
/// waited for.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: &Config, metrics: Metrics) -> Result<Started, StartError> {
    let (kube, watching) = kube_clients().await?;
    let nats = jetstream::Client::connect(jetstream::Config {
        url: config.nats.url.clone(),
        user: config.nats.user.clone(),
        password: password(&config.nats.password_file)?,
        name: "operator".to_owned(),
    })
    .await?;
    let settings = settings(config)?;
    let key = password(&config.clickhouse.password_file)?;
    let events = clickhouse::Client::new(settings.clickhouse.endpoint(&config.clickhouse.user, &key));
    let vault = vault::Client::new(vault::Config {
        addr: config.vault.addr.clone(),
        role: config.vault.role.clone(),
        jwt_file: config.vault.jwt_file.clone(),
        mount: "jwt".to_owned(),
    })?;
    let (id, replicas) = (config.installation.as_str(), config.nats.replicas);
    retry("buckets", || installation::ensure(&nats, id, replicas)).await;
    let store = retry("the policy bucket", || Store::open(&nats, vault.clone())).await;
    let index = retry("the index", || store.index()).await;
    let told = index.value.map(|index| index.ledgers);
    let ledgers =
        retry("quota ledgers", || installation::ensure_ledgers(&nats, id, replicas, told.as_ref())).await;
    let stored = retry("the snapshots", || store.all()).await;
    let seats = retry("seats", || moves::stored(&nats)).await;
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
        plans: Arc::new(Cache::default()),
        tenants: Arc::new(Cache::default()),
        pools: Arc::new(Cache::default()),
        limits: Arc::new(Cache::default()),
        access: Arc::new(Cache::default()),
        keys: Arc::new(Cache::default()),
        queues: Queues::default(),
        belonging: belonging::Belonging::new(&config.namespace),
        records: snapshot::keys::KeyRecords::default(),
        publications: snapshot::publications::Publications::default(),
        fleet: fleet::Fleet::default(),
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
    Ok(Started { context: Arc::new(context), watching })
}

/// Starts every task; the operator lives as long as all of them do.
pub async fn run(started: Started) -> JoinSet<()> {
    let Started { context: ctx, watching } = started;
    let mut tasks = JoinSet::new();
    macro_rules! watch {
        ($cache:ident, $trigger:path) => {
            let (context, client) = (ctx.clone(), watching.clone());
            tasks.spawn(async move {
                watch::run(client, &context.$cache, |change| $trigger(&context, change)).await;
            });
        };
    }
    watch!(plans, triggers::plan);
    watch!(tenants, triggers::tenant);
    watch!(pools, triggers::lane_pool);
    watch!(limits, triggers::usage_limit);
    watch!(access, triggers::access_policy);
    watch!(keys, triggers::api_key);
    let context = ctx.clone();
    tasks.spawn(async move {
        if let Err(error) = enforcement::run(&context).await {
            tracing::error!(%error, "heartbeats are not followed");
        }
    });
    let context = ctx.clone();
    tasks.spawn(async move {
        if let Err(error) = audits::run(&context).await {
            tracing::error!(%error, "audits are not followed");
        }
    });
    let context = ctx.clone();
    tasks.spawn(async move {
        if let Err(error) = moves::follow(&context).await {
            tracing::error!(%error, "seats are not followed");
        }
    });
    // Nobody knows who enforces what before the heartbeats are known.
    ctx.fleet.wait_synced().await;
    // A snapshot says everything about a tenant, so none is compiled before everything is known.
    tokio::join!(
        ctx.plans.wait_synced(),
        ctx.tenants.wait_synced(),
        ctx.pools.wait_synced(),
        ctx.limits.wait_synced(),
        ctx.access.wait_synced(),
        ctx.keys.wait_synced()
    );
    ctx.first_pass.begin(ctx.tenants.list().iter().map(|tenant| tenant.name_any()));
    tracing::info!(tenants = ctx.tenants.list().len(), "caches are synced");
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
    tasks
}

/// What goes on beside the reconciles.
fn in_the_background(tasks: &mut JoinSet<()>, ctx: &Arc<Context>) {
    let context = ctx.clone();
    tasks.spawn(async move { data_plane::run(&context).await });
    tasks.spawn(ledgers::run(ctx.clone()));
    tasks.spawn(durability::run(ctx.clone()));
    tasks.spawn(seeding::run(ctx.clone()));
    tasks.spawn(moves::run(ctx.clone()));
    let context = ctx.clone();
    tasks.spawn(async move { reaper::run(&context).await });
    let context = ctx.clone();
    tasks.spawn(async move { snapshot::index::run(&context).await });
}

fn settings(config: &Config) -> Result<Settings, StartError> {
    let clickhouse: clickhouse::Address = config.clickhouse.url.parse()?;
    let query_address = config.clickhouse.query_url.as_deref().map(str::parse).transpose()?;
    Ok(Settings {
        installation: config.installation.clone(),
        namespace: config.namespace.clone(),
        endpoint: config.endpoint.clone(),
        query_address: query_address.unwrap_or_else(|| clickhouse.clone()),
        clickhouse,
        secret_poll: Duration::from_secs(config.secret_poll_seconds),
        resync: Duration::from_secs(config.resync_seconds),
        deletion_deadline: Duration::from_secs(config.deletion_deadline_seconds),
        replicas: config.nats.replicas,
        nats_monitors: config.nats.monitor_urls.clone(),
        lane_age: Duration::from_secs(config.nats.lane_hours * 3_600),
        lane_max_bytes: config.nats.lane_max_mib << 20,
    })
}

/// One client for calls, which must answer, and one for watches, which may be silent.
async fn kube_clients() -> Result<(kube::Client, kube::Client), StartError> {
    let failed = |error: &dyn std::error::Error| StartError::Kube(error.to_string());
    let watching = kube::Config::infer().await.map_err(|error| failed(&error))?;
    let mut calling = watching.clone();
    calling.read_timeout = Some(KUBE_TIMEOUT);
    let client = |config| kube::Client::try_from(config).map_err(|error: kube::Error| failed(&error));
    Ok((client(calling)?, client(watching)?))
}

fn password(path: &Path) -> Result<String, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| StartError::File { path: path.display().to_string(), error })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
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
