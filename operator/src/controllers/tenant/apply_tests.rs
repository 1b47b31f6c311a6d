use super::super::build::build;
use super::super::dereference::dereference;
use super::super::validate::tests::{acme, pro, settings};
use super::super::validate::validate;
use super::*;
use crate::controllers::ownership::{Found, claim};
use clickhouse::databases::{self, fake::FakeDatabases};
use event::{Lane, Stamp, TenantName};
use jetstream::streams::{self, fake::FakeStreams};
use vault::keys::fake::FakeTransitKeys;

type Systems = (FakeStreams, FakeDatabases, FakeTransitKeys);

fn name() -> TenantName {
    "acme".parse().unwrap()
}

fn desired(stamp: Option<Stamp>) -> Desired {
    let validated = validate(&acme(|_| {}), Some(&pro(|_| {})), &settings()).unwrap();
    let own = claim(&validated.owner("dev", &name()), &[]).unwrap().stamp;
    build(
        &name(),
        &validated,
        &stamp.unwrap_or(own),
        (Lane::Dedicated(name()), false),
        Default::default(),
        &settings(),
    )
    .unwrap()
}

async fn once(systems: &Systems, desired: &Desired, permission: Permission) -> Result<(), Hindrance> {
    let found = dereference(&systems.0, &systems.1, &systems.2, &name()).await;
    apply((&systems.0, &systems.1, &systems.2), desired, found, permission, false).await
}

const FIRST: Permission = Permission { adopt: false, must_exist: false };
const LATER: Permission = Permission { adopt: false, must_exist: true };

#[tokio::test]
async fn a_new_tenant_gets_all_three_and_a_second_round_changes_nothing() {
    let (systems, desired) = (Systems::default(), desired(None));
    once(&systems, &desired, FIRST).await.unwrap();
    let found = dereference(&systems.0, &systems.1, &systems.2, &name()).await;
    let stream = desired.stream.as_ref().unwrap();
    assert!(streams::plan(stream, &found.stream, streams::Expectation::MustExist).steps.is_empty());
    assert!(databases::plan(&desired.database, &found.database).steps.is_empty());
    assert!(keys::plan(&desired.key, &found.key, keys::Expectation::MustExist).steps.is_empty());
    once(&systems, &desired, LATER).await.unwrap();
}

#[tokio::test]
async fn a_loss_is_told_and_not_papered_over() {
    let (systems, desired) = (Systems::default(), desired(None));
    once(&systems, &desired, FIRST).await.unwrap();
    systems.0.delete("USAGE_acme", &desired.stamp).await.unwrap();
    let Err(Hindrance::Stalled(why)) = once(&systems, &desired, LATER).await else { panic!("not told") };
    assert_eq!(why.reason, "StreamMissing");
    once(&systems, &desired, FIRST).await.unwrap();
    systems.1.delete("tenant_acme", &desired.stamp).await.unwrap();
    let Err(Hindrance::Stalled(why)) = once(&systems, &desired, LATER).await else { panic!("not told") };
    assert_eq!(why.reason, "DatabaseMissing");
}

#[tokio::test]
async fn an_adoption_restamps_everything_and_keeps_the_lineage() {
    let (systems, first) = (Systems::default(), desired(None));
    once(&systems, &first, FIRST).await.unwrap();
    let heir =
        desired(Some(Stamp { uid: "6b2e1a4c-0000-4000-8000-000000000002".into(), ..first.stamp.clone() }));
    once(&systems, &heir, Permission { adopt: true, must_exist: false }).await.unwrap();
    let found = dereference(&systems.0, &systems.1, &systems.2, &name()).await;
    let stamps = found.found(&name()).unwrap().map(|(_, found)| found);
    let expected = Found::Present(Some(heir.stamp.clone()));
    assert!(stamps.iter().all(|found| *found == expected), "{stamps:?}");
}
