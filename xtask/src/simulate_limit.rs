//! `cargo xtask simulate-limit FILE --tenant acme`: asks the running console who a proposed limit would have blocked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::Http;
use crate::load::target::Target;
use crate::{Cancel, Error, Paths, Progress, Result};

/// The console gives up after two minutes by itself.
const WITHIN: Duration = Duration::from_secs(150);

/// What to ask.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML of a UsageLimit.
    file: PathBuf,
    /// The tenant whose events are looked at.
    #[arg(long)]
    tenant: String,
    /// Days back from now.
    #[arg(long, default_value_t = 7)]
    days: u16,
    /// Users to list.
    #[arg(long, default_value_t = 20)]
    worst: u16,
}

/// Asks and prints the answer.
///
/// # Errors
/// When the file is no UsageLimit, the platform does not run, or the console refuses.
pub fn run(args: &Args) -> Result<()> {
    let (paths, progress, cancel) = (Paths::discover()?, Progress::detect(), Cancel::default());
    let text =
        fs::read_to_string(&args.file).map_err(Error::io(format!("cannot read {}", args.file.display())))?;
    let wrong = |detail: String| Error::Format { what: args.file.display().to_string(), detail };
    let limit: Value = serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if limit["kind"] != "UsageLimit" {
        return Err(wrong("is not one UsageLimit".into()));
    }
    let target = Target::running(&paths, &progress, &cancel)?;
    let key = read_key(&target, &args.tenant)?;
    let mut body = json!({"spec": limit["spec"], "days": args.days, "worst": args.worst});
    for member in ["name", "namespace"] {
        if let Value::String(value) = &limit["metadata"][member] {
            body[member] = json!(value);
        }
    }
    let task = progress.task("simulation", "the console counts stored events");
    let url = format!("{}/v1/admin/policies/simulate", target.console);
    let answer = Http::new(WITHIN).send_json("POST", &url, &[("x-api-key", &key)], &body)?;
    let outcome = answer.accepted("the simulation")?.json();
    task.done(&sentence(&outcome));
    for user in outcome["worstUsers"].as_array().into_iter().flatten() {
        let name = user["userId"].as_str().unwrap_or("(no user)");
        progress.say(&format!("{:>10}  {name}, first at {}", user["blockedEvents"], text_of(&user["first"])));
    }
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn sentence(outcome: &Value) -> String {
    format!(
        "from {} to {}: {} of {} events blocked, {} users; the first at {}",
        text_of(&outcome["from"]),
        text_of(&outcome["to"]),
        outcome["blockedEvents"],
        outcome["countedEvents"],
        outcome["blockedUsers"],
        text_of(&outcome["firstBlocked"])
    )
}

/// A key of the tenant with scope `read`, from the Secret of one of its ApiKeys.
fn read_key(target: &Target, tenant: &str) -> Result<String> {
    let object = target.kubectl.json(&["get", "tenants.meterplane.io", tenant])?;
    let namespaces = object["spec"]["namespaces"].as_array().cloned().unwrap_or_default();
    for namespace in namespaces.iter().filter_map(Value::as_str) {
        let keys = target.kubectl.json(&["get", "apikeys.meterplane.io", "--namespace", namespace])?;
        let Some(secret) = secret_of_reader(&keys) else { continue };
        let secret = target.kubectl.json(&["get", "secret", secret, "--namespace", namespace])?;
        let encoded = secret["data"]["MP_API_KEY"].as_str().unwrap_or_default();
        let key = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            return Ok(key);
        }
    }
    let detail = format!("tenant {tenant} has no ApiKey with scope read whose Secret is written");
    Err(Error::Format { what: "the cluster".into(), detail })
}

fn secret_of_reader(keys: &Value) -> Option<&str> {
    let reads =
        |key: &&Value| key["spec"]["scopes"].as_array().is_some_and(|all| all.contains(&json!("read")));
    keys["items"].as_array()?.iter().filter(reads).find_map(|key| key["status"]["secretName"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_read_is_found() {
        let key = |scope: &str, secret: &str| json!({"spec": {"scopes": [scope]}, "status": {"secretName": secret}});
        let keys =
            json!({"items": [key("ingest", "a"), json!({"spec": {"scopes": ["read"]}}), key("read", "b")]});
        assert_eq!(secret_of_reader(&keys), Some("b"));
        assert_eq!(secret_of_reader(&json!({"items": []})), None);
    }

    #[test]
    fn the_answer_is_one_sentence() {
        let outcome = json!({"from": "a", "to": "b", "blockedEvents": 3, "countedEvents": 10, "blockedUsers": 2, "firstBlocked": null});
        assert_eq!(sentence(&outcome), "from a to b: 3 of 10 events blocked, 2 users; the first at -");
    }
}
