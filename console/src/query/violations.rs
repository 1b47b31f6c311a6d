//! What was refused, warned or observed: by rule, and by user.

use clickhouse::query::Millis;
use clickhouse::{ClickHouseError, Client, Query};
use event::UserKey;
use event::names::VIOLATIONS_VIEW;
use policy::tenant::TenantPolicy;
use serde::{Deserialize, Serialize};

use super::{bounded, view};
use crate::api::range::{DAY_MS, Range};

/// How far before the range an event may lie that tells a user's name.
const NAMES_BACK_MS: i64 = 30 * DAY_MS;

/// The last rule of a page: what the list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRule {
    /// Attempts.
    pub attempts: u64,
    /// Identity of the rule.
    pub rule: String,
    /// `Limit` or `Access`.
    pub kind: String,
    /// `Refused`, `Warned` or `Observed`.
    pub effect: String,
}

/// The last user of a page: what the list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUser {
    /// Attempts.
    pub attempts: u64,
    /// Pseudonym.
    pub user: UserKey,
}

/// Attempts against one rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RuleRow {
    /// Identity of the rule.
    pub rule: String,
    /// `Limit` or `Access`.
    pub kind_name: String,
    /// `Refused`, `Warned` or `Observed`.
    pub effect_name: String,
    /// Attempts.
    pub attempts: u64,
    /// Distinct users.
    pub users: u64,
    /// Receipt of the first, Unix milliseconds.
    pub first_ms: i64,
    /// Receipt of the last, Unix milliseconds.
    pub last_ms: i64,
}

/// Attempts of one user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UserRow {
    /// Pseudonym, as a decimal number.
    key_text: String,
    /// Attempts.
    pub attempts: u64,
    /// Receipt of the first, Unix milliseconds.
    pub first_ms: i64,
    /// Receipt of the last, Unix milliseconds.
    pub last_ms: i64,
    /// By limit: identity, effect, attempts, first, last; most attempts first.
    pub limits: Vec<(String, String, u64, i64, i64)>,
}

impl UserRow {
    /// The pseudonym.
    pub fn user(&self) -> UserKey {
        UserKey(self.key_text.parse().unwrap_or_default())
    }
}

fn table(policy: &TenantPolicy) -> String {
    // Both names consist of letters, digits and '_' only.
    format!("`{}`.`{VIOLATIONS_VIEW}`", policy.name().database())
}

/// Rows of the range, by receipt of their first attempt; `second` is what the table is sorted by.
const IN_RANGE: &str = "second >= toDateTime({from:DateTime64(3, 'UTC')}) \
    AND second <= toDateTime({to:DateTime64(3, 'UTC')}) \
    AND first >= {from:DateTime64(3, 'UTC')} AND first < {to:DateTime64(3, 'UTC')}";

fn rules_sql(policy: &TenantPolicy) -> String {
    format!(
        "SELECT rule, toString(kind) AS kind_name, toString(effect) AS effect_name, sum(count) AS attempts, \
         uniqExact(user_key) AS users, toUnixTimestamp64Milli(min(first)) AS first_ms, \
         toUnixTimestamp64Milli(max(last)) AS last_ms FROM {} WHERE {IN_RANGE} \
         GROUP BY rule, kind_name, effect_name \
         HAVING {{first_page:Bool}} OR attempts < {{after:UInt64}} OR (attempts = {{after:UInt64}} \
         AND (rule, kind_name, effect_name) > ({{rule:String}}, {{kind:String}}, {{effect:String}})) \
         ORDER BY attempts DESC, rule, kind_name, effect_name LIMIT {{rows:UInt64}}",
        table(policy)
    )
}

fn users_sql(policy: &TenantPolicy) -> String {
    format!(
        "SELECT toString(user_key) AS key_text, sum(n) AS attempts, \
         toUnixTimestamp64Milli(min(f)) AS first_ms, toUnixTimestamp64Milli(max(l)) AS last_ms, \
         arraySort(x -> (-toInt64(x.3), x.1, x.2), groupArray((toString(rule), effect_name, n, \
         toUnixTimestamp64Milli(f), toUnixTimestamp64Milli(l)))) AS limits FROM \
         (SELECT user_key, rule, toString(effect) AS effect_name, sum(count) AS n, min(first) AS f, max(last) AS l \
         FROM {} WHERE {IN_RANGE} AND kind = 'Limit' GROUP BY user_key, rule, effect_name) \
         GROUP BY user_key \
         HAVING {{first_page:Bool}} OR attempts < {{after:UInt64}} OR (attempts = {{after:UInt64}} \
         AND user_key > {{user:UInt128}}) ORDER BY attempts DESC, user_key LIMIT {{rows:UInt64}}",
        table(policy)
    )
}

fn names_sql(policy: &TenantPolicy) -> String {
    format!(
        "SELECT toString(user_key) AS key_text, any(user) AS name FROM {} \
         WHERE time >= {{since:DateTime64(3, 'UTC')}} AND user != '' \
         AND has({{keys:Array(UInt128)}}, user_key) GROUP BY user_key",
        view(policy)
    )
}

fn ranged(sql: String, range: Range, limit: usize) -> Query {
    bounded(sql)
        .bind("from", Millis(range.from_ms))
        .bind("to", Millis(range.to_ms))
        // One more, to know whether anything follows.
        .bind("rows", limit as u64 + 1)
}

/// A page of at most `limit` rules, most attempts first, and whether more follow.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn rules(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    after: Option<&LastRule>,
    limit: usize,
) -> Result<(Vec<RuleRow>, bool), ClickHouseError> {
    let text = |of: fn(&LastRule) -> &String| after.map_or("", |last| of(last).as_str());
    let query = ranged(rules_sql(policy), range, limit)
        .bind("first_page", after.is_none())
        .bind("after", after.map_or(0, |last| last.attempts))
        .bind("rule", text(|last| &last.rule))
        .bind("kind", text(|last| &last.kind))
        .bind("effect", text(|last| &last.effect));
    Ok(cut(query.fetch(client).await?, limit))
}

/// A page of at most `limit` users who ran against limits, most attempts first, and whether more follow.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn users(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    after: Option<&LastUser>,
    limit: usize,
) -> Result<(Vec<UserRow>, bool), ClickHouseError> {
    let query = ranged(users_sql(policy), range, limit)
        .bind("first_page", after.is_none())
        .bind("after", after.map_or(0, |last| last.attempts))
        .bind("user", after.map_or(UserKey(0), |last| last.user));
    Ok(cut(query.fetch(client).await?, limit))
}

/// Names of `users`, as far as events of the range or the 30 days before it tell them.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn names(
    client: &Client,
    policy: &TenantPolicy,
    range: Range,
    users: &[UserKey],
) -> Result<Vec<(UserKey, String)>, ClickHouseError> {
    #[derive(Deserialize)]
    struct Row {
        key_text: String,
        name: String,
    }
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let since = Millis(range.from_ms.saturating_sub(NAMES_BACK_MS));
    let query = bounded(names_sql(policy)).bind("since", since).bind("keys", users);
    let rows: Vec<Row> = query.fetch(client).await?;
    let named = |row: Row| Some((UserKey(row.key_text.parse().ok()?), row.name));
    Ok(rows.into_iter().filter_map(named).collect())
}

fn cut<T>(mut rows: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    (rows, has_more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::assert_scoped;

    #[test]
    fn the_statements_name_the_tenants_view() {
        let policy = crate::fixtures::policy("acme", vec![]);
        for sql in [rules_sql(&policy), users_sql(&policy)] {
            assert!(sql.contains("FROM `tenant_acme`.`violations` WHERE second >="), "{sql}");
            assert_eq!(sql.matches("FROM `").count(), 1, "{sql}");
        }
        assert_scoped(&policy, &names_sql(&policy));
    }

    #[test]
    fn a_row_more_than_asked_for_says_that_more_follows() {
        assert_eq!(cut(vec![1, 2, 3], 2), (vec![1, 2], true));
        assert_eq!(cut(vec![1, 2], 2), (vec![1, 2], false));
    }
}
