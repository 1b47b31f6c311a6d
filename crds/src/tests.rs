use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::*;

/// Calls `check` with the path and schema of every property and list item below `schema`.
fn visit(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value, bool)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        check(&path, property, true);
        visit(&path, property, check);
    }
    if let Some(items) = schema.get("items") {
        let path = format!("{path}[]");
        check(&path, items, false);
        visit(&path, items, check);
    }
}

fn visit_all(check: &mut dyn FnMut(&str, &Value, bool)) {
    for crd in all().unwrap() {
        let schema =
            serde_json::to_value(&crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema).unwrap();
        visit(&crd.spec.names.kind, &schema, check);
    }
}

#[test]
fn generated_yaml_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    for (name, text) in yaml().unwrap() {
        let stored = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(stored == text, "crds/yaml/{name} is not what the types say: run `cargo xtask codegen`");
    }
}

#[test]
fn every_field_is_described() {
    visit_all(&mut |path, schema, is_property| {
        let described = schema["description"].as_str().is_some_and(|text| text.len() > 3);
        assert!(described || !is_property, "{path} has no description");
    });
}

#[test]
fn everything_that_can_grow_is_bounded() {
    visit_all(&mut |path, schema, _| match schema["type"].as_str() {
        Some("string") => {
            assert!(schema.get("maxLength").or(schema.get("enum")).is_some(), "{path} has no maxLength")
        }
        Some("array") => assert!(schema.get("maxItems").is_some(), "{path} has no maxItems"),
        Some("object") => assert!(schema.get("additionalProperties").is_none(), "{path} is an open map"),
        _ => {}
    });
}

#[test]
fn lists_say_how_they_merge() {
    visit_all(&mut |path, schema, _| {
        if schema["type"] == "array" {
            assert!(schema.get("x-kubernetes-list-type").is_some(), "{path} has no list type");
        }
    });
}

#[test]
fn kinds_are_listed_together_and_by_short_names() {
    let mut short = Vec::new();
    for crd in all().unwrap() {
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.names.categories, Some(vec!["meterplane".to_owned()]));
        short.extend(crd.spec.names.short_names.unwrap());
    }
    assert_eq!(short, ["mpp", "mpt", "mplp", "mpdp", "mpl", "mpa", "mpk"]);
}

#[test]
fn an_object_that_nobody_has_seen_is_not_ready() {
    for crd in all().unwrap() {
        let schema =
            serde_json::to_value(&crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema).unwrap();
        let conditions = schema.pointer("/properties/status/default/conditions").unwrap();
        let conditions: Vec<Condition> = serde_json::from_value(conditions.clone()).unwrap();
        let ready = condition::find(&conditions, condition::READY).unwrap();
        assert_eq!((ready.status, ready.reason.as_str()), (ConditionStatus::Unknown, "Pending"));
    }
}

#[test]
fn the_quickstart_is_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let mut kinds = Vec::new();
    for file in ["plans.yaml", "acme.yaml", "wayne.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).unwrap();
            let kind = value["kind"].as_str().unwrap().to_owned();
            let written = value["spec"].clone();
            let read = match kind.as_str() {
                "Plan" => serde_json::to_value(serde_json::from_value::<Plan>(value).unwrap().spec),
                "Tenant" => serde_json::to_value(serde_json::from_value::<Tenant>(value).unwrap().spec),
                "UsageLimit" => {
                    serde_json::to_value(serde_json::from_value::<UsageLimit>(value).unwrap().spec)
                }
                "Namespace" => continue,
                "ApiKey" => serde_json::to_value(serde_json::from_value::<ApiKey>(value).unwrap().spec),
                other => panic!("{other}"),
            };
            assert_contains(&kind, &read.unwrap(), &written);
            kinds.push(kind);
        }
    }
    assert_eq!(kinds.len(), 10);
}

/// Every written value is still there after reading: nothing is ignored.
fn assert_contains(path: &str, read: &Value, written: &Value) {
    match written {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_contains(&format!("{path}.{name}"), &read[name], value);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                assert_contains(&format!("{path}[{at}]"), &read[at], value);
            }
        }
        _ => assert_eq!(read, written, "{path}"),
    }
}
