use super::*;
use crate::limit::{FailureMode, Limit, Match, Mode, Origin, Per};
use crate::snapshot::tests::snapshot;
use crate::window::Window;
use event::wire::{Form, parse};

const NOW_MS: i64 = 1_769_900_000_000;

pub(crate) fn limit(name: &str, per: Per, measure: Measure, features: &[&str]) -> Limit {
    Limit {
        identity: format!("plan.{name}"),
        name: name.into(),
        per,
        max: 10,
        window: Window::Day,
        burst: 0,
        measure,
        matches: Match { features: features.iter().map(|f| (*f).into()).collect(), ..Match::default() },
        mode: Mode::Enforce,
        failure_mode: FailureMode::Closed,
        warn_at: vec![],
        epoch: "e".into(),
        cap_generation: 1,
        origin: Origin::default(),
    }
}

fn needs(policy: &TenantPolicy, json: &str) -> Result<Vec<(usize, u64)>, (String, &'static str)> {
    let event = parse(json, Form::Plain).unwrap();
    let periods = policy.periods(NOW_MS);
    let key = &policy.snapshot().keys[0];
    let facts = Facts { key, user: UserKey(9), received_ms: NOW_MS, periods: &periods };
    decide(policy, &event, &facts)
        .map(|needs| needs.iter().map(|need| (need.rule, need.units)).collect())
        .map_err(|invalid| (invalid.field, invalid.code))
}

fn policy() -> TenantPolicy {
    let sum = Measure::Sum { field: "tokens".into() };
    let limits = vec![
        limit("events", Per::Tenant, Measure::Count, &[]),
        limit("tokens", Per::Tenant, sum, &["ai.*"]),
        Limit { mode: Mode::Observe, ..limit("seen", Per::User, Measure::Count, &[]) },
        limit("exports", Per::User, Measure::Count, &["report.export"]),
    ];
    TenantPolicy::new(snapshot(limits)).unwrap()
}

#[test]
fn every_matching_limit_needs_its_units() {
    let policy = policy();
    assert_eq!(needs(&policy, r#"{"id":"1","type":"login"}"#), Ok(vec![(0, 1)]));
    assert_eq!(
        needs(&policy, r#"{"id":"1","type":"ai.chat","data":{"tokens":250}}"#),
        Ok(vec![(0, 1), (1, 250)])
    );
    assert_eq!(
        needs(&policy, r#"{"id":"1","type":"ai.chat"}"#),
        Ok(vec![(0, 1)]),
        "nothing summed, nothing needed"
    );
    assert_eq!(needs(&policy, r#"{"id":"1","type":"report.export"}"#), Ok(vec![(0, 1), (2, 1)]));
}

#[test]
fn summed_measures_must_be_whole_and_not_negative() {
    let policy = policy();
    for value in ["-1", "1.5", "\"7\"", "1e300", "null", "[]"] {
        let json = format!(r#"{{"id":"1","type":"ai.chat","data":{{"tokens":{value}}}}}"#);
        assert_eq!(needs(&policy, &json), Err(("data.tokens".into(), "bad_measure")), "{value}");
    }
}

#[test]
fn event_times_must_lie_in_the_window() {
    let policy = policy();
    let at = |ms: i64| {
        let time = crate::window::rfc3339(NOW_MS + ms);
        needs(&policy, &format!(r#"{{"id":"1","type":"login","time":"{time}"}}"#))
    };
    let day = 24 * 3_600_000;
    assert!(at(-7 * day).is_ok() && at(300_000).is_ok());
    assert_eq!(at(-7 * day - 1_000), Err(("time".into(), "time_too_old")));
    assert_eq!(at(day), Err(("time".into(), "time_ahead")));
}

#[test]
fn requests_are_refused_in_order() {
    let policy = policy();
    let mut key = policy.snapshot().keys[0].clone();
    assert_eq!(authorize(&policy, &key, Scope::Ingest, NOW_MS), Ok(()));
    assert_eq!(authorize(&policy, &key, Scope::Read, NOW_MS), Err(Refusal::ScopeMissing));
    key.not_after_ms = Some(NOW_MS - 1);
    assert_eq!(authorize(&policy, &key, Scope::Read, NOW_MS), Err(Refusal::KeyExpired));
    let mut suspended = snapshot(vec![]);
    suspended.state = TenantState::Suspended;
    let suspended = TenantPolicy::new(suspended).unwrap();
    assert_eq!(
        authorize(&suspended, &suspended.snapshot().keys[0], Scope::Ingest, 0),
        Err(Refusal::TenantSuspended)
    );
}

#[test]
fn quota_records_are_told_apart_by_subject_and_period() {
    let policy = policy();
    let rule = &policy.rules()[2];
    let key = |subject, period_start_ms| QuotaKey { rule: rule.id, subject, period_start_ms };
    let name = |key: QuotaKey| key.record_key(&policy.snapshot().lineage, &rule.limit);
    assert_ne!(name(key(1, 0)), name(key(2, 0)));
    assert_ne!(name(key(1, 0)), name(key(1, 1_000)));
    assert_eq!(key(u128::MAX, -1).to_string().parse(), Ok(key(u128::MAX, -1)));
    assert!("1.2".parse::<QuotaKey>().is_err());
    assert!(name(key(u128::MAX, NOW_MS)).ends_with(".plan.exports"));
    assert!(
        name(key(1, 0)).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./".contains(&b)),
        "a legal KV key"
    );
}
