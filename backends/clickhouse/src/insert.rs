//! Inserting a lane's blocks so that each can be repeated without doubling a row.
//!
//! One inserter owns one connection and nobody else uses it. The order is: connect, check the lease, send. A connection
//! that closed starts again at the lease, because a request that a pooled client sends ten minutes late would be one from
//! a holder that lost its lane long ago. Nothing is repeated here: after any error the caller sends the same bytes under
//! the same token again, and the table's deduplication window makes the two one.

use std::time::Duration;

use bytes::Bytes;
use event::Lane;

use crate::connection::{Connection, collect, push_pair};
use crate::endpoint::Endpoint;
use crate::error::ClickHouseError;
use crate::rows::{CHARGE_ORDER, RAW_ORDER, REMOVED_ORDER};
use crate::schema::Table;
use crate::violation_rows::VIOLATION_ORDER;

/// How long the server may work on an insert.
const SERVER_LIMIT: Duration = Duration::from_secs(25);
/// How long an answer is waited for. Beyond it the outcome is unknown.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Rows of one insert, at most: the server makes one block, hence one part, of fewer.
pub const BLOCK_ROWS_MAX: usize = 1_000_000;

/// Why a block was not inserted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The lease was not held when the connection was ready; nothing was sent.
    #[error("the lease is not held")]
    LeaseLost,
    /// See there. `Unknown`: the block may be in the table, now or later.
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
}

/// A table that blocks are inserted into.
#[derive(Debug, Clone)]
pub struct Target {
    url: String,
}

impl Target {
    /// `table` of `lane`.
    pub fn new(lane: &Lane, table: Table) -> Self {
        let columns = match table {
            Table::Raw => RAW_ORDER.to_owned(),
            Table::Removed => REMOVED_ORDER.to_owned(),
            Table::Charges => CHARGE_ORDER.to_owned(),
            Table::Violations => VIOLATION_ORDER.to_owned(),
            Table::Rollups | Table::Users => {
                table.columns().iter().map(|column| column.name).collect::<Vec<_>>().join(",")
            }
        };
        let sql = format!("INSERT INTO {}.{} ({columns}) FORMAT RowBinary", lane.database(), table.name());
        let mut url = String::from("/?wait_end_of_query=1");
        let rows = BLOCK_ROWS_MAX.to_string();
        let limit = SERVER_LIMIT.as_secs().to_string();
        for (name, value) in [
            ("query", sql.as_str()),
            ("async_insert", "0"),
            ("insert_deduplicate", "1"),
            // One thread, one parser, one block: the token stands for exactly these rows.
            ("max_insert_threads", "1"),
            ("input_format_parallel_parsing", "0"),
            ("max_insert_block_size", &rows),
            ("min_insert_block_size_rows", &rows),
            ("min_insert_block_size_bytes", "1073741824"),
            ("max_execution_time", &limit),
        ] {
            push_pair(&mut url, name, value);
        }
        Self { url }
    }
}

/// The only one who inserts into a lane's tables.
pub struct LaneInserter {
    endpoint: Endpoint,
    connection: Option<Connection>,
}

impl LaneInserter {
    /// An inserter that connects when it is first used.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: None }
    }

    /// Inserts `rows` (in `RowBinary`, of one partition) under `token`, if `holds_lease` says so when the connection is
    /// ready. A token that the table remembers inserts nothing and succeeds.
    ///
    /// # Errors
    /// See [`InsertError`]; repeat with the same bytes and token.
    pub async fn insert(
        &mut self,
        target: &Target,
        rows: Bytes,
        token: &str,
        holds_lease: impl FnOnce() -> bool,
    ) -> Result<(), InsertError> {
        let connection = self.ready(holds_lease).await?;
        #[cfg(feature = "crash-points")]
        crash_points::pass("P6").map_err(|failed| ClickHouseError::Unknown(failed.to_string()))?;
        let mut url = String::with_capacity(target.url.len() + token.len() + 40);
        url.push_str(&target.url);
        push_pair(&mut url, "insert_deduplication_token", token);
        let outcome = self.send(connection, &url, rows).await;
        #[cfg(feature = "crash-points")]
        crash_points::pass("P8").map_err(|failed| ClickHouseError::Unknown(failed.to_string()))?;
        Ok(outcome?)
    }

    /// Runs a statement that inserts what it selects, if `holds_lease` says so when the connection is ready.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub async fn run(
        &mut self,
        sql: &str,
        settings: &[(&str, &str)],
        holds_lease: impl FnOnce() -> bool,
    ) -> Result<(), InsertError> {
        let connection = self.ready(holds_lease).await?;
        let mut url = String::from("/?wait_end_of_query=1");
        push_pair(&mut url, "max_execution_time", &SERVER_LIMIT.as_secs().to_string());
        for (name, value) in settings {
            push_pair(&mut url, name, value);
        }
        Ok(self.send(connection, &url, Bytes::copy_from_slice(sql.as_bytes())).await?)
    }

    /// The connection, once it is open and the lease is held.
    async fn ready(&mut self, holds_lease: impl FnOnce() -> bool) -> Result<Connection, InsertError> {
        let connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint).await?,
        };
        if holds_lease() {
            return Ok(connection);
        }
        self.connection = Some(connection);
        Err(InsertError::LeaseLost)
    }

    /// Sends one request and waits for its answer.
    async fn send(
        &mut self,
        mut connection: Connection,
        url: &str,
        body: Bytes,
    ) -> Result<(), ClickHouseError> {
        let answer = async {
            let response = connection.send(&self.endpoint, url, body).await?;
            collect(response.into_body()).await
        };
        let outcome = tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(ClickHouseError::Unknown(format!("no answer within {ANSWER_LIMIT:?}"))));
        // An exception leaves the connection in order; after anything else it is dropped with whatever it still carries.
        if outcome.as_ref().map_or_else(|error| error.code().is_some(), |_| true) {
            self.connection = Some(connection);
        }
        outcome.map(drop)
    }
}
