//! Users by which tenants query their own databases: what is wanted, what is there, and the steps between them.
//!
//! # Rules of [`QueryUsers`]
//! - `observe` never guesses: anything but a clear answer is an error.
//! - `execute` looks at the stamp again before it writes and refuses a user that is not the owner's.
//! - After `execute` of a plan's step, `plan(want, observe())` has none. Executing a step twice is harmless.
//! - A user is made with its limits in one statement, and may read only afterwards: at no time it may do more than it should.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod live;
mod plan;
mod spec;
mod sql;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use event::Stamp;

use crate::error::{ClickHouseError, code};
pub use live::LiveQueryUsers;
pub use plan::{Change, Owner, QueryUserStep, plan};
pub use spec::{Mark, PasswordHash, QueryUserSpec, UsersXml};
pub use trial::{Breach, trial};

/// A user as it was found, as far as we set it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryUserState {
    /// Name.
    pub user: String,
    /// Whose it is, if it says so.
    pub mark: Option<Mark>,
    /// The database that its queries are about if they name none.
    pub database: String,
    /// Every right of it: what, and on what.
    pub grants: BTreeSet<String>,
    /// Value of each of its own settings that is constant.
    pub constants: BTreeMap<String, String>,
    /// Settings that are not constant, inherited profiles and granted roles: it should have none.
    pub others: u64,
}

impl QueryUserState {
    /// Its owner, if it carries a stamp.
    pub fn stamp(&self) -> Option<&Stamp> {
        self.mark.as_ref().map(|mark| &mark.stamp)
    }

    /// Whether it is as it should be.
    pub fn is(&self, want: &QueryUserSpec) -> bool {
        *self == Self::of(want)
    }

    /// As a user is that was just made.
    fn of(spec: &QueryUserSpec) -> Self {
        let constants: BTreeMap<String, String> =
            spec.settings().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self {
            user: spec.user.clone(),
            mark: Mark::of(|name| constants.get(name).map(String::as_str)),
            database: spec.database.clone(),
            grants: spec.views().iter().map(|view| granted("SELECT", &spec.database, view)).collect(),
            constants,
            others: 0,
        }
    }
}

/// A right as it is compared.
fn granted(access: &str, database: &str, table: &str) -> String {
    format!("{access} ON {database}.{table}")
}

/// A user of that name is there and was not made for the tenant by this installation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user {user} exists and was not created for this tenant by this installation; it is not touched")]
pub struct NotOurs {
    /// The user.
    pub user: String,
}

/// Why a change of users did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryUserError {
    /// The server has no storage of users that can be written.
    #[error("the server stores no users")]
    NoStorage,
    /// Whoever asks lacks a right; the server's words name it.
    #[error("ClickHouse denies it: {0}")]
    Forbidden(String),
    /// Not touched.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// ClickHouse did not do it; see there.
    #[error(transparent)]
    ClickHouse(ClickHouseError),
}

impl From<ClickHouseError> for QueryUserError {
    fn from(error: ClickHouseError) -> Self {
        match error {
            error if error.code() == Some(code::NO_ACCESS_STORAGE) => Self::NoStorage,
            ClickHouseError::Denied { code: code::ACCESS_DENIED, message } => Self::Forbidden(message),
            other => Self::ClickHouse(other),
        }
    }
}

/// Users of one ClickHouse. The rules are those of the module.
pub trait QueryUsers: Send + Sync {
    /// What is known of `user`; `None` if there is none.
    fn observe(
        &self,
        user: &str,
    ) -> impl Future<Output = Result<Option<QueryUserState>, QueryUserError>> + Send;

    /// Executes the step of a plan.
    fn execute(
        &self,
        step: &QueryUserStep,
        owner: &Owner,
    ) -> impl Future<Output = Result<(), QueryUserError>> + Send;
}
