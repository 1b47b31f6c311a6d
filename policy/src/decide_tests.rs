use super::*;
use crate::limit::{CountFrom, FailureMode, Limit, Match, Mode, Origin, Per};
use crate::snapshot::tests::snapshot;
use crate::window::Window;
use event::ledger_key::LedgerKey;
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
        rollout_percent: 100,
        failure_mode: FailureMode::Closed,
        warn_at: vec![],
        epoch: "e".into(),
        cap_generation: 1,
        origin: Origin::default(),
        overridden: None,
        seeding: false,
        count_from: CountFrom::Creation,
    }
}

fn needs(policy: &TenantPolicy, json: &str) -> Result<Vec<(usize, u64)>, (String, &'static str)> {
    let event = parse(json, Form::Plain).unwrap();
    let periods = policy.periods(NOW_MS);
    let key = &policy.snapshot().keys[0];
    let facts = Facts { key, user: UserKey(9), received_ms: NOW_MS, periods: &periods };
    decide(policy, &event, &facts)
        .map(|permit| permit.needs.iter().map(|need| (need.rule, need.units)).collect())
        .map_err(|denial| match denial.cause {
            Cause::Invalid(invalid) => (invalid.field, invalid.code),
            Cause::Access(denial) => (denial.identity, "access"),
        })
}

fn permit(policy: &TenantPolicy, json: &str, user: UserKey) -> Result<Permit, Denial> {
    let event = parse(json, Form::Plain).unwrap();
    let periods = policy.periods(NOW_MS);
    let key = &policy.snapshot().keys[0];
    decide(policy, &event, &Facts { key, user, received_ms: NOW_MS, periods: &periods })
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
    assert_eq!(needs(&policy, r#"{"id":"1","type":"login"}"#), Ok(vec![(0, 1), (2, 1)]));
    assert_eq!(
        needs(&policy, r#"{"id":"1","type":"ai.chat","data":{"tokens":250}}"#),
        Ok(vec![(0, 1), (1, 250), (2, 1)])
    );
    assert_eq!(
        needs(&policy, r#"{"id":"1","type":"ai.chat"}"#),
        Ok(vec![(0, 1), (2, 1)]),
        "nothing summed, nothing needed"
    );
    assert_eq!(needs(&policy, r#"{"id":"1","type":"report.export"}"#), Ok(vec![(0, 1), (2, 1), (3, 1)]));
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
    let rule = &policy.rules()[3];
    let key = |subject, period_start_ms| QuotaKey { rule: rule.id, subject, period_start_ms };
    let name = |key: QuotaKey| key.record_key(&policy.snapshot().lineage, &rule.limit);
    assert_ne!(name(key(1, 0)), name(key(2, 0)));
    assert_ne!(name(key(1, 0)), name(key(1, 1_000)));
    assert_eq!(key(u128::MAX, -1).to_string().parse(), Ok(key(u128::MAX, -1)));
    assert!("1.2".parse::<QuotaKey>().is_err());
    assert!(name(key(u128::MAX, NOW_MS)).ends_with(".plan.exports"));
    let whole = key(7, 1_000_000);
    let text = name(whole);
    assert_eq!(LedgerKey::parse(&text).and_then(|key| QuotaKey::of_record(&key)), Some(whole));
    assert!(
        name(key(1, 0)).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./".contains(&b)),
        "a legal KV key"
    );
}

#[test]
fn every_mode_counts_and_only_enforce_refuses() {
    let with = |mode| Limit { mode, ..limit("a", Per::User, Measure::Count, &[]) };
    let limits = [Mode::Enforce, Mode::Warn, Mode::Observe].map(with).to_vec();
    let policy = TenantPolicy::new(snapshot(limits)).unwrap();
    let permit = permit(&policy, r#"{"id":"1","type":"login"}"#, UserKey(9)).unwrap();
    let effects: Vec<Effect> = permit.needs.iter().map(|need| need.effect).collect();
    assert_eq!(effects, [Effect::Refused, Effect::Warned, Effect::Observed]);
}

#[test]
fn a_rollout_reaches_its_share_of_the_users_and_grows_without_changing_sides() {
    let reached = |name: &str, percent| -> Vec<bool> {
        let partly = Limit { rollout_percent: percent, ..limit(name, Per::User, Measure::Count, &[]) };
        let policy = TenantPolicy::new(snapshot(vec![partly])).unwrap();
        (0..2_000).map(|user| policy.rules()[0].effect_for(UserKey(user)) == Effect::Refused).collect()
    };
    let (ten, thirty) = (reached("a", 10), reached("a", 30));
    let count = |reached: &[bool]| reached.iter().filter(|reached| **reached).count();
    assert!((140..260).contains(&count(&ten)) && (500..700).contains(&count(&thirty)), "{}", count(&ten));
    assert!(ten.iter().zip(&thirty).all(|(ten, thirty)| !ten || *thirty), "who was reached stays reached");
    assert_ne!(ten, reached("b", 10), "another limit reaches other users");
    assert_eq!((count(&reached("a", 0)), count(&reached("a", 100))), (0, 2_000));
}

#[test]
fn a_rollout_follows_the_limit_when_its_match_is_edited() {
    let effects = |epoch: &str| -> Vec<Effect> {
        let partly =
            Limit { rollout_percent: 50, epoch: epoch.into(), ..limit("a", Per::User, Measure::Count, &[]) };
        let policy = TenantPolicy::new(snapshot(vec![partly])).unwrap();
        (0..64).map(|user| policy.rules()[0].effect_for(UserKey(user))).collect()
    };
    assert_eq!(effects("e"), effects("f"));
}

#[test]
fn what_an_observed_sum_cannot_read_is_not_counted() {
    let sum = Measure::Sum { field: "tokens".into() };
    let observed = Limit { mode: Mode::Observe, ..limit("tokens", Per::Tenant, sum, &[]) };
    let policy = TenantPolicy::new(snapshot(vec![observed])).unwrap();
    assert_eq!(needs(&policy, r#"{"id":"1","type":"t","data":{"tokens":-1}}"#), Ok(vec![]));
}

#[test]
fn denials_name_the_check_and_the_rule() {
    let rules = vec![crate::access::AccessRule { name: "no-reports".into(), matches: Match::default() }];
    let denied = crate::access::AccessPolicy {
        identity: "ns.acme.a".into(),
        name: "a".into(),
        effect: crate::access::AccessEffect::Deny,
        rules,
        mode: Mode::Enforce,
        origin: Origin::default(),
    };
    let mut snapshot = policy().snapshot().clone();
    let json = r#"{"id":"1","type":"ai.chat","data":{"tokens":-1}}"#;
    let denial = permit(&TenantPolicy::new(snapshot.clone()).unwrap(), json, UserKey(1)).unwrap_err();
    assert_eq!((denial.check, denial.rule.as_deref()), (Check::LimitsMeasured, Some("plan.tokens")));
    assert_eq!(denial.field(), "data.tokens");
    snapshot.access = vec![denied];
    let denial = permit(&TenantPolicy::new(snapshot).unwrap(), json, UserKey(1)).unwrap_err();
    assert_eq!((denial.check, denial.rule.as_deref()), (Check::AccessGranted, Some("ns.acme.a")));
    let order: Vec<&str> = EVENT_CHECKS.iter().map(|(check, _)| check.name()).collect();
    assert_eq!(order, ["time_in_window", "access_granted", "limits_measured"]);
    for (check, _) in REQUEST_CHECKS {
        let refusals = [Refusal::KeyExpired, Refusal::ScopeMissing, Refusal::TenantSuspended];
        assert_eq!(refusals.iter().filter(|refusal| refusal.check() == check).count(), 1, "{}", check.name());
    }
}
