//! Databases in memory, for tests of what uses [`Databases`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{Observed, Stamp, TenantNumber};

use super::plan::{Change, DatabaseStep};
use super::{DatabaseError, DatabaseState, Databases, TableState, ViewState};
use crate::error::{ClickHouseError, code};
use crate::schema::{Retention, Table};

/// Databases in memory.
#[derive(Default)]
pub struct FakeDatabases {
    databases: Mutex<BTreeMap<String, DatabaseState>>,
    down: Mutex<Option<String>>,
}

impl FakeDatabases {
    /// From now on nothing answers, for this reason; `None` ends it.
    pub fn set_down(&self, reason: Option<&str>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = reason.map(str::to_owned);
    }

    /// Changes a database behind everyone's back.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut DatabaseState)) {
        if let Some(state) = self.lock().get_mut(name) {
            change(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DatabaseState>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_up(&self) -> Result<(), ClickHouseError> {
        match &*self.down.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(ClickHouseError::Unavailable(reason.clone())),
        }
    }
}

fn create_table(table: Table, retention: Retention) -> TableState {
    let mut state = TableState {
        ttl: table.ttl(retention),
        sorting_key: table.sorting_key().to_owned(),
        partition_key: table.partition_key().to_owned(),
        ..TableState::default()
    };
    complete(table, &mut state);
    state
}

fn complete(table: Table, state: &mut TableState) {
    for column in table.columns() {
        state.columns.entry(column.name.to_owned()).or_insert_with(|| column.kind.to_owned());
    }
    state.indexes.extend(table.indexes().iter().map(|(name, _)| (*name).to_owned()));
    state.settings.extend(table.settings().into_iter().map(|(name, value)| (name.to_owned(), value)));
}

fn apply(state: &mut DatabaseState, change: &Change) {
    match change {
        Change::Create => {}
        Change::Restamp { to } => state.stamp = Some(to.clone()),
        Change::CreateTable { table, retention } => {
            state.tables.entry(*table).or_insert_with(|| create_table(*table, *retention));
        }
        Change::Complete { table, .. } => {
            if let Some(found) = state.tables.get_mut(table) {
                complete(*table, found);
            }
        }
        Change::Retain { table, retention } => {
            if let Some(found) = state.tables.get_mut(table) {
                found.ttl = table.ttl(*retention);
            }
        }
        Change::PutView { view, rows } => {
            state.views.insert(*view, ViewState { select: rows.select(*view), definer: true });
        }
    }
}

impl Databases for FakeDatabases {
    async fn observe(&self, name: &str) -> Observed<DatabaseState> {
        match self.check_up() {
            Err(error) => Observed::Unknown(error.to_string()),
            Ok(()) => self.lock().get(name).cloned().map_or(Observed::Absent, Observed::Present),
        }
    }

    async fn execute(&self, step: &DatabaseStep) -> Result<(), DatabaseError> {
        self.check_up()?;
        let mut databases = self.lock();
        if let Change::PutView { view, rows } = &step.change {
            let there =
                |name: &String| databases.get(name).is_some_and(|d| d.tables.contains_key(&view.table()));
            if let Some(missing) = rows.databases.iter().find(|name| !there(name)) {
                let message = format!("{missing} has no raw table");
                return Err(ClickHouseError::Rejected { code: code::UNKNOWN_TABLE, message }.into());
            }
        }
        match (databases.get_mut(&step.database), &step.change) {
            (None, Change::Create) => {
                let state = DatabaseState {
                    name: step.database.clone(),
                    stamp: step.stamp.clone(),
                    tables: BTreeMap::new(),
                    views: BTreeMap::new(),
                };
                databases.insert(step.database.clone(), state);
                Ok(())
            }
            (Some(state), Change::Restamp { to }) if state.stamp.as_ref() == Some(to) => Ok(()),
            (Some(state), change) if state.stamp == step.stamp => {
                apply(state, change);
                Ok(())
            }
            (found, _) => {
                Err(DatabaseError::StampMismatch { found: found.and_then(|state| state.stamp.clone()) })
            }
        }
    }

    async fn delete(&self, name: &str, expected: &Stamp) -> Result<(), DatabaseError> {
        self.check_up()?;
        let mut databases = self.lock();
        match databases.get(name) {
            None => Ok(()),
            Some(found) if found.stamp.as_ref() == Some(expected) => {
                databases.remove(name);
                Ok(())
            }
            Some(found) => Err(DatabaseError::StampMismatch { found: found.stamp.clone() }),
        }
    }

    async fn forget(&self, _name: &str, _tenant: TenantNumber) -> Result<(), DatabaseError> {
        // It has no rows.
        Ok(self.check_up()?)
    }

    async fn list_names(&self, prefix: &str) -> Result<Vec<String>, DatabaseError> {
        self.check_up()?;
        Ok(self.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
