//! What the dashboards read from ClickHouse: one file a panel, each with its statement and its typed row.
//!
//! Statements are tenant-scoped by construction: the text of a statement is made from the caller's [`TenantPolicy`] alone,
//! which names the database, and everything that a user sent is a bound parameter. They read the view
//! `tenant_<tenant>.events`, so an event is on the dashboard as soon as it is stored; what rollups cover of a range they take from
//! there (`cover` decides, `source` says it to the server, `directory` keeps the two together).

pub mod by_feature;
pub mod cover;
pub mod directory;
pub mod history;
pub mod limits;
pub mod pieces;
pub mod source;
pub mod summary;
pub mod trends;
pub mod user;
pub mod violations;

use std::time::Duration;

use clickhouse::{ClickHouseError, Query};
use policy::tenant::TenantPolicy;

use crate::problem::Problem;

/// How long a query may run: beyond it the range is too long for what the server can do now.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Memory of one query, bytes: exact counts of users hold a set of them.
const MEMORY_LIMIT: &str = "1000000000";

/// The view that holds the tenant's events, and no other tenant's.
fn view(policy: &TenantPolicy) -> String {
    named(policy, event::names::EVENTS_VIEW)
}

/// A view of the tenant's database.
fn named(policy: &TenantPolicy, view: &str) -> String {
    // Both names consist of letters, digits and '_' only (`TenantName` refuses anything else).
    format!("`{}`.`{view}`", policy.name().database())
}

/// A statement that only reads, within bounds.
fn bounded(sql: String) -> Query {
    // 2, not 1: our user's profile may say so already, and then any other value is refused. Both forbid to change data.
    Query::new(sql)
        .setting("readonly", "2")
        .max_execution_time(TIME_LIMIT)
        .setting("max_memory_usage", MEMORY_LIMIT)
}

/// What a failed query means to the one who asked. The cause goes to the log, where the tenant's view may be named.
pub fn failed(policy: &TenantPolicy, error: &ClickHouseError) -> Problem {
    let tenant = policy.name();
    match error {
        ClickHouseError::Overloaded { .. } => {
            tracing::warn!(%tenant, %error, "a query was refused or cut off");
            Problem::unavailable(
                "the query took too long or the store is busy: try a shorter range, or again later",
            )
        }
        ClickHouseError::Unavailable(_) | ClickHouseError::Unknown(_) => {
            tracing::warn!(%tenant, %error, "a query was not answered");
            Problem::unavailable("the store of events does not answer")
        }
        error if error.is_missing() => {
            tracing::warn!(%tenant, %error, "the tenant has no view of its events");
            Problem::unavailable("the tenant's store of events is not set up yet")
        }
        ClickHouseError::Denied { .. } => {
            tracing::error!(%tenant, %error, "a query was denied");
            Problem::unavailable("the store of events does not let us read")
        }
        ClickHouseError::Rejected { .. } | ClickHouseError::Decode(_) => {
            tracing::error!(%tenant, %error, "a query and the store disagree");
            Problem::internal()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use policy::tenant::TenantPolicy;

    /// Text that breaks out of a statement if it ever becomes part of one.
    pub const HOSTILE: &str = "x' OR 1=1 --\\`;{a:String}";

    /// Fails unless the statement names only the tenant's views and `HOSTILE` is nowhere in it.
    pub fn assert_scoped(policy: &TenantPolicy, sql: &str) {
        let own = format!("FROM `{}`.`", policy.name().database());
        assert!(sql.contains(&own), "{sql}");
        assert_eq!(sql.matches("FROM `").count(), sql.matches(&own).count(), "{sql}");
        assert_eq!(
            sql.matches("FROM ").count(),
            sql.matches("FROM `").count() + sql.matches("FROM (").count(),
            "{sql}"
        );
        for part in ["OR 1=1", "--", ";"] {
            assert!(!sql.contains(part), "{part} in {sql}");
        }
    }

    #[test]
    fn the_database_follows_from_the_tenant() {
        let policy = crate::fixtures::policy("wayne-enterprises", vec![]);
        assert_eq!(super::view(&policy), "`tenant_wayne_enterprises`.`events`");
    }
}
