//! The operator's webhook: warnings with numbers, refusals with the field, certificates that change while people apply, and what is left
//! without it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use system_tests::{Call, World, event, eventually, within};

pub const TESTS: &[crate::Test] = &[
    ("the_webhook_says_how_many_tenants_an_edited_plan_concerns", counted),
    ("the_webhook_refuses_what_the_controllers_would_and_names_the_field", refused),
    ("the_webhook_says_what_a_limit_would_have_blocked", told_impact),
    ("the_webhook_changes_its_certificates_while_people_apply", rotated),
];

/// The operator is stopped here.
pub const ALONE: &[crate::Test] = &[("without_the_webhook_applies_go_on_and_bounds_hold", unreachable)];

/// Longer than any certificate and any authority of the tests' operator lasts, twice.
const APPLIES_GO_ON: Duration = Duration::from_secs(50);

fn plan(name: &str, max: u32) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: Plan\nmetadata: {{name: {name}}}\n\
         spec: {{limits: [{{name: events, per: Tenant, quota: {{max: {max}, period: Month}}}}]}}\n"
    )
}

fn tenant(name: &str, plan: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{planRef: {{name: {plan}}}}}\n"
    )
}

fn limit(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: meterplane.io/v1alpha1\nkind: UsageLimit\nmetadata: {{name: one, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// A plan with so many tenants, once the webhook knows them.
fn plan_with_tenants(world: &World, name: &str, tenants: usize) {
    world.apply(&plan(name, 1_000));
    let all: Vec<String> = (0..tenants).map(|n| tenant(&format!("{name}{n}"), name)).collect();
    world.apply(&all.join("---\n"));
    eventually("the webhook answers and knows the tenants", || {
        let warnings = world.dry_run(&plan(name, 999))?;
        let begin = match tenants {
            1 => format!("1 tenant uses plan {name}:"),
            many => format!("{many} tenants use plan {name}:"),
        };
        warnings.iter().any(|text| text.starts_with(&begin)).then_some(()).ok_or(format!("{warnings:?}"))
    });
}

fn counted(world: &World) {
    let name = "whcounted";
    plan_with_tenants(world, name, 12);
    let expected = [
        format!("12 tenants use plan {name}: what changes applies to all of them"),
        "limits[0] events: max 1000 -> 10".to_owned(),
    ];
    assert_eq!(world.dry_run(&plan(name, 10)).unwrap(), expected, "in a dry run");
    assert_eq!(world.dry_run(&plan(name, 1_000)).unwrap(), [""; 0], "nothing changes");
    assert_eq!(world.warnings_of(&plan(name, 10)).unwrap(), expected);
    world.kubectl(&["delete", "tenant", &format!("{name}0")]);
    eventually("a tenant less", || {
        let warnings = world.dry_run(&plan(name, 20))?;
        warnings[0].starts_with("11 tenants").then_some(()).ok_or(format!("{warnings:?}"))
    });
}

fn refused(world: &World) {
    let name = "whrefused";
    world.tenant(name, "");
    let day = "per: User, quota: {max: 5, period: Day}";
    let wrong = format!("{day}, match: {{expression: \"event.data.\"}}");
    let said = eventually("the webhook refuses", || match world.dry_run(&limit(name, &wrong)) {
        Ok(warnings) => Err(format!("it was let in: {warnings:?}")),
        Err(said) => Ok(said),
    });
    assert!(said.contains("spec.match.expression: ") && said.contains("is not CEL"), "{said}");
    assert!(world.try_apply(&limit(name, &wrong)).is_err(), "not only in a dry run");
    // Past the webhook the controller says the same.
    world.apply_past_the_webhook(&limit(name, &wrong));
    eventually("the controller refuses as well", || {
        let path = "--output=jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}";
        let message = world.try_kubectl(&["get", "usagelimit", "one", "--namespace", name, path])?;
        message.starts_with("spec.match.expression: is not CEL").then_some(()).ok_or(message)
    });
    // What was wrong before may be edited elsewhere; it is told again.
    let warnings = world.dry_run(&limit(name, &format!("{wrong}, warnAt: [80]"))).unwrap();
    assert!(warnings[0].starts_with("spec.match.expression: is not CEL"), "{warnings:?}");
    assert_eq!(world.dry_run(&limit(name, day)).unwrap(), [""; 0]);
    // What another object may still bring is a warning.
    let orphan = world.dry_run(&tenant("whorphan", "whnosuchplan")).unwrap();
    assert_eq!(orphan, [r#"spec.planRef.name: there is no Plan "whnosuchplan""#]);
    let nobodys = world.dry_run(&limit("default", day)).unwrap();
    assert!(nobodys[0].starts_with("namespace default does not belong to a tenant"), "{nobodys:?}");
}

fn told_impact(world: &World) {
    let name = "whimpact";
    let tenant = world.tenant(name, "");
    for (user, count) in [("ann", 12), ("bob", 7), ("eve", 1)] {
        for n in 0..count {
            let feature = if n % 3 == 0 { "export.pdf" } else { "login" };
            let answer = tenant.post(world, n, &event(&format!("{user}{n}"), feature, user));
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }
    tenant.shows(world, 20);
    for (spec, said) in [
        (
            r#"{"per": "User", "quota": {"max": 5, "period": "Month"}}"#,
            "45.0 % of the last day's events (9 of 20, 2 users)",
        ),
        (
            r#"{"per": "Tenant", "quota": {"max": 19, "period": "Month"}}"#,
            "5.0 % of the last day's events (1 of 20, 1 user)",
        ),
        (
            r#"{"per": "User", "quota": {"max": 3, "period": "Month"}, "match": {"features": ["export.*"]}}"#,
            "12.5 % of the last day's events (1 of 8, 1 user)",
        ),
        (
            r#"{"per": "User", "quota": {"max": 2, "period": "Month"}, "match": {"users": ["bob"]}}"#,
            "71.4 % of the last day's events (5 of 7, 1 user)",
        ),
    ] {
        let proposal = format!(r#"{{"spec": {spec}, "days": 1}}"#);
        let simulated = Call::post(world.console_url("/v1/admin/policies/simulate"))
            .key(&tenant.read_key)
            .body("application/json", proposal)
            .send();
        let simulated = simulated.json();
        let shown = |member: &str| simulated[member].as_u64().unwrap_or_else(|| panic!("{simulated}"));
        let (blocked, counted) = (shown("blockedEvents"), shown("countedEvents"));
        let of = format!("({blocked} of {counted}, {} user", shown("blockedUsers"));
        assert!(said.contains(&of), "the simulation of every event says {of}, not {said}");
        let yaml = limit(name, spec.trim_start_matches('{').strip_suffix('}').unwrap());
        eventually(said, || {
            let warnings = world.dry_run(&yaml)?;
            (warnings == [format!("this limit would have blocked {said}")])
                .then_some(())
                .ok_or(format!("{warnings:?}"))
        });
    }
    let ample = "per: User, quota: {max: 12, period: Month}";
    assert_eq!(world.dry_run(&limit(name, ample)).unwrap(), [""; 0], "it would have blocked nothing");
    world.apply(&limit(name, ample));
    let tighter = world.warnings_of(&limit(name, "per: User, quota: {max: 11, period: Month}")).unwrap();
    assert_eq!(tighter, ["this limit would have blocked 5.0 % of the last day's events (1 of 20, 1 user)"]);
    let looser = world.dry_run(&limit(name, "per: User, quota: {max: 12, period: Month}")).unwrap();
    assert_eq!(looser, [""; 0], "what is loosened is not told");
}

/// What the kube-apiserver trusts.
fn bundle(world: &World) -> String {
    let path = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    world.kubectl(&["get", "validatingwebhookconfiguration", "meterplane", path])
}

fn metric(world: &World, name: &str) -> f64 {
    let text = Call::get(format!("{}/metrics", world.urls.operator_admin)).send().body;
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn rotated(world: &World) {
    let name = "whrotated";
    plan_with_tenants(world, name, 2);
    let left = || metric(world, "meterplane_webhook_certificate_left_seconds{name=\"served\"}");
    let (begun, mut bundles, mut certificates, mut before) = (Instant::now(), BTreeSet::new(), 0, left());
    let mut applies = 0;
    while begun.elapsed() < APPLIES_GO_ON {
        let warnings = world.warnings_of(&plan(name, 2_000 + applies)).unwrap();
        assert!(
            warnings.first().is_some_and(|text| text.starts_with("2 tenants use plan")),
            "apply {applies} after {:?} lacks its warning: {warnings:?}",
            begun.elapsed()
        );
        applies += 1;
        bundles.insert(bundle(world));
        let now = left();
        assert!(now > 0.0, "what is served has ended");
        certificates += u32::from(now > before);
        before = now;
    }
    println!("{applies} applies, {} bundles, {certificates} new certificates", bundles.len());
    // Each authority comes beside the old one, which goes when it has ended.
    assert!(
        bundles.len() >= 5 && certificates >= 6,
        "{} bundles, {certificates} certificates",
        bundles.len()
    );
    assert!(applies >= 50, "{applies} applies");
}

fn unreachable(world: &World) {
    let name = "whunreachable";
    plan_with_tenants(world, name, 1);
    world.platform.stop_part("operator").unwrap();
    assert_eq!(world.warnings_of(&plan(name, 10)).unwrap(), [""; 0], "it is let in, and nobody warns");
    let said = world.try_apply(&limit("default", "per: User")).unwrap_err();
    assert!(said.contains("quota"), "{said}");
    let began = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: whunreachable, namespace: default}\n";
    assert_eq!(world.warnings_of(began).unwrap(), [""; 0], "other kinds are not concerned");
    world.platform.start_part("operator").unwrap();
    within(Duration::from_secs(60), "it warns again", || {
        let warnings = world.dry_run(&plan(name, 5))?;
        (warnings.len() == 2).then_some(()).ok_or(format!("{warnings:?}"))
    });
    eventually("what was applied meanwhile is in force", || {
        let path = "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].observedGeneration}";
        let seen = world.try_kubectl(&["get", "plan", name, path])?;
        (seen.trim() == "2").then_some(()).ok_or(seen)
    });
}
