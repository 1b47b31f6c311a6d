use super::super::validate::tests::acme;
use super::*;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn deleted(policy: DeletionPolicy, confirmed: Option<&str>) -> Tenant {
    acme(|tenant| {
        tenant.spec.deletion_policy = policy;
        tenant.spec.deletion_grace = "1h".parse().unwrap();
        tenant.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(10_000).unwrap()));
        let annotation = confirmed.map(|value| (CONFIRMATION.to_owned(), value.to_owned()));
        tenant.metadata.annotations = Some(annotation.into_iter().collect());
    })
}

#[test]
fn only_a_confirmed_deletion_destroys() {
    assert!(is_destruction(&deleted(DeletionPolicy::Delete, Some("acme"))));
    assert!(!is_destruction(&deleted(DeletionPolicy::Delete, Some("other"))));
    assert!(!is_destruction(&deleted(DeletionPolicy::Delete, None)));
    assert!(!is_destruction(&deleted(DeletionPolicy::Retain, Some("acme"))));
}

#[test]
fn only_data_that_are_kept_are_let_go_without_an_answer() {
    let after = Duration::from_secs(600);
    let end = |tenant: &Tenant| deadline(tenant, after).map(Timestamp::as_second);
    assert_eq!(end(&deleted(DeletionPolicy::Retain, None)), Some(10_600));
    assert_eq!(end(&deleted(DeletionPolicy::Delete, None)), Some(10_600), "nobody confirmed: it retains");
    assert_eq!(end(&deleted(DeletionPolicy::Delete, Some("acme"))), None);
    assert_eq!(end(&acme(|_| {})), None);
}

#[test]
fn destruction_waits_for_the_grace_period() {
    let tenant = deleted(DeletionPolicy::Delete, Some("acme"));
    let left =
        |second| grace_left(&tenant, Timestamp::from_second(second).unwrap()).map(|left| left.as_secs());
    assert_eq!((left(10_000), left(13_599), left(13_600), left(99_999)), (Some(3_600), Some(1), None, None));
    let retained = deleted(DeletionPolicy::Retain, None);
    assert_eq!(grace_left(&retained, Timestamp::from_second(10_000).unwrap()), None);
}
