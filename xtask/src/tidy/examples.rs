//! Examples hold what the resources know.

use serde::Deserialize;
use serde_json::Value;

use super::tree::Tree;
use crate::{Error, Result};

/// Kinds of Kubernetes itself and of Argo CD that examples may hold.
const OTHERS: [&str; 6] = [
    "v1/Namespace",
    "v1/Secret",
    "v1/ConfigMap",
    "apps/v1/Deployment",
    "argoproj.io/v1alpha1/Application",
    "argoproj.io/v1alpha1/ApplicationSet",
];

/// Kinds and fields in `examples/` that no definition in `crds/yaml` knows: a typo there would be ignored in silence.
///
/// # Errors
/// When a definition is no YAML.
pub fn check(tree: &Tree) -> Result<Vec<String>> {
    let definitions = tree.ending("yaml").filter(|file| file.path.starts_with("crds/yaml/"));
    let definitions = definitions
        .map(|file| {
            let wrong =
                |e: serde_yaml_ng::Error| Error::Format { what: file.path.clone(), detail: e.to_string() };
            serde_yaml_ng::from_str::<Value>(&file.text).map_err(wrong)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut found = Vec::new();
    for file in tree.ending("yaml").filter(|file| file.path.starts_with("examples/")) {
        for document in serde_yaml_ng::Deserializer::from_str(&file.text) {
            match Value::deserialize(document) {
                Ok(object) => object_of(&definitions, &object, &file.path, &mut found),
                Err(error) => found.push(format!("{}: {error}", file.path)),
            }
        }
    }
    Ok(found)
}

fn object_of(definitions: &[Value], object: &Value, file: &str, found: &mut Vec<String>) {
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    if OTHERS.contains(&format!("{version}/{kind}").as_str()) {
        return;
    }
    let is_it = |crd: &&Value| {
        let (group, name) = (&crd["spec"]["group"], &crd["spec"]["versions"][0]["name"]);
        let full = format!("{}/{}", group.as_str().unwrap_or_default(), name.as_str().unwrap_or_default());
        full == version && crd["spec"]["names"]["kind"] == kind
    };
    let Some(crd) = definitions.iter().find(is_it) else {
        found.push(format!("{file}: kind {version}/{kind} is unknown"));
        return;
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    fields(schema, &object["spec"], &format!("{file}: {kind} {name}: spec"), found);
}

/// Fields and missing fields of `value` by its schema.
fn fields(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| value.is_object() && value.get(*name).is_none());
    found.extend(missing.map(|name| format!("{path}.{name} is missing")));
    for (name, field) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(inner) => fields(inner, field, &format!("{path}.{name}"), found),
            None => found.push(format!("{path}.{name} is unknown")),
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        fields(&schema["items"], item, &format!("{path}[{at}]"), found);
    }
    let allowed = schema["enum"].as_array();
    if allowed.is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{path} is {value}, which is not one of its values"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::tree::File;
    use super::*;

    #[test]
    fn unknown_kinds_and_fields_missing_fields_and_values_are_found() {
        let crd = "spec: {group: g, names: {kind: Thing}, versions: [{name: v1, schema: {openAPIV3Schema: {properties: {spec: \
            {required: [size], properties: {size: {}, mode: {enum: [On]}, parts: {items: {properties: {a: {}}}}}}}}}}]}";
        let example = "apiVersion: g/v1\nkind: Thing\nmetadata: {name: x}\nspec: {siez: 1, mode: Off, parts: [{b: 1}]}\n---\n\
            apiVersion: v1\nkind: Namespace\n---\napiVersion: g/v1\nkind: Other\n";
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = vec![file("crds/yaml/things.yaml", crd), file("examples/a/x.yaml", example)];
        let found = check(&Tree { root: PathBuf::new(), files }).unwrap();
        for part in [
            "spec.size is missing",
            "spec.siez is unknown",
            "spec.mode is \"Off\"",
            "spec.parts[0].b is unknown",
            "g/v1/Other is unknown",
        ] {
            assert!(found.iter().any(|sentence| sentence.contains(part)), "{part}: {found:?}");
        }
        assert_eq!(found.len(), 5, "{found:?}");
    }
}
