//! What every controller works with.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{Plan, Tenant};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::belonging::Belonging;
use crate::caches::Caches;
use crate::engine::queue::GroupOf;
use crate::engine::{ObjectKey, Queue};
use crate::fleet::Fleet;
use crate::ledgers::Known;
use crate::moves::Moves;
use crate::observe::Metrics;
use crate::seeding::Seedings;
use crate::snapshot::keys::KeyRecords;
use crate::snapshot::publications::Publications;
use crate::snapshot::store::Store;

/// Settings that controllers decide by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Id of this installation.
    pub installation: String,
    /// Namespace of the platform itself.
    pub namespace: String,
    /// Public URL of ingest.
    pub endpoint: String,
    /// ClickHouse.
    pub clickhouse: clickhouse::Server,
    /// ClickHouse as tenants reach it.
    pub query_address: clickhouse::Address,
    /// Time between two looks at the Secret of an ApiKey.
    pub secret_poll: Duration,
    /// Time between two looks at a tenant's stream, database and key.
    pub resync: Duration,
    /// How long a deleted tenant that retains its data waits for a system that does not answer.
    pub deletion_deadline: Duration,
    /// Copies of every stream.
    pub replicas: usize,
    /// Monitoring addresses of the NATS servers, `http://host:port`.
    pub nats_monitors: Vec<String>,
    /// How long lanes keep packs.
    pub lane_age: Duration,
    /// Bytes that a lane reserves at most.
    pub lane_max_bytes: u64,
    /// How long the webhook's certificates are valid; `None`: it is not served.
    pub webhook: Option<crate::webhook::Lifetimes>,
}

/// The queues of the controllers.
pub struct Queues {
    /// Plans.
    pub plan: Arc<Queue>,
    /// Tenants.
    pub tenant: Arc<Queue>,
    /// Tenants' streams, databases and keys.
    pub slice: Arc<Queue>,
    /// Tenants' query users.
    pub query_user: Arc<Queue>,
    /// LanePools.
    pub lane_pool: Arc<Queue>,
    /// UsageLimits.
    pub usage_limit: Arc<Queue>,
    /// AccessPolicies.
    pub access_policy: Arc<Queue>,
    /// ApiKeys.
    pub api_key: Arc<Queue>,
}

impl Queues {
    /// Empty ones, whose workers tenants share: what lies in a tenant's namespaces is the tenant's.
    pub fn new(belonging: &Arc<Belonging>) -> Self {
        let belonging = belonging.clone();
        let group_of: GroupOf = Arc::new(move |key: &ObjectKey| match key.namespace.as_str() {
            "" => key.name.clone(),
            namespace => belonging.holder(namespace).unwrap_or_else(|| namespace.to_owned()),
        });
        let queue = |controller| Arc::new(Queue::grouped(controller, group_of.clone()));
        Self {
            plan: queue("plan"),
            tenant: queue("tenant"),
            slice: queue("slice"),
            query_user: queue("queryuser"),
            lane_pool: queue("lanepool"),
            usage_limit: queue("usagelimit"),
            access_policy: queue("accesspolicy"),
            api_key: queue("apikey"),
        }
    }

    /// All, under the names of their controllers.
    pub fn all(&self) -> [(&'static str, &Arc<Queue>); 8] {
        [
            ("plan", &self.plan),
            ("tenant", &self.tenant),
            ("slice", &self.slice),
            ("queryuser", &self.query_user),
            ("lanepool", &self.lane_pool),
            ("usagelimit", &self.usage_limit),
            ("accesspolicy", &self.access_policy),
            ("apikey", &self.api_key),
        ]
    }

    /// What is queued from now on was there before (`true`), or has just changed (`false`).
    pub fn initial(&self, initial: bool) {
        self.all().iter().for_each(|(_, queue)| queue.initial(initial));
    }
}

/// Everything a reconcile needs; shared by all.
pub struct Context {
    /// Settings.
    pub settings: Settings,
    /// The kube-apiserver.
    pub kube: kube::Client,
    /// NATS.
    pub nats: jetstream::Client,
    /// ClickHouse.
    pub clickhouse: clickhouse::databases::LiveDatabases,
    /// Its users.
    pub users: clickhouse::query_users::LiveQueryUsers,
    /// Vault.
    pub vault: vault::Client,
    /// The policy bucket.
    pub store: Store,
    /// Stored events, of which it reads what ledgers are seeded from.
    pub events: clickhouse::Client,
    /// The quota ledgers.
    pub ledgers: Known,
    /// What the kube-apiserver holds of our kinds.
    pub caches: Caches,
    /// Queues.
    pub queues: Queues,
    /// Which namespace belongs to whom.
    pub belonging: Arc<Belonging>,
    /// Digests of the keys in Secrets.
    pub records: KeyRecords,
    /// What stands in the policy bucket.
    pub publications: Publications,
    /// Ingest pods.
    pub fleet: Fleet,
    /// How much of each tenant-wide limit is used.
    pub levels: crate::levels::Levels,
    /// What the lanes' audits say.
    pub audits: crate::audits::Audits,
    /// Tenants that have moved between lanes.
    pub moves: Moves,
    /// What the NATS servers say of their disks.
    pub durability: crate::durability::Durability,
    /// What the last look at each tenant's slice said.
    pub slices: crate::controllers::tenant::Slices,
    /// What the last look at each tenant's query user said.
    pub query_users: crate::controllers::query_user::Looks,
    /// Shards of pools that are in place.
    pub shards: crate::controllers::lane_pool::Shards,
    /// Limits that are seeded from what is stored.
    pub seedings: Seedings,
    /// Metrics.
    pub metrics: Metrics,
    /// Whether the index may be written.
    pub first_pass: FirstPass,
}

impl Context {
    /// Queues every limit, access policy and key of these namespaces.
    pub fn queue_namespaces<'a>(&self, namespaces: impl IntoIterator<Item = &'a String>) {
        for namespace in namespaces {
            for limit in self.caches.limits.in_namespace(namespace) {
                self.queues.usage_limit.add(ObjectKey::of(limit.as_ref()));
            }
            for policy in self.caches.access.in_namespace(namespace) {
                self.queues.access_policy.add(ObjectKey::of(policy.as_ref()));
            }
            for key in self.caches.keys.in_namespace(namespace) {
                self.queues.api_key.add(ObjectKey::of(key.as_ref()));
            }
        }
    }

    /// The tenant that a namespace belongs to.
    pub fn tenant_of(&self, namespace: &str) -> Option<Arc<Tenant>> {
        self.caches.tenants.get(&ObjectKey::cluster(&self.belonging.holder(namespace)?))
    }

    /// The plan of a tenant.
    pub fn plan_of(&self, tenant: &Tenant) -> Option<Arc<Plan>> {
        self.caches.plans.get(&ObjectKey::cluster(&tenant.spec.plan_ref.name))
    }
}

/// Tenants that were not looked at since this process started. The index says "this bucket is complete", so it waits.
#[derive(Default)]
pub struct FirstPass {
    remaining: Mutex<Option<HashSet<String>>>,
    wanted: Notify,
}

impl FirstPass {
    /// Begins with all tenants that exist.
    pub fn begin(&self, tenants: impl Iterator<Item = String>) {
        *self.remaining.lock() = Some(tenants.collect());
        self.wanted.notify_one();
    }

    /// A tenant was looked at, or is gone.
    pub fn passed(&self, tenant: &str) {
        if let Some(remaining) = self.remaining.lock().as_mut() {
            remaining.remove(tenant);
        }
    }

    /// Whether every tenant was looked at.
    pub fn is_complete(&self) -> bool {
        self.remaining.lock().as_ref().is_some_and(HashSet::is_empty)
    }

    /// Says that the index may have changed.
    pub fn want_index(&self) {
        self.wanted.notify_one();
    }

    /// Returns when the index may have changed.
    pub async fn index_wanted(&self) {
        self.wanted.notified().await;
    }
}
