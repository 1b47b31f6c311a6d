//! helm, with folders of its own instead of the developer's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use xtask::tools::{self, ChartTools};
use xtask::{Cancel, Paths, Progress};

/// The repository's folder of the chart.
pub fn chart() -> PathBuf {
    root().join("charts/meterplane")
}

/// The repository.
pub fn root() -> PathBuf {
    Paths::discover().unwrap().root
}

/// Value files of the chart.
pub fn value_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(chart().join("ci")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// The value file of this name.
pub fn values(name: &str) -> String {
    chart().join(format!("ci/{name}-values.yaml")).display().to_string()
}

/// The tools, built once if they are not there.
pub fn tools() -> &'static ChartTools {
    static TOOLS: OnceLock<ChartTools> = OnceLock::new();
    TOOLS.get_or_init(|| {
        tools::chart(&Paths::discover().unwrap(), &Progress::detect(), &Cancel::default()).unwrap()
    })
}

/// helm without a cluster.
pub fn helm(args: &[&str]) -> Result<String, String> {
    run(args, Path::new("/dev/null"))
}

/// helm with a cluster: what it printed, or its complaint.
pub fn run(args: &[&str], kubeconfig: &Path) -> Result<String, String> {
    let home = Paths::discover().unwrap().dev.join("helm");
    let mut command = Command::new(&tools().helm);
    command.env_clear().envs(Paths::inherited()).env("KUBECONFIG", kubeconfig).args(args);
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, &home);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// What the chart renders with these arguments, as text.
pub fn template(args: &[&str]) -> Result<String, String> {
    let chart = chart().display().to_string();
    helm(&[&["template", "meterplane", &chart, "--namespace", "metering"], args].concat())
}

/// The objects that the chart renders from a value file.
pub fn rendered(file: &Path) -> Vec<Value> {
    objects(&template(&["--values", &file.display().to_string()]).unwrap())
}

/// The objects of a YAML stream.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let values = documents.map(|document| Value::deserialize(document).unwrap());
    values.filter(|value| !value.is_null()).collect()
}

/// The rendered objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}
