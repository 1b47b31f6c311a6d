//! The OpenAPI document says what the code does.

use event::wire::{self, Form};
use serde_json::{Map, Value, json};

use super::*;

fn document() -> Value {
    serde_json::from_str(&openapi_json()).unwrap()
}

#[test]
fn the_committed_openapi_document_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/openapi/ingest.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == openapi_json(), "{path} is not what the code says: run `cargo xtask codegen`");
}

#[test]
fn every_route_is_declared_with_its_errors() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(format!("{method} {path}"));
            assert!(
                operation["operationId"].is_string() && operation["summary"].is_string(),
                "{method} {path}"
            );
            assert_eq!(operation["security"], json!([{"bearer": []}, {"apiKey": []}]), "{method} {path}");
            let mut statuses = vec!["400", "401", "403", "503"];
            if method == "post" {
                statuses.extend(["408", "413", "415"]);
            }
            if method == "post" && !path.ends_with("/check") {
                statuses.extend(["422", "429"]);
            }
            if path.contains("{id}") {
                statuses.push("404");
            }
            for status in statuses {
                let content = &operation["responses"][status]["content"]["application/problem+json"];
                assert!(content.is_object(), "{method} {path} {status}");
            }
        }
    }
    assert_eq!(
        operations,
        [
            "post /v1/usage/check",
            "post /v1/usage/events",
            "post /v1/usage/reservations",
            "delete /v1/usage/reservations/{id}",
            "post /v1/usage/reservations/{id}/commit"
        ]
    );
}

#[test]
fn an_event_may_have_every_member_of_its_schema_and_must_have_those_that_are_required() {
    let document = document();
    let schema = &document["components"]["schemas"]["Event"];
    let member = |name: &str| match name {
        "time" => json!("2026-01-31T09:30:00Z"),
        "data" => json!({"value": 1.5, "latencyMs": 120, "format": "pdf"}),
        name => schema["properties"][name]["examples"][0].as_str().unwrap_or("text").into(),
    };
    let properties = schema["properties"].as_object().unwrap();
    let whole: Map<String, Value> = properties.keys().map(|name| (name.clone(), member(name))).collect();
    let parse = |event: &Map<String, Value>, form| {
        let text = Value::Object(event.clone()).to_string();
        wire::parse(&text, form).map(|_| ()).map_err(|invalid| (invalid.code, invalid.field))
    };
    for form in [Form::Plain, Form::Structured] {
        assert_eq!(parse(&whole, form), Ok(()));
    }
    let required: Vec<&str> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let bare: Map<String, Value> = required.iter().map(|name| ((*name).to_owned(), member(name))).collect();
    assert_eq!(parse(&bare, Form::Plain), Ok(()));
    for name in required {
        let mut without = whole.clone();
        without.remove(name);
        assert_eq!(parse(&without, Form::Plain), Err(("missing", name.to_owned())));
    }
}
