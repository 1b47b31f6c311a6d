//! Reading: statements with typed parameters, over a small pool of connections.
//!
//! ```no_run
//! # async fn example(client: &clickhouse::Client) -> Result<(), clickhouse::ClickHouseError> {
//! #[derive(serde::Deserialize)]
//! struct Row {
//!     feature: String,
//!     events: u64,
//! }
//! let rows: Vec<Row> = clickhouse::Query::new(
//!     "SELECT feature, count() AS events FROM tenant_acme.events WHERE time >= {from:DateTime64(3, 'UTC')} GROUP BY feature",
//! )
//! .bind("from", clickhouse::query::Millis(1_700_000_000_000))
//! .read_only()
//! .fetch(client)
//! .await?;
//! # Ok(()) }
//! ```
//! Rows come as JSON objects: 64-bit and larger integers and decimals as numbers, `DateTime64` as text in UTC
//! (`2026-11-21 01:52:46.040`) unless the query converts it (`toUnixTimestamp64Milli(time)`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use event::{Gate, gate};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::connection::{Connection, collect, next_chunk, push_pair};
use crate::endpoint::Endpoint;
use crate::error::ClickHouseError;
pub use crate::param::{Millis, Param};

/// Connections kept open between queries.
const IDLE_MAX: usize = 8;
/// How long a query may run unless it says otherwise.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);
/// What an answer may take beyond the time limit that the server enforces itself.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// A pool of connections of one user, for readers and for statements that may be repeated. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    gate: Gate,
}

struct Inner {
    endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A pool without connections: they are opened when they are needed.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { inner: Arc::new(Inner { endpoint, idle: Mutex::default() }), gate: Gate::default() }
    }

    /// The same pool, which runs statements that return nothing ([`Query::run`]) only while `gate` is open.
    #[must_use]
    pub fn behind(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Whether the server answers and lets this user in.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), ClickHouseError> {
        Query::new("SELECT 1").max_execution_time(Duration::from_secs(2)).run(self).await
    }

    /// An idle connection that is still open.
    fn idle(&self) -> Option<Connection> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && connection.is_open() {
            idle.push(connection);
        }
    }

    /// Sends on an idle connection if there is one. The server may close that just now, so a failure there is repeated
    /// once on a new connection if the statement allows it.
    async fn send(&self, query: &Query) -> Result<(Connection, Incoming), ClickHouseError> {
        let (url, body) = (query.url(), Bytes::copy_from_slice(query.sql.as_bytes()));
        let pass = || match query.changes && !self.gate.is_open() {
            true => Err(ClickHouseError::Unavailable(gate::CLOSED.to_owned())),
            false => Ok(()),
        };
        if let Some(mut connection) = self.idle() {
            pass()?;
            match connection.send(&self.inner.endpoint, &url, body.clone()).await {
                Err(ClickHouseError::Unavailable(_)) => {}
                Err(ClickHouseError::Unknown(_)) if query.repeatable => {}
                Ok(response) => return Ok((connection, response.into_body())),
                Err(error) => {
                    self.give_back(connection);
                    return Err(error);
                }
            }
        }
        let mut connection = Connection::open(&self.inner.endpoint).await?;
        pass()?;
        match connection.send(&self.inner.endpoint, &url, body).await {
            Ok(response) => Ok((connection, response.into_body())),
            Err(error) => {
                self.give_back(connection);
                Err(error)
            }
        }
    }
}

/// One statement and its parameters.
#[derive(Debug, Clone)]
pub struct Query {
    sql: String,
    params: Vec<(String, String)>,
    settings: Vec<(&'static str, String)>,
    limit: Duration,
    repeatable: bool,
    bare: bool,
    /// It returns nothing, so it is there for what it changes.
    changes: bool,
}

impl Query {
    /// A statement; parameters stand in it as `{name:Type}`. Names of databases, tables and columns come from
    /// `event::names` and `schema`, never from a user.
    pub fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            params: Vec::new(),
            settings: Vec::new(),
            limit: DEFAULT_LIMIT,
            repeatable: true,
            bare: false,
            changes: false,
        }
    }

    /// Binds a value to `{name:Type}`.
    #[must_use]
    pub fn bind(mut self, name: &str, value: impl Param) -> Self {
        self.params.push((format!("param_{name}"), value.param()));
        self
    }

    /// A setting of this query.
    #[must_use]
    pub fn setting(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Forbids everything but reading: whatever the statement says, it changes nothing.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.setting("readonly", "1")
    }

    /// Sends no setting at all: for users who may change none, whose time limit is the server's matter.
    #[must_use]
    pub fn without_settings(mut self) -> Self {
        self.bare = true;
        self
    }

    /// How long the query may run (10 s otherwise); beyond it is `Overloaded`.
    #[must_use]
    pub fn max_execution_time(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The statement must not be sent twice: a lost answer is an unknown outcome.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Rows as values of `T`, by column name.
    ///
    /// # Errors
    /// See [`ClickHouseError`]; `Decode` when a row is not a `T`.
    pub async fn fetch<T: DeserializeOwned>(self, client: &Client) -> Result<Vec<T>, ClickHouseError> {
        let body = self.json().fetch_bytes("JSONEachRow", client).await?;
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| ClickHouseError::Decode(error.to_string()))
            })
            .collect()
    }

    /// The only row, if there is one.
    ///
    /// # Errors
    /// See [`ClickHouseError`]; `Decode` when there are several, or the row is not a `T`.
    pub async fn fetch_optional<T: DeserializeOwned>(
        self,
        client: &Client,
    ) -> Result<Option<T>, ClickHouseError> {
        let mut rows = self.fetch(client).await?;
        let row = rows.pop();
        if rows.is_empty() { Ok(row) } else { Err(ClickHouseError::Decode("more than one row".to_owned())) }
    }

    /// The answer in a format of ClickHouse, whole.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn fetch_bytes(self, format: &str, client: &Client) -> Result<Bytes, ClickHouseError> {
        self.format(format).limited(client, async |body: Incoming| collect(body).await).await
    }

    /// The answer in a format of ClickHouse, piece by piece as it arrives; pieces end anywhere.
    ///
    /// # Errors
    /// See [`ClickHouseError`]; what was delivered before an error is not the whole answer.
    pub async fn fetch_chunks(
        self,
        format: &str,
        client: &Client,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ClickHouseError> {
        let read = async |mut body: Incoming| {
            while let Some(chunk) = next_chunk(&mut body).await? {
                each(&chunk);
            }
            Ok(())
        };
        self.format(format).limited(client, read).await
    }

    /// Runs a statement that returns nothing.
    ///
    /// # Errors
    /// See [`ClickHouseError`].
    pub async fn run(mut self, client: &Client) -> Result<(), ClickHouseError> {
        self.changes = true;
        self.limited(client, async |body: Incoming| collect(body).await.map(|_| ())).await
    }

    async fn limited<T>(
        self,
        client: &Client,
        read: impl AsyncFnOnce(Incoming) -> Result<T, ClickHouseError>,
    ) -> Result<T, ClickHouseError> {
        let work = async {
            let (connection, body) = client.send(&self).await?;
            let value = read(body).await?;
            client.give_back(connection);
            Ok(value)
        };
        tokio::time::timeout(self.limit + ANSWER_GRACE, work)
            .await
            .unwrap_or_else(|_| Err(ClickHouseError::Unknown(format!("no answer within {:?}", self.limit))))
    }

    fn json(self) -> Self {
        self.setting("output_format_json_quote_64bit_integers", "0")
            .setting("output_format_json_quote_decimals", "0")
            .setting("output_format_json_quote_64bit_floats", "0")
    }

    fn format(mut self, format: &str) -> Self {
        self.sql.push_str(" FORMAT ");
        self.sql.push_str(format);
        self
    }

    fn url(&self) -> String {
        // The answer begins when the statement has ended, so that its status is the statement's.
        let mut url = String::from("/?wait_end_of_query=1");
        if !self.bare {
            push_pair(&mut url, "max_execution_time", &self.limit.as_secs_f64().to_string());
            for (name, value) in &self.settings {
                push_pair(&mut url, name, value);
            }
        }
        for (name, value) in &self.params {
            push_pair(&mut url, name, value);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_travel_beside_the_statement() {
        let query = Query::new("SELECT {user:String}").bind("user", "x' OR 1 --").read_only();
        assert_eq!(query.sql, "SELECT {user:String}");
        let url = query.url();
        assert!(url.starts_with("/?wait_end_of_query=1&max_execution_time=10&readonly=1&"), "{url}");
        assert!(url.ends_with("param_user=x%27%20OR%201%20--"), "{url}");
    }
}
