//! An accepted event is on the dashboard, once, whatever form it came in; a repeated one is not there twice.

use serde_json::{Value, json};
use system_tests::{Call, World, event, eventually};

pub const TESTS: &[crate::Test] = &[
    ("events_of_every_form_reach_every_dashboard_route", forms),
    ("the_same_ids_through_both_pods_at_once_are_stored_once", repeats),
    ("users_with_any_name_are_found_by_it", names),
];

fn forms(world: &World) {
    let tenant = world.tenant("forms", "");
    let post = |call: Call| {
        let answer = call.key(&tenant.ingest_key).send();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()
    };
    let url = world.events_url(0);
    let plain =
        json!({"id": "1", "type": "login", "subject": "ann", "data": {"value": 2.5, "latencyMs": 12}});
    post(Call::post(&url).body("application/json", plain.to_string()));
    let cloud = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/app", "type": "export", "subject": "bob"});
    post(Call::post(&url).body("application/cloudevents+json", cloud("2").to_string()));
    let batch = json!([cloud("3"), cloud("4"), cloud("3")]);
    let answer = post(Call::post(&url).body("application/cloudevents-batch+json", batch.to_string()));
    assert_eq!(answer, json!({"accepted": 2, "duplicates": 1, "rejected": []}));
    let binary =
        Call::post(&url).header("ce-specversion", "1.0").header("ce-id", "5").header("ce-type", "export");
    post(binary.header("ce-subject", "ann%20lee").body("application/json", r#"{"value": 3}"#));
    tenant.shows(world, 5);

    let summary = tenant.read(world, "/v1/dashboard/summary").json();
    assert_eq!((&summary["activeUsers"], &summary["features"]), (&json!(3), &json!(2)), "{summary}");
    let features = tenant.read(world, "/v1/dashboard/usage/by-feature").json();
    let rows = features["data"].as_array().unwrap().clone();
    let counts: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["feature"], &row["events"])).collect();
    assert_eq!(counts, [(&json!("export"), &json!(4)), (&json!("login"), &json!(1))], "{features}");
    let trends = tenant.read(world, "/v1/dashboard/usage/trends?interval=hour").json();
    let points = trends["data"].as_array().unwrap().clone();
    assert_eq!(points.iter().map(|point| point["events"].as_u64().unwrap()).sum::<u64>(), 5, "{trends}");
    let user = tenant.read(world, "/v1/dashboard/users/bob/analytics").json();
    assert_eq!(user["events"], 3, "{user}");
}

fn repeats(world: &World) {
    let tenant = world.tenant("repeats", "");
    std::thread::scope(|scope| {
        for pod in 0..4 {
            let tenant = &tenant;
            scope.spawn(move || {
                for first in (0..400).step_by(20) {
                    let batch: Vec<Value> =
                        (first..first + 20).map(|n| event(&n.to_string(), "login", "ann")).collect();
                    assert_eq!(tenant.post(world, pod, &Value::Array(batch)).status, 202);
                }
            });
        }
    });
    tenant.shows(world, 400);
    tenant.post_many(world, "marker", 1);
    // The marker is stored behind every repeat, so all repeats have been looked at when it shows.
    tenant.shows(world, 401);
}

fn names(world: &World) {
    let tenant = world.tenant("names", "");
    let users = ["Ωmega Ünal", "a/b?c=d&e", "O'Brien \"x\"", "😀", "..", "100%", "  spaced  "];
    let events: Vec<Value> =
        users.iter().enumerate().map(|(n, user)| event(&n.to_string(), "edit", user)).collect();
    assert_eq!(tenant.post(world, 0, &Value::Array(events)).status, 202);
    tenant.shows(world, users.len() as u64);
    for user in users {
        let encoded: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/v1/dashboard/users/{encoded}/analytics");
        let answer = eventually("the user is found", || {
            let answer = tenant.read(world, &path);
            (answer.status == 200).then(|| answer.json()).ok_or(answer.body)
        });
        assert_eq!((&answer["userId"], &answer["events"]), (&json!(user), &json!(1)));
    }
}
