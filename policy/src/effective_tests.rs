use super::*;
use crate::access::{AccessEffect, AccessPolicy, AccessRule};
use crate::compile::{Inputs, Override, RuleInput, compile};
use crate::decide::tests::limit;
use crate::limit::{CountFrom, FailureMode, Measure};
use crate::snapshot::tests::snapshot;
use proptest::prelude::*;

fn of(kind: &str, max: u64) -> Limit {
    let origin = Origin { kind: kind.into(), ..Origin::default() };
    Limit { max, origin, ..limit("events", Per::Tenant, Measure::Count, &[]) }
}

#[test]
fn an_effective_limit_says_what_it_is_and_who_said_so() {
    let overridden = Some(Overridden { declared: 5, until_ms: Some(9) });
    let plan = Limit { overridden: overridden.clone(), ..of(PLAN, 8) };
    let (loose, strict) = (of("UsageLimit", 9), Limit { mode: Mode::Warn, ..of("UsageLimit", 7) });
    let effective = effective(&snapshot(vec![plan, loose, strict]));
    assert_eq!(effective.iter().map(|entry| entry.max).collect::<Vec<_>>(), [8, 9, 7]);
    assert_eq!((&effective[0].overridden, &effective[0].looser_than), (&overridden, &None));
    assert_eq!(effective[1].looser_than.as_deref(), Some("events"));
    assert_eq!((effective[2].mode, &effective[2].looser_than), (Mode::Warn, &None));
}

#[test]
fn only_an_enforced_limit_of_the_plan_for_every_user_covers() {
    let loose = of("UsageLimit", 9);
    let covers = |plan: Limit| covering(&loose, &[plan]).is_some();
    assert!(covers(of(PLAN, 9)));
    assert!(!covers(of(PLAN, 10)));
    assert!(!covers(of("UsageLimit", 1)), "limits of namespaces do not cover each other");
    assert!(!covers(Limit { mode: Mode::Warn, ..of(PLAN, 9) }));
    assert!(!covers(Limit { rollout_percent: 99, ..of(PLAN, 9) }));
    assert!(!covers(Limit { burst: 1, ..of(PLAN, 9) }));
    assert!(!covers(Limit { window: Window::Month, ..of(PLAN, 9) }));
}

fn rules(kind: &'static str) -> impl Strategy<Value = Vec<RuleInput>> {
    let window = prop::sample::select(vec![Window::Hour, Window::Day, Window::Month, Window::Second]);
    let mode = prop::sample::select(vec![Mode::Observe, Mode::Warn, Mode::Enforce]);
    let failure_mode =
        prop::sample::select(vec![FailureMode::Closed, FailureMode::LastLease, FailureMode::Open]);
    let expression =
        prop::sample::select(vec![None, Some("event.data.n > 1"), Some("event."), Some("time.hour > 1")]);
    let rule = (0..4u8, 0..100u64, window, mode, 0..=100u8, failure_mode, expression).prop_map(
        move |(name, max, window, mode, rollout_percent, failure_mode, expression)| RuleInput {
            identity: format!("{}.{name}", if kind == PLAN { "plan" } else { "ns.acme" }),
            name: name.to_string(),
            per: Per::Tenant,
            max,
            window,
            burst: 0,
            measure: Measure::Count,
            matches: Match { expression: expression.map(str::to_owned), ..Match::default() },
            mode,
            rollout_percent,
            failure_mode,
            warn_at: vec![],
            count_from: CountFrom::Period,
            origin: Origin { kind: kind.into(), ..Origin::default() },
        },
    );
    prop::collection::vec(rule, 0..5).prop_map(|mut rules| {
        rules.sort_by(|a, b| a.identity.cmp(&b.identity));
        rules.dedup_by(|a, b| a.identity == b.identity);
        rules
    })
}

fn overrides() -> impl Strategy<Value = Vec<Override>> {
    let one = (0..4u8, 0..200u64, prop::option::of(0..2_000i64)).prop_map(|(name, max, until_ms)| Override {
        name: name.to_string(),
        max,
        until_ms,
    });
    prop::collection::vec(one, 0..3)
}

fn access() -> impl Strategy<Value = Vec<AccessPolicy>> {
    let effect = prop::sample::select(vec![AccessEffect::Allow, AccessEffect::Deny]);
    let one = (effect, prop::sample::select(vec!["true", "event.", "time.hour > 3"])).prop_map(
        |(effect, expression)| AccessPolicy {
            identity: "ns.acme.a".into(),
            name: "a".into(),
            effect,
            rules: vec![AccessRule {
                name: "r".into(),
                matches: Match { expression: Some(expression.into()), ..Match::default() },
            }],
            mode: Mode::Enforce,
            origin: Origin::default(),
        },
    );
    prop::collection::vec(one, 0..2)
}

fn compiled(
    plan_limits: &[RuleInput],
    overrides: &[Override],
    own: (Vec<RuleInput>, Vec<AccessPolicy>),
    previous: Option<&Snapshot>,
) -> Snapshot {
    let base = snapshot(vec![]);
    let inputs = Inputs {
        tenant: base.tenant,
        display_name: base.display_name,
        lineage: base.lineage,
        state: base.state,
        lane: base.lane,
        retention_days: base.retention_days,
        time_zone: base.time_zone,
        event_window: base.event_window,
        keys: base.keys,
        plan_limits: plan_limits.to_vec(),
        overrides: overrides.to_vec(),
        usage_limits: own.0,
        access: own.1,
        namespaces: base.namespaces,
        versions: base.inputs,
        previous,
        has_history: false,
        seeded: Default::default(),
        generation: previous.map_or(1, |old| old.generation + 1),
        now_ms: 1_000,
    };
    compile(inputs).unwrap().snapshot
}

proptest! {
    /// Self-service narrows: without it a tenant has exactly its plan, and with it every limit of the plan stands as
    /// the plan and the overrides say, whatever the objects are called and whatever is wrong with them.
    #[test]
    fn deleting_every_self_service_object_never_raises_a_limit_above_the_plan(
        plan in rules(PLAN), overrides in overrides(), own in rules("UsageLimit"), access in access(),
    ) {
        let alone = compiled(&plan, &overrides, (vec![], vec![]), None);
        let with = compiled(&plan, &overrides, (own, access), Some(&alone));
        let after = compiled(&plan, &overrides, (vec![], vec![]), Some(&with));
        prop_assert_eq!(effective(&after), effective(&alone));
        prop_assert!(after.access.is_empty());
        let of_plan = |snapshot: &Snapshot| {
            effective(snapshot).into_iter().filter(|entry| entry.source.kind == PLAN).collect::<Vec<_>>()
        };
        prop_assert_eq!(of_plan(&with), effective(&alone), "with them, the plan still holds in full");
        for entry in effective(&after) {
            let declared = plan.iter().find(|rule| rule.identity == entry.identity).unwrap().max;
            let over = overrides.iter().find(|over| over.name == entry.name && over.until_ms.is_none_or(|end| end >= 1_000));
            prop_assert_eq!(entry.max, over.map_or(declared, |over| over.max));
            prop_assert_eq!(entry.overridden.is_some(), over.is_some());
        }
    }
}
