//! The statements of a step. Every one may be executed twice.

use event::Stamp;

use super::plan::{Change, DatabaseStep};
use crate::error::ClickHouseError;
use crate::schema::{Column, Retention, Table};

/// Statements of `step`, in order.
pub(super) fn statements(step: &DatabaseStep) -> Result<Vec<String>, ClickHouseError> {
    let database = &step.database;
    Ok(match &step.change {
        Change::Create => {
            let comment = step.stamp.as_ref().map(comment).transpose()?.unwrap_or_default();
            vec![format!("CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic COMMENT {comment}")]
        }
        Change::Restamp { to } => vec![format!("ALTER DATABASE {database} MODIFY COMMENT {}", comment(to)?)],
        Change::CreateTable { table, retention } => vec![create_table(database, *table, *retention)],
        Change::Complete { table, missing } => complete(database, *table, missing),
        Change::Retain { table, retention } => {
            vec![format!(
                "ALTER TABLE {database}.{} MODIFY TTL {} SETTINGS materialize_ttl_after_modify = 1, mutations_sync = 0",
                table.name(),
                table.ttl(*retention)
            )]
        }
        Change::PutView { view, rows } => {
            // With the planner's rights: who may query the view needs, and has, no right on any raw table.
            vec![format!(
                "CREATE OR REPLACE VIEW {database}.{} DEFINER = CURRENT_USER SQL SECURITY DEFINER AS {}",
                view.name(),
                rows.select(*view)
            )]
        }
    })
}

/// The comment that holds a stamp, as a string literal.
fn comment(stamp: &Stamp) -> Result<String, ClickHouseError> {
    let json = serde_json::to_string(stamp).map_err(|error| ClickHouseError::Decode(error.to_string()))?;
    Ok(format!("'{}'", json.replace('\\', "\\\\").replace('\'', "\\'")))
}

fn definition(column: &Column) -> String {
    format!("{} {} {}", column.name, column.kind, column.rest).trim_end().to_owned()
}

fn create_table(database: &str, table: Table, retention: Retention) -> String {
    let indexes = table.indexes().iter().map(|(name, index)| format!("INDEX {name} {index}"));
    let body: Vec<String> = table.columns().iter().map(definition).chain(indexes).collect();
    let partition = match table.partition_key() {
        "" => String::new(),
        key => format!(" PARTITION BY {key}"),
    };
    let ttl = match table.ttl(retention).as_str() {
        "" => String::new(),
        ttl => format!(" TTL {ttl}"),
    };
    let settings: Vec<String> =
        table.settings().iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {database}.{} ({}) ENGINE = {}{partition} ORDER BY ({}){ttl} SETTINGS {}",
        table.name(),
        body.join(", "),
        table.engine(),
        table.sorting_key(),
        settings.join(", ")
    )
}

fn complete(database: &str, table: Table, missing: &[&'static str]) -> Vec<String> {
    let is_missing = |name: &&str| missing.contains(name);
    let columns = table.columns().iter().filter(|column| is_missing(&column.name));
    let indexes = table.indexes().iter().filter(|(name, _)| is_missing(name));
    let settings = table.settings().into_iter().filter(|(name, _)| is_missing(name));
    // One statement each: settings cannot be mixed with columns, and a statement that was executed changes nothing.
    let columns = columns.map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column)));
    let indexes = indexes.map(|(name, index)| format!("ADD INDEX IF NOT EXISTS {name} {index}"));
    let settings = settings.map(|(name, value)| format!("MODIFY SETTING {name} = {value}"));
    let alter = |change| format!("ALTER TABLE {database}.{} {change}", table.name());
    columns.chain(indexes).chain(settings).map(alter).collect()
}
