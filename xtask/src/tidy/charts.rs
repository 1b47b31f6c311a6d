//! What the chart says about the programs: their metrics, their runbooks, their resource types, their names in the image.

use std::collections::BTreeSet;

use serde_json::Value;

use super::docs;
use super::tree::{File, Tree};
use crate::codegen::CHART_CRDS;
use crate::{Error, Result};

/// The programs that are deployed; each is a folder at the top.
pub const DEPLOYABLES: [&str; 4] = ["operator", "ingest", "sink", "console"];
/// Where the alerts stand.
const RULES: &str = "charts/meterplane/monitoring/rules.yaml";
/// Where the dashboard stands.
const DASHBOARD: &str = "charts/meterplane/monitoring/dashboard.json";
/// What names of metrics of ours begin with.
const OURS: [&str; 4] = ["mp_", "meterplane_", "controller_runtime_", "workqueue_"];

/// Alerts and panels that name a metric which no program registers, or a counter or histogram by another name than it is exposed by.
///
/// # Errors
/// When one of the files is not what its name says.
pub fn metrics(tree: &Tree) -> Result<Vec<String>> {
    let known: BTreeSet<String> = programs(tree).flat_map(|file| registered(&file.text)).collect();
    let mut found = Vec::new();
    for (file, expressions) in [(RULES, alert_expressions(tree)?), (DASHBOARD, panel_expressions(tree)?)] {
        if expressions.is_empty() {
            found.push(format!("{file} holds no expression"));
        }
        for expression in expressions {
            let wrong = named(&expression).into_iter().filter(|name| !known.contains(*name));
            found.extend(wrong.map(|name| format!("{file}: no program exposes {name}")));
        }
    }
    Ok(found)
}

/// Alerts whose runbook is not there.
///
/// # Errors
/// When the rules are no YAML.
pub fn runbooks(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for rule in rules(&yaml(tree, RULES)?) {
        let (alert, url) = (text(&rule["alert"]), text(&rule["annotations"]["runbook_url"]));
        let own = format!("#{}", alert.to_lowercase());
        if !url.starts_with("docs/runbooks/") || !url.ends_with(&own) || !docs::exists(tree, url) {
            found.push(format!("{RULES}: alert {alert} has no runbook at {url:?}"));
        }
    }
    Ok(found)
}

/// Resource types of the chart that are not the generated ones, or that its description does not list.
///
/// # Errors
/// None.
pub fn definitions(tree: &Tree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let generated: Vec<(&str, &str)> =
        tree.files.iter().filter_map(|file| named_in(file, "crds/yaml")).collect();
    let shipped: Vec<(&str, &str)> =
        tree.files.iter().filter_map(|file| named_in(file, CHART_CRDS)).collect();
    if generated != shipped {
        found.push(format!("{CHART_CRDS} is not what crds/yaml is: run `cargo xtask codegen`"));
    }
    let described = tree.text("charts/meterplane/Chart.yaml");
    for (name, _) in generated {
        let plural = name.trim_end_matches(".yaml");
        if !described.contains(&format!("name: {plural}.meterplane.io,")) {
            found.push(format!("charts/meterplane/Chart.yaml does not list {plural}"));
        }
    }
    let version = tree.text("Cargo.toml").lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.unwrap_or_default().trim_matches('"');
    if !described.lines().any(|line| line == format!("appVersion: {version}")) {
        found.push(format!("charts/meterplane/Chart.yaml has another appVersion than {version}"));
    }
    Ok(found)
}

/// Programs that the image lacks, or that there are none of.
///
/// # Errors
/// None.
pub fn image(tree: &Tree) -> Result<Vec<String>> {
    let text = tree.text("Dockerfile");
    let built: Vec<&str> =
        text.split("--bin ").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    let copied: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("COPY --from=build ")).collect();
    let mut found = Vec::new();
    if built != DEPLOYABLES {
        found.push(format!("Dockerfile builds {built:?} instead of {DEPLOYABLES:?}"));
    }
    for name in DEPLOYABLES {
        let line = format!("/src/target/release/{name} /usr/local/bin/{name}");
        if !copied.contains(&line.as_str()) {
            found.push(format!("Dockerfile does not copy {name}"));
        }
        let is_program = tree.has(&format!("{name}/src/main.rs"))
            && tree.text(&format!("{name}/Cargo.toml")).contains(&format!("name = \"{name}\""));
        if !is_program {
            found.push(format!("Dockerfile builds {name}, and there is no such program"));
        }
    }
    Ok(found)
}

/// Source files of the programs that register metrics.
fn programs(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.ending("rs").filter(|file| {
        DEPLOYABLES.iter().any(|name| file.path.starts_with(&format!("{name}/src/")))
            && file.text.contains("registry.register")
    })
}

/// The names under which the metrics of a source file are exposed.
fn registered(source: &str) -> Vec<String> {
    let between = |text: &str, open: &str, close: &str| {
        let (_, rest) = text.split_once(open)?;
        Some(rest.split_once(close)?.0.to_owned())
    };
    let prefix =
        between(source, "Registry::with_prefix(\"", "\"").map_or(String::new(), |prefix| prefix + "_");
    let mut names = Vec::new();
    for call in source.split("registry.register").skip(1) {
        let Some(call) = call.split(".clone()").next() else { continue };
        let Some(name) = between(call, "\"", "\"") else { continue };
        let name = prefix.clone() + &name.replace("{runtime}", "controller_runtime");
        let unit = if call.contains("Unit::Seconds") { "_seconds" } else { "" };
        let field = call.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        let suffixes: &[&str] = match kind(source, field) {
            Some("Counter") => &["_total"],
            Some("Histogram") => &["_bucket", "_sum", "_count"],
            Some(_) => &[""],
            None => &[],
        };
        names.extend(suffixes.iter().map(|suffix| format!("{name}{unit}{suffix}")));
    }
    names
}

/// What kind of metric a field holds.
fn kind(source: &str, field: &str) -> Option<&'static str> {
    let declared = source.lines().find_map(|line| {
        let rest = line.trim_start().trim_start_matches("pub ").strip_prefix(field)?;
        rest.strip_prefix(": ").filter(|kind| kind.ends_with(','))
    })?;
    ["Counter", "Gauge", "Histogram"].into_iter().find(|kind| declared.contains(kind))
}

/// The metrics of ours that an expression names.
fn named(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| OURS.iter().any(|ours| word.starts_with(ours))).collect()
}

fn rules(file: &Value) -> impl Iterator<Item = &Value> {
    let groups = file["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten())
}

fn alert_expressions(tree: &Tree) -> Result<Vec<String>> {
    Ok(rules(&yaml(tree, RULES)?).map(|rule| text(&rule["expr"]).to_owned()).collect())
}

fn panel_expressions(tree: &Tree) -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(tree.text(DASHBOARD))
        .map_err(|error| Error::Format { what: DASHBOARD.into(), detail: error.to_string() })?;
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    Ok(targets.map(|target| text(&target["expr"]).to_owned()).collect())
}

fn yaml(tree: &Tree, path: &str) -> Result<Value> {
    serde_yaml_ng::from_str(tree.text(path))
        .map_err(|error| Error::Format { what: path.into(), detail: error.to_string() })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn named_in<'a>(file: &'a File, folder: &str) -> Option<(&'a str, &'a str)> {
    let name = file.path.strip_prefix(folder)?.strip_prefix('/')?;
    Some((name, file.text.as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SOURCE: &str = r#"
        pub rows: Family<LaneLabel, Counter>,
        lost: Gauge,
        took: Histogram,
        reconciles: Family<Outcome, Counter>,
        let mut registry = Registry::with_prefix("mp_x");
        registry.register("rows", "Rows", m.rows.clone());
        registry.register("lost", "Lost", lost.clone());
        registry.register_with_unit("insert", "Time", Unit::Seconds, m.took.clone());
        registry.register(
            format!("{runtime}_reconcile"),
            "Reconciles",
            m.reconciles.clone(),
        );"#;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Tree { root: PathBuf::from("/nowhere"), files: files.iter().map(file).collect() }
    }

    #[test]
    fn metrics_are_known_by_the_names_that_they_are_exposed_by() {
        let names = registered(SOURCE);
        assert_eq!(
            names,
            [
                "mp_x_rows_total",
                "mp_x_lost",
                "mp_x_insert_seconds_bucket",
                "mp_x_insert_seconds_sum",
                "mp_x_insert_seconds_count",
                "mp_x_controller_runtime_reconcile_total",
            ]
        );
        assert_eq!(named("sum by (lane) (rate(mp_x_rows_total[5m])) > up"), ["mp_x_rows_total"]);
    }

    #[test]
    fn an_alert_on_nothing_and_one_without_a_runbook_are_found() {
        let rules = "groups: [{rules: [{alert: A, expr: mp_x_rows > 0, annotations: {runbook_url: docs/runbooks/a.md#a}}, \
            {alert: B, expr: mp_x_lost > 0, annotations: {runbook_url: docs/runbooks/a.md#a}}]}]";
        let panels = r#"{"panels": [{"targets": [{"expr": "mp_x_rows_total"}, {"expr": "mp_y"}]}]}"#;
        let found =
            metrics(&tree(&[("sink/src/m.rs", SOURCE), (RULES, rules), (DASHBOARD, panels)])).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("mp_x_rows") && found[1].ends_with("mp_y"));
        let found = runbooks(&tree(&[(RULES, rules)])).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_definition_that_the_chart_has_not_and_a_program_that_the_image_lacks_are_found() {
        let crds = [("crds/yaml/plans.yaml", "a"), ("Cargo.toml", "version = \"1.2.3\"\n")];
        let found = definitions(&tree(&crds)).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        let found = image(&tree(&[("Dockerfile", "RUN cargo build --bin operator\n")])).unwrap();
        assert_eq!(found.len(), 9, "{found:?}");
    }
}
