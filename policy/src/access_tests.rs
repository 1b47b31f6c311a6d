use super::*;
use event::wire::{Form, parse};

fn policy(name: &str, effect: AccessEffect, mode: Mode, expressions: &[&str]) -> Access {
    let rule = |(at, expression): (usize, &&str)| AccessRule {
        name: format!("r{at}"),
        matches: Match { expression: Some((*expression).into()), ..Match::default() },
    };
    let rules = expressions.iter().enumerate().map(rule).collect();
    let (identity, name) = (format!("ns.acme.{name}"), name.to_owned());
    Access::compile(AccessPolicy { identity, name, effect, rules, mode, origin: Origin::default() }).unwrap()
}

fn allow(name: &str, expression: &str) -> Access {
    policy(name, AccessEffect::Allow, Mode::Enforce, &[expression])
}

fn deny(name: &str, expression: &str) -> Access {
    policy(name, AccessEffect::Deny, Mode::Enforce, &[expression])
}

type Answer = Result<Vec<(String, Effect)>, (String, Option<String>)>;

fn ask(policies: &[Access], json: &str) -> Answer {
    let event = parse(json, Form::Plain).unwrap();
    let zone = crate::window::zone("Europe/Zurich").unwrap();
    // 2026-11-21 05:00 UTC, a Saturday, is six o'clock in Zurich.
    let subject = Subject::at(&event, &zone, 1_795_237_200_000);
    judge(policies, &subject)
        .map(|remarks| remarks.into_iter().map(|(denial, effect)| (denial.policy, effect)).collect())
        .map_err(|denial| (denial.policy, denial.rule))
}

const ANN: &str = r#"{"id":"1","type":"report.export","subject":"ann","data":{"plan":"eu"}}"#;
const BOB: &str = r#"{"id":"1","type":"login","subject":"bob"}"#;

#[test]
fn deny_overrides_allow_in_any_order() {
    let allows = || allow("a", "event.subject == 'ann'");
    let denies = || deny("d", "event.type.startsWith('report.')");
    for policies in [[allows(), denies()], [denies(), allows()]] {
        assert_eq!(ask(&policies, ANN), Err(("d".into(), Some("r0".into()))));
    }
    assert_eq!(ask(&[allows()], ANN), Ok(vec![]));
    assert_eq!(ask(&[], ANN), Ok(vec![]), "without policies everything is admitted");
}

#[test]
fn while_there_is_an_allow_rule_an_event_must_fit_one() {
    let policies = [allow("a", "event.subject == 'ann'"), allow("b", "event.type == 'chat'")];
    assert_eq!(ask(&policies, BOB), Err(("a".into(), None)));
    assert_eq!(ask(&policies, r#"{"id":"1","type":"chat","subject":"bob"}"#), Ok(vec![]));
    let two = [policy(
        "a",
        AccessEffect::Allow,
        Mode::Enforce,
        &["event.subject == 'ann'", "event.subject == 'bob'"],
    )];
    assert_eq!(ask(&two, BOB), Ok(vec![]), "one of its rules is enough");
}

#[test]
fn a_policy_on_trial_changes_nothing_and_says_what_it_would_do() {
    let trial = |mode| policy("t", AccessEffect::Deny, mode, &["true"]);
    assert_eq!(ask(&[trial(Mode::Observe)], BOB), Ok(vec![("t".into(), Effect::Observed)]));
    assert_eq!(ask(&[trial(Mode::Warn)], BOB), Ok(vec![("t".into(), Effect::Warned)]));
    let lax = policy("lax", AccessEffect::Allow, Mode::Observe, &["true"]);
    let strict = allow("strict", "event.subject == 'ann'");
    assert_eq!(
        ask(&[lax, strict], BOB),
        Err(("strict".into(), None)),
        "a trial does not widen what is enforced"
    );
    let trial = policy("t", AccessEffect::Allow, Mode::Warn, &["event.subject == 'carl'"]);
    let strict = allow("strict", "event.subject == 'bob'");
    assert_eq!(ask(&[trial, strict], BOB), Ok(vec![]), "enforced, it would be one of two");
    let trial = policy("t", AccessEffect::Allow, Mode::Warn, &["event.subject == 'carl'"]);
    assert_eq!(ask(&[trial], BOB), Ok(vec![("t".into(), Effect::Warned)]));
}

#[test]
fn time_is_the_tenants_local_time_of_receipt() {
    for (expression, fits) in [
        ("time.hour == 6 && time.minute == 0", true),
        ("time.dayOfWeek == 6", true),
        ("time.date == '2026-11-21'", true),
        ("time.hour >= 8 && time.hour < 18", false),
    ] {
        assert_eq!(ask(&[deny("d", expression)], BOB).is_err(), fits, "{expression}");
    }
}

#[test]
fn what_cannot_be_evaluated_fits_no_rule() {
    assert_eq!(ask(&[deny("d", "event.data.plan == 'eu'")], BOB), Ok(vec![]), "bob's event has no plan");
    assert!(ask(&[allow("a", "event.data.plan == 'eu'")], BOB).is_err());
    assert_eq!(ask(&[allow("a", "event.data.plan == 'eu'")], ANN), Ok(vec![]));
}

#[test]
fn data_that_are_not_looked_through_are_denied() {
    let tags = vec!["1"; 300].join(",");
    let json = format!(r#"{{"id":"1","type":"t","data":{{"tags":[{tags}]}}}}"#);
    let loops = "event.data.tags.exists(t, t == 2)";
    assert!(ask(&[deny("d", loops)], &json).is_err());
    assert!(ask(&[allow("a", "event.data.tags.all(t, t == 1)")], &json).is_err());
    assert_eq!(
        ask(&[deny("d", "event.data.tags[0] == 2")], &json),
        Ok(vec![]),
        "without a loop, size is no matter"
    );
}

#[test]
fn a_wrong_rule_is_named_by_its_place() {
    let wrong = AccessPolicy {
        rules: vec![
            AccessRule { name: "a".into(), matches: Match::default() },
            AccessRule {
                name: "b".into(),
                matches: Match { expression: Some("now > 1".into()), ..Match::default() },
            },
        ],
        ..policy("p", AccessEffect::Deny, Mode::Enforce, &[]).policy
    };
    let error = Access::compile(wrong).unwrap_err();
    assert_eq!((error.at, error.error.field.as_str()), (1, "expression"));
    assert!(error.to_string().starts_with("rules[1].match.expression: "), "{error}");
}
