//! Values that are wrong are refused, and the refusal says which.

use crate::helm::{helm, template, value_files, values};

#[test]
fn lint_is_content_with_every_value_file() {
    let chart = crate::helm::chart().display().to_string();
    for file in value_files() {
        helm(&["lint", "--strict", &chart, "--values", &file.display().to_string()]).unwrap();
    }
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    let long = "a".repeat(64);
    let cases = [
        // Nothing answers to these names.
        ("ingest.replica=3", "replica"),
        ("nats.users.operator.password=x", "password"),
        ("operator.resources.request.cpu=1", "request"),
        ("monitoring.rules.enable=true", "enable"),
        ("networkPolicy.nats.peers[0].namespaces=x", "namespaces"),
        ("replicas=3", "replicas"),
        // Some servers encrypted and others not.
        ("nats.url=tls://a:4222\\,nats://b:4222", "/nats/url"),
        ("clickhouse.url=tls://clickhouse:8443", "/clickhouse/url"),
        ("nats.ca.secrets=x", "secrets"),
        ("clickhouse.ca.secret=x", "clickhouse.ca: its address is a plain one"),
        ("vault.ca.secret=x,vault.ca.configMap=y", "/vault/ca"),
        // What makes no sense, or they would refuse themselves, later.
        ("ingest.packsInFlight=9", "/ingest/packsInFlight"),
        ("operator.replicas=4", "/operator/replicas"),
        ("lateDays=0", "/lateDays"),
        ("webhook.certificateDays=0", "/webhook/certificateDays"),
        ("nats.laneHours=0", "/nats/laneHours"),
        ("logs.format=yaml", "/logs/format"),
        ("trust.keys.one=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "/trust/keys"),
        ("trust.keys.1=short", "/trust/keys/1"),
        // It would be there twice.
        ("sink.extraEnv[0].name=MP_LOG", "/sink/extraEnv/0/name"),
        (&format!("installation={long}"), "/installation"),
    ];
    for (set, said) in cases {
        let refusal = template(&["--values", &values("least"), "--set", set]).unwrap_err();
        assert!(refusal.contains(said), "{set}: {refusal}");
    }
}

#[test]
fn what_has_no_default_is_asked_for_by_name() {
    for missing in
        ["installation", "image.repository", "nats.url", "clickhouse.url", "vault.address", "trust.keys"]
    {
        let empty = if missing == "trust.keys" { "trust.keys=null" } else { &format!("{missing}=") };
        let refusal = template(&["--values", &values("least"), "--set", empty]).unwrap_err();
        assert!(refusal.contains(&format!("{missing}: ")), "{missing}: {refusal}");
    }
}
