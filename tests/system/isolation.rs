//! Two tenants, every route, every scope: never another's row, and nothing that tells it from what does not exist.

use system_tests::{Answer, Call, TestTenant, World, event};

pub const TESTS: &[crate::Test] = &[("no_route_shows_another_tenants_rows", dedicated)];

fn dedicated(world: &World) {
    routes(world, &world.tenant("isoone", RULE), &world.tenant("isotwo", RULE));
}

pub const RULE: &str = r"
apiVersion: meterplane.io/v1alpha1
kind: UsageLimit
metadata: {name: limited, namespace: NAME}
spec: {per: User, match: {features: [limited]}, quota: {max: 0, period: Day}}
";

/// Gives each tenant a user and a feature of its own, one user in common, and refused attempts.
fn fill(world: &World, one: &TestTenant, two: &TestTenant) {
    let post = |tenant: &TestTenant, user: &str, feature: &str| {
        assert_eq!(tenant.post(world, 0, &event(&format!("{user}{feature}"), feature, user)).status, 202);
    };
    post(one, "only-in-one", "feature-one");
    post(one, "in-both", "feature-one");
    post(two, "only-in-two", "feature-two");
    post(two, "in-both", "feature-two");
    one.shows(world, 2);
    two.shows(world, 2);
    // Each tenant has refused attempts of its own.
    for (tenant, own) in [(one, "one"), (two, "two")] {
        for n in 0..2 {
            let event = event(&format!("limited-{n}"), "limited", &format!("only-in-{own}"));
            assert_eq!(tenant.post(world, 0, &event).status, 429);
        }
        system_tests::eventually("the refused attempts are on the dashboard", || {
            let answer = tenant.read(world, "/v1/dashboard/users/exceeded-limits");
            answer.body.contains(&format!("only-in-{own}")).then_some(()).ok_or(answer.body)
        });
    }
}

/// Two tenants that have [`RULE`], and no events yet.
pub fn routes(world: &World, one: &TestTenant, two: &TestTenant) {
    fill(world, one, two);
    let (first, second) = (one.name.as_str(), two.name.as_str());

    let routes = [
        "/v1/dashboard/summary".to_owned(),
        "/v1/dashboard/usage/trends?interval=hour".to_owned(),
        "/v1/dashboard/usage/by-feature".to_owned(),
        "/v1/dashboard/users/in-both/analytics".to_owned(),
        "/v1/dashboard/violations".to_owned(),
        "/v1/dashboard/users/exceeded-limits".to_owned(),
        "/v1/admin/policies/effective".to_owned(),
        "/v1/admin/usage/limits".to_owned(),
    ];
    let with = |key: &str, route: &str| Call::get(world.console_url(route)).key(key).send();
    for route in &routes {
        for (tenant, own, other) in [(one, "one", "two"), (two, "two", "one")] {
            let answer = with(&tenant.read_key, route);
            assert_eq!(answer.status, 200, "{route}: {}", answer.body);
            assert!(!answer.body.contains(&format!("feature-{other}")), "{route} of {own}: {}", answer.body);
            let stranger = if tenant.name == first { second } else { first };
            assert!(!answer.body.contains(stranger), "{route} of {own}: {}", answer.body);
            assert!(!answer.body.contains(&format!("only-in-{other}")), "{route} of {own}: {}", answer.body);
            // The wrong scope, no key, and a key that nobody has.
            with(&tenant.ingest_key, route).problem(403);
            Call::get(world.console_url(route)).send().problem(401);
            with(&"x".repeat(66), route).problem(401);
        }
    }

    // What is another's answers exactly like what does not exist.
    let same = |left: &Answer, right: &Answer| {
        left.problem(404);
        let strip = |answer: &Answer| {
            let mut body = answer.json();
            for name in ["instance", "requestId"] {
                body.as_object_mut().unwrap().remove(name);
            }
            body
        };
        assert_eq!((left.status, strip(left)), (right.status, strip(right)));
    };
    let nobody = with(&one.read_key, "/v1/dashboard/users/nobody/analytics");
    same(&with(&one.read_key, "/v1/dashboard/users/only-in-two/analytics"), &nobody);
    same(&with(&one.read_key, &format!("/v1/admin/usage/limits/{second}.limited")), &nobody);
    same(&with(&one.read_key, &format!("/v1/admin/usage/limits/{first}.nothing")), &nobody);
    assert_eq!(with(&one.read_key, &format!("/v1/admin/usage/limits/{first}.limited")).status, 200);
    for route in &routes {
        let mark = if route.contains('?') { '&' } else { '?' };
        same(&with(&one.read_key, &format!("{route}{mark}tenant={second}")), &nobody);
        same(&with(&one.read_key, &format!("{route}{mark}tenant=nobody")), &nobody);
        assert_eq!(with(&one.read_key, &format!("{route}{mark}tenant={first}")).status, 200, "{route}");
    }
    // One tenant's key writes only into its own tenant, whatever the event says.
    let mut foreign = event("foreign", "feature-one", "in-both");
    foreign["source"] = second.into();
    assert_eq!(one.post(world, 0, &foreign).status, 202);
    one.shows(world, 3);
    two.shows(world, 2);
}
