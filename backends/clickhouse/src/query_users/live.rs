//! Users of a real ClickHouse.

use serde::Deserialize;

use super::plan::{Owner, QueryUserStep};
use super::spec::Mark;
use super::sql::statements;
use super::{NotOurs, QueryUserError, QueryUserState, QueryUsers, granted};
use crate::error::ClickHouseError;
use crate::query::{Client, Query};

/// Users behind a [`Client`] of the operator's user.
#[derive(Clone)]
pub struct LiveQueryUsers {
    client: Client,
}

#[derive(Deserialize)]
struct UserRow {
    default_database: String,
    roles: u64,
}

#[derive(Deserialize)]
struct GrantRow {
    access: String,
    database: String,
    table: String,
}

#[derive(Deserialize)]
struct SettingRow {
    name: String,
    value: String,
    constant: bool,
}

impl LiveQueryUsers {
    /// Users of the server behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn state(&self, user: &str) -> Result<Option<QueryUserState>, ClickHouseError> {
        let found: Option<UserRow> = Query::new(
            "SELECT ifNull(default_database, '') AS default_database, \
             (SELECT count() FROM system.role_grants WHERE user_name = {user:String}) AS roles \
             FROM system.users WHERE name = {user:String}",
        )
        .bind("user", user)
        .fetch_optional(&self.client)
        .await?;
        let Some(found) = found else { return Ok(None) };
        // A right on a column, or one that may be passed on, is another right than the one that we give.
        let grants: Vec<GrantRow> = Query::new(
            "SELECT concat(toString(access_type), if(is_partial_revoke, ' REVOKED', ''), \
             if(grant_option, ' WITH GRANT OPTION', ''), ifNull(concat(' OF ', column), '')) AS access, \
             ifNull(database, '*') AS database, ifNull(table, '*') AS table \
             FROM system.grants WHERE user_name = {user:String}",
        )
        .bind("user", user)
        .fetch(&self.client)
        .await?;
        let settings: Vec<SettingRow> = Query::new(
            "SELECT ifNull(setting_name, '') AS name, ifNull(value, '') AS value, \
             toBool(ifNull(writability = 'CONST', 0) AND min IS NULL AND max IS NULL) AS constant \
             FROM system.settings_profile_elements WHERE user_name = {user:String}",
        )
        .bind("user", user)
        .fetch(&self.client)
        .await?;
        let mut state = QueryUserState {
            user: user.to_owned(),
            database: found.default_database,
            grants: grants.iter().map(|row| granted(&row.access, &row.database, &row.table)).collect(),
            others: found.roles,
            ..QueryUserState::default()
        };
        for SettingRow { name, value, constant } in settings {
            if constant {
                state.constants.insert(name, value);
            } else {
                state.others += 1;
            }
        }
        state.mark = Mark::of(|name| state.constants.get(name).map(String::as_str));
        Ok(Some(state))
    }
}

impl QueryUsers for LiveQueryUsers {
    async fn observe(&self, user: &str) -> Result<Option<QueryUserState>, QueryUserError> {
        Ok(self.state(user).await?)
    }

    async fn execute(&self, step: &QueryUserStep, owner: &Owner) -> Result<(), QueryUserError> {
        if let Some(found) = self.state(&step.user).await?.filter(|found| !owner.holds(found.stamp())) {
            return Err(NotOurs { user: found.user.clone() }.into());
        }
        for statement in statements(step) {
            Query::new(statement).run(&self.client).await?;
        }
        Ok(())
    }
}
