//! What every implementation of [`Databases`] must do. It is run on the fake in unit tests and on a real server in system
//! tests; it uses databases of its own and removes them. A failure panics with what was expected.

use event::{Claim, Lane, Observed, Stamp, TenantName, TenantNumber};

use super::plan::{Blocked, DatabaseStep, adopt, plan, release};
use super::{DatabaseError, DatabaseSpec, DatabaseState, Databases, Kept};
use crate::schema::{Table, View};

const INSTALLATION: &str = "contract";
const TENANT: &str = "contract-databases";
const NUMBER: TenantNumber = TenantNumber(u64::MAX);
/// A shard that no installation uses.
const SHARD: u16 = u16::MAX;

/// A change behind the operator's back, which the suite asks its caller to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// The view is dropped.
    ViewDropped,
    /// The view shows everybody's rows, with the rights of who asks.
    ViewWidened,
    /// Column `data` of the raw table is dropped.
    ColumnDropped,
    /// The raw table forgets the tokens of inserted blocks.
    DeduplicationOff,
}

impl Drift {
    /// The statement that makes this change to `database` on a real server.
    pub fn sql(self, database: &str) -> String {
        match self {
            Self::ViewDropped => format!("DROP VIEW {database}.events SYNC"),
            Self::ViewWidened => format!(
                "CREATE OR REPLACE VIEW {database}.events SQL SECURITY INVOKER AS SELECT * FROM {database}.events_raw"
            ),
            Self::ColumnDropped => format!("ALTER TABLE {database}.events_raw DROP COLUMN data"),
            Self::DeduplicationOff => {
                format!(
                    "ALTER TABLE {database}.events_raw MODIFY SETTING non_replicated_deduplication_window = 0"
                )
            }
        }
    }
}

/// Runs all of it. `drift` makes a change to a database without using [`Databases`].
pub async fn run(databases: &impl Databases, drift: impl AsyncFn(&str, Drift)) {
    let (own, pool) = (dedicated(30), DatabaseSpec::pool(SHARD, &stamp("u1")));
    for spec in [&own, &pool] {
        remove(databases, &spec.name).await;
        assert_eq!(databases.observe(&spec.name).await, Observed::Absent, "{} is absent at first", spec.name);
    }
    for spec in [&pool, &own] {
        converge(databases, spec).await;
    }
    for change in [Drift::ViewDropped, Drift::ViewWidened, Drift::ColumnDropped, Drift::DeduplicationOff] {
        drift(&own.name, change).await;
        assert!(!steps(databases, &own).await.is_empty(), "{change:?} shows");
        converge(databases, &own).await;
    }
    for name in [&pool.name, "pool_that_is_not_there"] {
        assert_eq!(databases.forget(name, NUMBER).await, Ok(()), "{name} holds nothing of the tenant");
    }
    assert!(steps(databases, &pool).await.is_empty(), "only rows are gone");
    retention_changes_in_place(databases).await;
    a_tenant_moves_and_keeps_its_rows_in_view(databases).await;
    names_are_listed_by_prefix(databases, &own).await;
    steps_refuse_what_is_not_ours(databases).await;
    data_is_released_and_adopted(databases).await;
    for spec in [&own, &pool] {
        remove(databases, &spec.name).await;
        assert_eq!(databases.observe(&spec.name).await, Observed::Absent, "{} is gone", spec.name);
    }
}

fn tenant() -> TenantName {
    match TENANT.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("the constant is a name: {error}"),
    }
}

fn stamp(uid: &str) -> Stamp {
    let text = str::to_owned;
    Stamp {
        installation: text(INSTALLATION),
        tenant: text(TENANT),
        uid: text(uid),
        // A quote and a backslash, because the stamp travels inside a string literal.
        lineage: text("it's \\ u0"),
        released: false,
    }
}

fn dedicated(days: u32) -> DatabaseSpec {
    DatabaseSpec::dedicated(
        &tenant(),
        NUMBER,
        Kept { events_days: days, rollups_days: days + 1 },
        &stamp("u1"),
    )
}

async fn steps(databases: &impl Databases, spec: &DatabaseSpec) -> Vec<DatabaseStep> {
    let plan = plan(spec, &databases.observe(&spec.name).await);
    assert_eq!(plan.blocked, None, "{} can be had", spec.name);
    plan.steps
}

async fn state(databases: &impl Databases, name: &str) -> DatabaseState {
    match databases.observe(name).await {
        Observed::Present(state) => state,
        other => unreachable!("{name} should be present, but is {other:?}"),
    }
}

/// The law: after every step of a plan, the plan is empty; and a step may be executed twice.
async fn converge(databases: &impl Databases, spec: &DatabaseSpec) {
    for step in steps(databases, spec).await {
        assert_eq!(databases.execute(&step).await, Ok(()), "{step:?}");
        if step.change != super::plan::Change::Create {
            assert_eq!(databases.execute(&step).await, Ok(()), "again: {step:?}");
        }
    }
    assert_eq!(steps(databases, spec).await, [], "{} is as it should be", spec.name);
}

async fn retention_changes_in_place(databases: &impl Databases) {
    for days in [400, 7] {
        let spec = dedicated(days);
        converge(databases, &spec).await;
        for (table, days) in [(Table::Raw, days), (Table::Rollups, days + 1)] {
            let ttl = &state(databases, &spec.name).await.tables[&table].ttl;
            assert!(ttl.ends_with(&format!("toIntervalDay({days})")), "{ttl}");
        }
    }
}

async fn a_tenant_moves_and_keeps_its_rows_in_view(databases: &impl Databases) {
    let pooled = |events_days| {
        let kept = Kept { events_days, rollups_days: 400 };
        DatabaseSpec::pooled(&tenant(), NUMBER, [&Lane::Pooled(SHARD)], kept, &stamp("u1"))
    };
    converge(databases, &pooled(30)).await;
    assert!(!steps(databases, &pooled(20)).await.is_empty(), "another retention shows");
    let pooled = pooled(20);
    converge(databases, &pooled).await;
    let state = state(databases, &pooled.name).await;
    assert!(state.tables.contains_key(&Table::Raw), "rows stay where they are");
    for view in View::ALL {
        let select = &state.views[&view].select;
        for database in [&pooled.name, &Lane::Pooled(SHARD).database()] {
            let shown = [format!("FROM {database}."), format!("'{database}' AS place")];
            assert!(shown.iter().any(|shown| select.contains(shown)), "{database} in {select}");
        }
    }
}

async fn names_are_listed_by_prefix(databases: &impl Databases, spec: &DatabaseSpec) {
    let names = databases.list_names("tenant_contract").await;
    assert_eq!(names, Ok(vec![spec.name.clone()]), "underscores are no wildcards");
}

async fn steps_refuse_what_is_not_ours(databases: &impl Databases) {
    let foreign =
        DatabaseSpec { stamp: Stamp { installation: "other".to_owned(), ..stamp("u1") }, ..dedicated(30) };
    let seen = plan(&foreign, &databases.observe(&foreign.name).await);
    assert_eq!(seen.steps, [], "nothing is planned for another's database");
    assert!(matches!(seen.blocked, Some(Blocked::Claimed(Claim::Foreign { .. }))), "{:?}", seen.blocked);
    let recreated = DatabaseSpec { stamp: stamp("u2"), ..dedicated(30) };
    let seen = plan(&recreated, &databases.observe(&recreated.name).await);
    assert!(matches!(seen.blocked, Some(Blocked::Claimed(Claim::Orphaned { .. }))), "{:?}", seen.blocked);
    // A plan made of an old observation meets a database that changed hands.
    for step in plan(&foreign, &Observed::Absent).steps {
        let refused = databases.execute(&step).await;
        assert_eq!(refused, Err(DatabaseError::StampMismatch { found: Some(stamp("u1")) }), "{step:?}");
    }
    let refused = databases.delete(&foreign.name, &foreign.stamp).await;
    assert_eq!(refused, Err(DatabaseError::StampMismatch { found: Some(stamp("u1")) }), "delete");
}

async fn data_is_released_and_adopted(databases: &impl Databases) {
    let name = tenant().database();
    let released = Stamp { released: true, ..stamp("u1") };
    let step = release(&state(databases, &name).await);
    for step in step.iter().chain(&step) {
        assert_eq!(databases.execute(step).await, Ok(()), "releasing twice is releasing once");
    }
    assert_eq!(state(databases, &name).await.stamp, Some(released));
    let heir = DatabaseSpec { stamp: stamp("u2"), ..dedicated(30) };
    let seen = plan(&heir, &databases.observe(&name).await);
    assert!(matches!(seen.blocked, Some(Blocked::Claimed(Claim::RetainedData { .. }))), "{:?}", seen.blocked);
    if let Some(step) = adopt(&state(databases, &name).await, &heir.stamp) {
        assert_eq!(databases.execute(&step).await, Ok(()), "adoption");
    }
    converge(databases, &heir).await;
}

async fn remove(databases: &impl Databases, name: &str) {
    if let Observed::Present(DatabaseState { stamp: Some(stamp), .. }) = databases.observe(name).await
        && stamp.installation == INSTALLATION
    {
        assert_eq!(databases.delete(name, &stamp).await, Ok(()), "{name} is removed");
    }
    assert_eq!(databases.delete(name, &stamp("u1")).await, Ok(()), "removing what is absent succeeds");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::databases::fake::FakeDatabases;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeDatabases::default();
        run(&fake, async |name, drift| {
            fake.tamper(name, |state| {
                let raw = state.tables.get_mut(&Table::Raw);
                match drift {
                    Drift::ViewDropped => drop(state.views.remove(&View::Events)),
                    Drift::ViewWidened => state.views.values_mut().for_each(|view| view.definer = false),
                    Drift::ColumnDropped => drop(raw.and_then(|raw| raw.columns.remove("data"))),
                    Drift::DeduplicationOff => drop(raw.and_then(|raw| {
                        raw.settings.insert("non_replicated_deduplication_window".to_owned(), "0".to_owned())
                    })),
                }
            });
        })
        .await;
    }

    #[tokio::test]
    async fn a_table_keeps_what_it_was_made_with() {
        let (fake, own) = (FakeDatabases::default(), dedicated(30));
        converge(&fake, &own).await;
        for (setting, changes) in [("index_granularity", false), ("min_compress_block_size", true)] {
            fake.tamper(&own.name, |state| {
                let raw = state.tables.get_mut(&Table::Raw);
                drop(raw.and_then(|raw| raw.settings.insert(setting.to_owned(), "8192".to_owned())));
            });
            assert_eq!(!steps(&fake, &own).await.is_empty(), changes, "{setting}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_observed_is_left_alone() {
        let fake = FakeDatabases::default();
        fake.set_down(Some("gone"));
        let seen = plan(&dedicated(30), &fake.observe("tenant_contract_databases").await);
        assert_eq!(seen.steps, []);
        assert!(matches!(seen.blocked, Some(Blocked::Unknown(_))));
    }
}
