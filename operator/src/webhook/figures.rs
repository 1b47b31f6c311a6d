//! Asks ClickHouse what a limit would have done. Whoever finds no place, or gets no answer in time, does without.

use std::time::Duration;

use clickhouse::query::Millis;
use clickhouse::{Client, Query};
use event::names::CHARGED_VIEW;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::impact::{Asked, Impact, Periods};

/// Questions that are answered at once.
const AT_ONCE: usize = 2;
/// How long one may take: the kube-apiserver waits two seconds for the whole.
const TIME_LIMIT: Duration = Duration::from_secs(1);
/// How long nobody asks again after a question that was not answered in time: people who apply one limit after the other would wait for each.
const SILENT: Duration = Duration::from_secs(30);
/// Memory that the server may use for one.
const MEMORY_BYTES: &str = "400000000";
/// Days around its receipt in which an event's time lies at most: it tells which rows to read.
const AROUND_MS: i64 = 31 * 86_400_000;

/// Where figures come from.
pub struct Figures {
    events: Client,
    turns: Semaphore,
    silent_until: Mutex<Option<Instant>>,
}

impl Figures {
    /// From the stored events.
    pub fn new(events: Client) -> Self {
        Self { events, turns: Semaphore::new(AT_ONCE), silent_until: Mutex::new(None) }
    }

    /// What a limit would have done; `None` when that is not known in time.
    pub async fn ask(&self, asked: &Asked) -> Option<Impact> {
        if self.silent_until.lock().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let _turn = self.turns.try_acquire().ok()?;
        match timeout(TIME_LIMIT, query(asked).fetch_optional(&self.events)).await {
            Ok(Ok(impact)) => impact,
            Ok(Err(error)) => {
                tracing::debug!(%error, tenant = %asked.tenant, "no figures for a limit");
                None
            }
            Err(_) => {
                tracing::info!(tenant = %asked.tenant, "ClickHouse told too late what a limit would have done");
                *self.silent_until.lock() = Some(Instant::now() + SILENT);
                None
            }
        }
    }
}

/// The events of each period in the order of their receipt; those behind the cap would have been refused.
fn query(asked: &Asked) -> Query {
    let period = match &asked.periods {
        Periods::Every(_) => "intDiv(toUnixTimestamp64Milli(received), {every:Int64})",
        Periods::At(_) => "roundDown(toUnixTimestamp64Milli(received), {starts:Array(Int64)})",
    };
    let subject = if asked.per_user { "user_key, " } else { "" };
    let features = match asked.features.is_empty() {
        true => "",
        false => {
            " AND (has({exact:Array(String)}, feature) OR arrayExists(p -> startsWith(feature, p), {prefixes:Array(String)}))"
        }
    };
    let users = if asked.users.is_empty() { "" } else { " AND has({users:Array(String)}, user)" };
    let sql = format!(
        "SELECT count() AS events, countIf(place > {{max:UInt64}}) AS blocked, \
         uniqExactIf(user_key, place > {{max:UInt64}}) AS users FROM \
         (SELECT user_key, received, row_number() OVER (PARTITION BY {subject}{period} ORDER BY received, id) AS place \
         FROM {}.{CHARGED_VIEW} \
         WHERE received >= {{begin:DateTime64(3, 'UTC')}} AND received < {{to:DateTime64(3, 'UTC')}} \
         AND time >= {{earliest:DateTime64(3, 'UTC')}} AND time <= {{latest:DateTime64(3, 'UTC')}}{features}{users}) \
         WHERE received >= {{from:DateTime64(3, 'UTC')}}",
        asked.tenant.database()
    );
    let begin_ms = asked.counts_from_ms();
    let query = Query::new(sql)
        .read_only()
        .max_execution_time(TIME_LIMIT)
        .setting("max_memory_usage", MEMORY_BYTES)
        .bind("max", asked.max)
        .bind("begin", Millis(begin_ms))
        .bind("from", Millis(asked.from_ms))
        .bind("to", Millis(asked.to_ms))
        .bind("earliest", Millis(begin_ms.saturating_sub(AROUND_MS)))
        .bind("latest", Millis(asked.to_ms.saturating_add(AROUND_MS)));
    let query = match &asked.periods {
        Periods::Every(length_ms) => query.bind("every", *length_ms),
        Periods::At(starts) => query.bind("starts", starts.clone()),
    };
    let query = if asked.users.is_empty() {
        query
    } else {
        query.bind("users", asked.users.iter().collect::<Vec<_>>())
    };
    if asked.features.is_empty() {
        return query;
    }
    let (prefixes, exact): (Vec<&String>, Vec<&String>) =
        asked.features.iter().partition(|pattern| pattern.ends_with('*'));
    let prefixes: Vec<&str> = prefixes.iter().map(|pattern| pattern.trim_end_matches('*')).collect();
    query.bind("exact", exact).bind("prefixes", prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(per_user: bool, periods: Periods) -> Asked {
        let (features, users) = (vec!["x' OR 1".into(), "y*".into()], vec!["ann' OR 1".into()]);
        Asked {
            tenant: "acme".parse().unwrap(),
            max: 5,
            per_user,
            features,
            users,
            periods,
            from_ms: 10,
            to_ms: 20,
        }
    }

    #[test]
    fn a_statement_reads_one_tenant_and_returns_sums() {
        let text = format!("{:?}", query(&asked(true, Periods::At(vec![0]))));
        let sql = &text[..text.find("params:").unwrap()];
        assert!(sql.contains("FROM tenant_acme.charged WHERE") && !sql.contains("OR 1"), "{sql}");
        assert!(sql.contains("PARTITION BY user_key, roundDown("), "{sql}");
        let text = format!("{:?}", query(&asked(false, Periods::Every(1_000))));
        assert!(text.contains("PARTITION BY intDiv("), "{text}");
    }
}
