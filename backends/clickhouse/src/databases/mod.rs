//! Databases: what is wanted, what is there, and the steps between them.
//!
//! # Rules of [`Databases`]
//! - `observe` never guesses: anything but a clear answer is `Observed::Unknown`.
//! - `execute` and `delete` look at the stamp again before they write and refuse what is not stamped as the step expects.
//!   ClickHouse has no compare-and-set, so two operators are kept apart by their lease, not by this check.
//! - After `execute` of every step, `plan(want, observe())` has no steps. Executing a step twice is harmless.
//! - Nothing but `delete` drops a database, table or column; rows go only by `forget`, or past their declared retention.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod live;
mod parse;
mod plan;
mod spec;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use event::names::POOL_PREFIX;
use event::{Lane, Observed, Stamp, TenantName, TenantNumber};

use crate::error::ClickHouseError;
pub use crate::schema::Kept;
use crate::schema::{Table, View};
pub use live::LiveDatabases;
pub use plan::{Blocked, Change, DatabaseStep, Plan, adopt, plan, release};
pub use spec::{DatabaseSpec, ViewSpec};

/// A database as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    /// Name.
    pub name: String,
    /// Its owner, if its comment is a stamp.
    pub stamp: Option<Stamp>,
    /// The lane tables in it.
    pub tables: BTreeMap<Table, TableState>,
    /// Its views.
    pub views: BTreeMap<View, ViewState>,
}

impl DatabaseState {
    /// The lanes whose rows its views show, the tenant's own first.
    pub fn lanes(&self, tenant: &TenantName) -> Vec<Lane> {
        let select = self.views.get(&View::Events).map_or("", |view| &view.select);
        let lane = |database: &str| match database.strip_prefix(POOL_PREFIX) {
            Some(shard) => shard.parse().ok().map(Lane::Pooled),
            None => (database == tenant.database()).then(|| Lane::Dedicated(tenant.clone())),
        };
        let mut lanes: Vec<Lane> = spec::named(select).filter_map(lane).collect();
        lanes.sort();
        lanes
    }
}

/// A table as it was found, as far as we set it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableState {
    /// Type of each column.
    pub columns: BTreeMap<String, String>,
    /// Names of its skip indexes.
    pub indexes: BTreeSet<String>,
    /// Its retention rule.
    pub ttl: String,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
    /// Its sorting key.
    pub sorting_key: String,
    /// Its partition key.
    pub partition_key: String,
}

/// A view as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewState {
    /// Its statement.
    pub select: String,
    /// It reads with the rights of the user who planned it, so that who queries it needs no right on raw tables.
    pub definer: bool,
}

/// Why a change of databases did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// The database carries another stamp than the step expects; nothing was changed.
    #[error("the database belongs to {found:?}")]
    StampMismatch {
        /// The stamp it carries.
        found: Option<Stamp>,
    },
    /// ClickHouse did not do it; see there. After an unknown outcome observe again.
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
}

/// Databases of one ClickHouse. The rules are those of the module.
pub trait Databases: Send + Sync {
    /// What is known of database `name`.
    fn observe(&self, name: &str) -> impl Future<Output = Observed<DatabaseState>> + Send;

    /// Executes one step of a plan.
    fn execute(&self, step: &DatabaseStep) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Drops database `name` and everything in it, if its stamp is `expected`; an absent database is a success.
    fn delete(&self, name: &str, expected: &Stamp) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Removes every row of a tenant from the tables of database `name`, which is a pool's; success says that they are gone. An
    /// absent database is a success.
    fn forget(
        &self,
        name: &str,
        tenant: TenantNumber,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Names of all databases that begin with `prefix`, sorted.
    fn list_names(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, DatabaseError>> + Send;
}
