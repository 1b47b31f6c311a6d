//! ClickHouse as a plain client meets it: bytes in, bytes out, with all rights.

use std::time::Duration;

use ureq::Agent;

use crate::{Error, Result};

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1 << 30;
/// Columns as the sink writes them (`backends/clickhouse/src/rows.rs`).
const COLUMNS: &str = "tenant,event_hash,source,id,feature,user_key,user,time,received,value,latency_ms,data,lane,epoch,seq,idx,intent,pack,expires_at,incarnation,charges";
/// Settings of an insert, as the sink has them (`backends/clickhouse/src/insert.rs`).
const INSERT: [(&str, &str); 9] = [
    ("wait_end_of_query", "1"),
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("max_insert_threads", "1"),
    ("input_format_parallel_parsing", "0"),
    ("max_insert_block_size", "1000000"),
    ("min_insert_block_size_rows", "1000000"),
    ("min_insert_block_size_bytes", "1073741824"),
    ("max_execution_time", "25"),
];

/// A client.
#[derive(Debug)]
pub(super) struct ClickHouse {
    agent: Agent,
    url: String,
    password: String,
}

/// One insert of the sink.
#[derive(Debug)]
pub(super) struct Block {
    /// The end of its token: first and last sequence, partition.
    pub token: String,
    /// Number of rows.
    pub count: u64,
    /// The rows in `RowBinary`.
    pub rows: Vec<u8>,
}

impl ClickHouse {
    /// Of the server at `url`, as user `tool`.
    pub fn new(url: String, password: String) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .proxy(None)
            .build();
        Self { agent: config.into(), url, password }
    }

    /// The bytes of a query's answer.
    pub fn query(&self, sql: &str) -> Result<Vec<u8>> {
        self.post(&[], sql.as_bytes(), sql)
    }

    /// The lines of a query's answer, each split at its tabulators.
    pub fn lines(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let text = String::from_utf8_lossy(&self.query(sql)?).into_owned();
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// The one number that a query answers.
    pub fn number(&self, sql: &str) -> Result<u64> {
        let lines = self.lines(sql)?;
        let number = lines.first().and_then(|line| line.first()).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Error::Format { what: sql.to_owned(), detail: "its answer is no number".into() })
    }

    /// Rows of a tenant's table.
    pub fn count(&self, tenant: &str, table: &str) -> Result<u64> {
        self.number(&format!("SELECT count() FROM tenant_{tenant}.{table}"))
    }

    /// Empties a tenant's table.
    pub fn truncate(&self, tenant: &str, table: &str) -> Result<()> {
        self.query(&format!("TRUNCATE TABLE IF EXISTS tenant_{tenant}.{table}")).map(drop)
    }

    /// Every insert that the sink made into a tenant's empty table, byte for byte, in the order in which it made them.
    pub fn blocks(&self, tenant: &str) -> Result<Vec<Block>> {
        let table = format!("tenant_{tenant}.events_raw");
        let inserts = self.lines(&format!(
            "SELECT intent, _partition_id, count(), min(seq), max(seq) FROM {table} GROUP BY ALL ORDER BY ALL"
        ))?;
        let block = |fields: Vec<String>| {
            let [intent, partition, count, lo, hi] = fields.try_into().map_err(|_| Error::Format {
                what: "ClickHouse's answer".into(),
                detail: "five columns were asked for".into(),
            })?;
            let rows = self.query(&format!(
                "SELECT {COLUMNS} FROM {table} WHERE intent = {intent} AND _partition_id = '{partition}' \
                 ORDER BY seq, idx FORMAT RowBinary"
            ))?;
            let count = count.parse().unwrap_or_default();
            Ok(Block { token: format!("{lo}-{hi}:{partition}"), count, rows })
        };
        inserts.into_iter().map(block).collect()
    }

    /// An empty table like the tenant's own.
    pub fn twin(&self, tenant: &str) -> Result<()> {
        self.query(&format!(
            "CREATE TABLE IF NOT EXISTS tenant_{tenant}.twin AS tenant_{tenant}.events_raw"
        ))?;
        self.truncate(tenant, "twin")
    }

    /// Inserts a block into [`Self::twin`] under a token.
    pub fn insert(&self, tenant: &str, block: &Block, token: &str) -> Result<()> {
        let sql = format!("INSERT INTO tenant_{tenant}.twin ({COLUMNS}) FORMAT RowBinary");
        let mut parameters = INSERT.to_vec();
        parameters.extend([("insert_deduplication_token", token), ("query", sql.as_str())]);
        self.post(&parameters, &block.rows, "a plain insert").map(drop)
    }

    fn post(&self, parameters: &[(&str, &str)], body: &[u8], what: &str) -> Result<Vec<u8>> {
        let failed = |source: ureq::Error| Error::Http { what: what.to_owned(), source: Box::new(source) };
        let mut request = self
            .agent
            .post(&self.url)
            .header("X-ClickHouse-User", "tool")
            .header("X-ClickHouse-Key", &self.password);
        for (name, value) in parameters {
            request = request.query(*name, *value);
        }
        let mut answer = request.send(body).map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_vec().map_err(failed)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let detail = String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned();
        Err(Error::Answer { what: what.to_owned(), status, detail })
    }
}
