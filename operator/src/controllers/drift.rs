//! What differs between what an owner should have and what stands there, in words: for objects that are only observed, and for the
//! log of what is repaired. Pure.

use clickhouse::databases::{self, Change, DatabaseSpec, DatabaseState};
use event::Observed;
use jetstream::{StreamSpec, StreamState, StreamStep, streams};
use vault::{KeySpec, KeyState, keys};

const ANOTHER: &str = "carries another stamp";

/// Of a stream; `kept`: it held data, so a missing one is a loss.
pub fn stream(want: &StreamSpec, found: &Observed<StreamState>, kept: bool) -> Vec<String> {
    let expectation = if kept { streams::Expectation::MustExist } else { streams::Expectation::MayCreate };
    let plan = streams::plan(want, found, expectation);
    let step = |step: &StreamStep| match step {
        StreamStep::Create(_) => "is missing".to_owned(),
        StreamStep::Update { fields, .. } => format!("differs in {}", fields.join(", ")),
        StreamStep::Restamp { .. } => ANOTHER.to_owned(),
    };
    let blocked = plan.blocked.as_ref().and_then(|blocked| match blocked {
        streams::Blocked::WouldEvict { .. } => None,
        streams::Blocked::Missing => Some("is missing".to_owned()),
        streams::Blocked::Claimed(_) => Some(ANOTHER.to_owned()),
        streams::Blocked::Unknown(reason) => Some(reason.clone()),
        streams::Blocked::Immutable { field } => Some(format!("differs in {field}, which cannot be changed")),
    });
    told(&format!("stream {}", want.name), plan.steps.iter().map(step).chain(blocked))
}

/// Of a database.
pub fn database(want: &DatabaseSpec, found: &Observed<DatabaseState>) -> Vec<String> {
    let plan = databases::plan(want, found);
    let step = |step: &databases::DatabaseStep| match &step.change {
        Change::Create => "is missing".to_owned(),
        Change::Restamp { .. } => ANOTHER.to_owned(),
        Change::CreateTable { table, .. } => format!("lacks table {table:?}"),
        Change::Complete { table, missing } => format!("table {table:?} differs in {}", missing.join(", ")),
        Change::Retain { table, .. } => format!("table {table:?} keeps rows for another time"),
        Change::PutView { view, .. } => format!("view {view:?} is another, or missing"),
    };
    let blocked = plan.blocked.as_ref().map(|blocked| match blocked {
        databases::Blocked::Incompatible { table, what, found } => {
            format!("{what} of table {table:?} is {found}, which cannot be changed in place")
        }
        databases::Blocked::Claimed(_) => ANOTHER.to_owned(),
        databases::Blocked::Unknown(reason) => reason.clone(),
    });
    told(&format!("database {}", want.name), plan.steps.iter().map(step).chain(blocked))
}

/// Of a key.
pub fn key(want: &KeySpec, found: &Observed<KeyState>, kept: bool) -> Vec<String> {
    let expectation = if kept { keys::Expectation::MustExist } else { keys::Expectation::MayCreate };
    let plan = keys::plan(want, found, expectation);
    let step = |step: &keys::KeyStep| match step {
        keys::KeyStep::CreateKey { .. } => "is missing".to_owned(),
        keys::KeyStep::WritePolicy { .. } => "has another policy".to_owned(),
        keys::KeyStep::ForbidDeletion { .. } => "may be deleted".to_owned(),
    };
    let blocked = plan.blocked.as_ref().map(|blocked| match blocked {
        keys::Blocked::Missing => "is missing".to_owned(),
        keys::Blocked::Claimed(_) => ANOTHER.to_owned(),
        keys::Blocked::Unknown(reason) => reason.clone(),
        keys::Blocked::Immutable { field } => format!("differs in {field}, which cannot be changed"),
    });
    told(&format!("key {}", want.tenant.transit_key()), plan.steps.iter().map(step).chain(blocked))
}

fn told(what: &str, differences: impl Iterator<Item = String>) -> Vec<String> {
    differences.map(|difference| format!("{what} {difference}")).collect()
}
