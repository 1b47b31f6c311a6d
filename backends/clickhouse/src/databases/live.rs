//! Databases of a real ClickHouse.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::{Observed, Stamp, TenantNumber};
use serde::Deserialize;

use super::parse::ttl_and_settings;
use super::plan::{Change, DatabaseStep};
use super::sql::statements;
use super::{DatabaseError, DatabaseState, Databases, TableState, ViewState};
use crate::error::ClickHouseError;
use crate::query::{Client, Query};
use crate::schema::{Table, View};

/// How long one statement may take; dropping a large database is the longest.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Databases behind a [`Client`] of the operator's user.
#[derive(Clone)]
pub struct LiveDatabases {
    client: Client,
}

#[derive(Deserialize)]
struct TableRow {
    name: String,
    engine_full: String,
    as_select: String,
    sorting_key: String,
    partition_key: String,
    definer: bool,
}

#[derive(Deserialize)]
struct NameRow {
    table: String,
    name: String,
    kind: String,
}

impl LiveDatabases {
    /// Databases of the server behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn stamp(&self, name: &str) -> Result<Observed<Option<Stamp>>, ClickHouseError> {
        #[derive(Deserialize)]
        struct Row {
            comment: String,
        }
        let row: Option<Row> = Query::new("SELECT comment FROM system.databases WHERE name = {name:String}")
            .bind("name", name)
            .fetch_optional(&self.client)
            .await?;
        Ok(row.map_or(Observed::Absent, |row| Observed::Present(serde_json::from_str(&row.comment).ok())))
    }

    async fn state(&self, name: &str) -> Result<Observed<DatabaseState>, ClickHouseError> {
        let stamp = match self.stamp(name).await? {
            Observed::Absent => return Ok(Observed::Absent),
            Observed::Unknown(reason) => return Ok(Observed::Unknown(reason)),
            Observed::Present(stamp) => stamp,
        };
        let tables: Vec<TableRow> = Query::new(
            "SELECT name, engine_full, as_select, sorting_key, partition_key, \
             toBool(position(create_table_query, concat('DEFINER = ', currentUser(), ' SQL SECURITY DEFINER')) > 0) \
             AS definer \
             FROM system.tables WHERE database = {name:String}",
        )
        .bind("name", name)
        .fetch(&self.client)
        .await?;
        let (mut columns, mut indexes) = (self.columns(name).await?, self.indexes(name).await?);
        let (known, views) = Default::default();
        let mut state = DatabaseState { name: name.to_owned(), stamp, tables: known, views };
        for row in tables {
            if let Some(view) = View::ALL.into_iter().find(|view| view.name() == row.name) {
                state.views.insert(view, ViewState { select: row.as_select, definer: row.definer });
            } else if let Some(table) = Table::ALL.into_iter().find(|table| table.name() == row.name) {
                let (ttl, settings) = ttl_and_settings(&row.engine_full);
                let found = TableState {
                    columns: columns.remove(&row.name).unwrap_or_default(),
                    indexes: indexes
                        .remove(&row.name)
                        .unwrap_or_default()
                        .into_keys()
                        .collect::<BTreeSet<_>>(),
                    ttl,
                    settings,
                    sorting_key: row.sorting_key,
                    partition_key: row.partition_key,
                };
                state.tables.insert(table, found);
            }
        }
        Ok(Observed::Present(state))
    }

    async fn columns(
        &self,
        database: &str,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClickHouseError> {
        self.names(
            database,
            "SELECT table, name, type AS kind FROM system.columns WHERE database = {name:String}",
        )
        .await
    }

    async fn indexes(
        &self,
        database: &str,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClickHouseError> {
        let sql = "SELECT table, name, type AS kind FROM system.data_skipping_indices WHERE database = {name:String}";
        self.names(database, sql).await
    }

    async fn names(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClickHouseError> {
        let rows: Vec<NameRow> = Query::new(sql).bind("name", database).fetch(&self.client).await?;
        let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in rows {
            tables.entry(row.table).or_default().insert(row.name, row.kind);
        }
        Ok(tables)
    }
}

impl Databases for LiveDatabases {
    async fn observe(&self, name: &str) -> Observed<DatabaseState> {
        self.state(name).await.unwrap_or_else(|error| Observed::Unknown(error.to_string()))
    }

    async fn execute(&self, step: &DatabaseStep) -> Result<(), DatabaseError> {
        let found = self.stamp(&step.database).await?;
        let as_expected = match (&found, &step.change) {
            (Observed::Absent, Change::Create) => true,
            (Observed::Present(found), Change::Restamp { to }) => {
                *found == step.stamp || found.as_ref() == Some(to)
            }
            (Observed::Present(found), _) => *found == step.stamp,
            _ => false,
        };
        if !as_expected {
            return Err(DatabaseError::StampMismatch { found: found.present().cloned().flatten() });
        }
        for statement in statements(step)? {
            Query::new(statement).max_execution_time(STATEMENT_LIMIT).once().run(&self.client).await?;
        }
        Ok(())
    }

    async fn delete(&self, name: &str, expected: &Stamp) -> Result<(), DatabaseError> {
        match self.stamp(name).await? {
            Observed::Absent => Ok(()),
            Observed::Present(Some(found)) if found == *expected => {
                let sql = format!("DROP DATABASE IF EXISTS {name} SYNC");
                Ok(Query::new(sql).max_execution_time(STATEMENT_LIMIT).once().run(&self.client).await?)
            }
            found => Err(DatabaseError::StampMismatch { found: found.present().cloned().flatten() }),
        }
    }

    async fn forget(&self, name: &str, tenant: TenantNumber) -> Result<(), DatabaseError> {
        for table in Table::ALL {
            let sql = format!(
                "ALTER TABLE {name}.{} DELETE WHERE tenant = {{tenant:UInt64}} SETTINGS mutations_sync = 1",
                table.name()
            );
            let query = Query::new(sql).bind("tenant", tenant).max_execution_time(STATEMENT_LIMIT).once();
            match query.run(&self.client).await {
                Err(error) if !error.is_missing() => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn list_names(&self, prefix: &str) -> Result<Vec<String>, DatabaseError> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
        }
        let sql = "SELECT name FROM system.databases WHERE startsWith(name, {prefix:String}) ORDER BY name";
        let rows: Vec<Row> = Query::new(sql).bind("prefix", prefix).fetch(&self.client).await?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }
}
