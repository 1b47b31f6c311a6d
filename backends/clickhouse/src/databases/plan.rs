//! The pure part: which steps lead from what is there to what is wanted.

use event::{Claim, Observed, Stamp};

use super::{DatabaseSpec, DatabaseState, TableState, ViewSpec};
use crate::schema::{FIXED_SETTINGS, Retention, Table, View};

/// One change of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseStep {
    /// The database.
    pub database: String,
    /// The stamp it must carry now; for [`Change::Create`], the stamp it gets.
    pub stamp: Option<Stamp>,
    /// What to change.
    pub change: Change,
}

/// What a step changes. None of them loses a row that is not past its declared retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create the database.
    Create,
    /// Give it to another owner.
    Restamp {
        /// The stamp it gets.
        to: Stamp,
    },
    /// Create a lane's table.
    CreateTable {
        /// Which.
        table: Table,
        /// How long its rows are kept.
        retention: Retention,
    },
    /// Add columns and skip indexes that are missing, and set settings that differ.
    Complete {
        /// Which table.
        table: Table,
        /// Names of the columns, indexes and settings.
        missing: Vec<&'static str>,
    },
    /// Change how long rows are kept.
    Retain {
        /// Which table.
        table: Table,
        /// How long its rows are kept.
        retention: Retention,
    },
    /// Create a view, or replace its statement.
    PutView {
        /// Which.
        view: View,
        /// Whose rows it shows.
        rows: ViewSpec,
    },
}

/// Why a wanted database cannot be had by safe steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It could not be observed.
    Unknown(String),
    /// It is not ours to touch.
    Claimed(Claim),
    /// A table has a column, sorting key or partition key that cannot be changed in place.
    Incompatible {
        /// The table.
        table: Table,
        /// The column, or `sorting key`, or `partition key`.
        what: String,
        /// What it is.
        found: String,
    },
}

/// Steps, and what stops the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be executed in order.
    pub steps: Vec<DatabaseStep>,
    /// Why `steps` does not lead all the way, if so.
    pub blocked: Option<Blocked>,
}

/// Steps from `have` to `want`, as far as they are safe.
pub fn plan(want: &DatabaseSpec, have: &Observed<DatabaseState>) -> Plan {
    let mut changes = Vec::new();
    let mut blocked = None;
    let empty = DatabaseState {
        name: want.name.clone(),
        stamp: Some(want.stamp.clone()),
        tables: Default::default(),
        views: Default::default(),
    };
    let state = match have {
        Observed::Unknown(reason) => {
            return Plan { steps: Vec::new(), blocked: Some(Blocked::Unknown(reason.clone())) };
        }
        Observed::Absent => {
            changes.push(Change::Create);
            &empty
        }
        Observed::Present(state) => state,
    };
    if let Some(blocked) = want.stamp.claim(state.stamp.as_ref()).map(Blocked::Claimed) {
        return Plan { steps: Vec::new(), blocked: Some(blocked) };
    }
    if let Some(retention) = want.tables {
        for table in Table::ALL {
            match state.tables.get(&table) {
                None => changes.push(Change::CreateTable { table, retention }),
                Some(found) => match incompatible(table, found) {
                    Some(reason) => blocked = blocked.or(Some(reason)),
                    None => changes.extend(table_changes(table, retention, found)),
                },
            }
        }
    }
    // A view over a table that cannot be completed would fail as well.
    if blocked.is_none() {
        changes.extend(want.views.iter().flat_map(|rows| view_changes(want, rows, state)));
    }
    let stamp = state.stamp.clone();
    let step = |change| DatabaseStep { database: want.name.clone(), stamp: stamp.clone(), change };
    Plan { steps: changes.into_iter().map(step).collect(), blocked }
}

/// The step that marks a database as retained; `None` when it is so already or carries no stamp.
pub fn release(have: &DatabaseState) -> Option<DatabaseStep> {
    let from = have.stamp.clone().filter(|stamp| !stamp.released)?;
    let to = Stamp { released: true, ..from.clone() };
    Some(DatabaseStep { database: have.name.clone(), stamp: Some(from), change: Change::Restamp { to } })
}

/// The step that gives a database to `to`; the caller has decided that it may be taken. `None` when it is so already.
pub fn adopt(have: &DatabaseState, to: &Stamp) -> Option<DatabaseStep> {
    (have.stamp.as_ref() != Some(to)).then(|| DatabaseStep {
        database: have.name.clone(),
        stamp: have.stamp.clone(),
        change: Change::Restamp { to: to.clone() },
    })
}

fn incompatible(table: Table, found: &TableState) -> Option<Blocked> {
    let keys = [
        ("sorting key", table.sorting_key(), &found.sorting_key),
        ("partition key", table.partition_key(), &found.partition_key),
    ];
    let key = keys.into_iter().find(|(_, want, have)| want != have).map(|(what, _, have)| (what, have));
    let column = || {
        let mut columns = table.columns().iter().map(|column| (column, found.columns.get(column.name)));
        columns.find_map(|(column, have)| {
            have.filter(|kind| *kind != column.kind).map(|kind| (column.name, kind))
        })
    };
    key.or_else(column).map(|(what, found)| Blocked::Incompatible {
        table,
        what: what.to_owned(),
        found: found.clone(),
    })
}

fn table_changes(table: Table, retention: Retention, found: &TableState) -> Vec<Change> {
    let mut missing: Vec<&'static str> = Vec::new();
    missing.extend(table.columns().iter().map(|c| c.name).filter(|name| !found.columns.contains_key(*name)));
    missing
        .extend(table.indexes().iter().map(|(name, _)| *name).filter(|name| !found.indexes.contains(*name)));
    let settings = table.settings();
    let differs = settings
        .iter()
        .filter(|(name, value)| !FIXED_SETTINGS.contains(name) && found.settings.get(*name) != Some(value));
    missing.extend(differs.map(|(name, _)| *name));
    let mut changes = Vec::new();
    if !missing.is_empty() {
        changes.push(Change::Complete { table, missing });
    }
    if found.ttl != table.ttl(retention) {
        changes.push(Change::Retain { table, retention });
    }
    changes
}

fn view_changes(want: &DatabaseSpec, rows: &ViewSpec, state: &DatabaseState) -> Vec<Change> {
    // All views show the same lanes; `events` is the one that names them.
    let rows = match state.views.get(&View::Events) {
        Some(found) => rows.keeping(&want.name, &found.select),
        None => rows.clone(),
    };
    // Without a lane there is nothing to show yet.
    if rows.databases.is_empty() {
        return Vec::new();
    }
    let as_wanted = |view: &View| {
        state.views.get(view).is_some_and(|found| found.definer && found.select == rows.select(*view))
    };
    let missing = View::ALL.into_iter().filter(|view| !as_wanted(view));
    missing.map(|view| Change::PutView { view, rows: rows.clone() }).collect()
}
