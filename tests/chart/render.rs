//! What the chart renders.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use xtask::cargo::Programs;
use xtask::{Cancel, Paths, Progress};

use crate::helm::{chart, name, objects, of_kind, rendered, root, template, tools, value_files, values};

const PROGRAMS: [&str; 4] = ["operator", "ingest", "sink", "console"];
/// Variables that a chart sets only when the value is there.
const OPTIONAL: [&str; 8] = [
    "MP_CLICKHOUSE_QUERY_URL",
    "MP_NATS_MONITOR_URLS",
    "MP_NATS_CA_FILE",
    "MP_CLICKHOUSE_CA_FILE",
    "MP_VAULT_CA_FILE",
    "MP_WEBHOOK_LISTEN",
    "MP_WEBHOOK_AUTHORITY_SECONDS",
    "MP_WEBHOOK_CERTIFICATE_SECONDS",
];

fn everything() -> Vec<Value> {
    rendered(values("everything").as_ref())
}

/// The variables that a program reads.
fn variables(program: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(root().join(program).join("src/config.rs")).unwrap();
    let names = source.split("env = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() > 8, "{program}: {names:?}");
    names
}

fn container<'a>(objects: &'a [Value], program: &str) -> &'a Value {
    let deployment = of_kind(objects, "Deployment").find(|object| name(object) == program).unwrap();
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

#[test]
fn every_variable_of_a_program_is_set_and_no_other() {
    for file in value_files() {
        let objects = rendered(&file);
        let all = file.ends_with("everything-values.yaml");
        for program in PROGRAMS {
            let container = container(&objects, program);
            let names = container["env"].as_array().unwrap().iter().map(|env| env["name"].as_str().unwrap());
            let set: BTreeSet<String> =
                names.filter(|name| name.starts_with("MP_")).map(str::to_owned).collect();
            let mut known = variables(program);
            known.retain(|name| all || set.contains(name) || !OPTIONAL.contains(&name.as_str()));
            assert_eq!(set, known, "{program} in {}", file.display());
        }
    }
}

#[test]
fn files_that_a_program_reads_are_mounted() {
    let objects = everything();
    for program in PROGRAMS {
        let container = container(&objects, program);
        let mounts: Vec<&str> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["mountPath"].as_str().unwrap())
            .collect();
        let files = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|env| env["name"].as_str().unwrap().ends_with("_FILE"));
        let mut read = BTreeSet::new();
        for file in files {
            let path = file["value"].as_str().unwrap();
            let mount = mounts.iter().find(|mount| path.starts_with(&format!("{mount}/")));
            read.insert(*mount.unwrap_or_else(|| panic!("{program}: {path} is in no mount")));
        }
        assert_eq!(read, mounts.into_iter().collect(), "{program} mounts what it does not read");
    }
}

#[test]
fn credentials_come_from_secrets_and_tokens_are_for_vault_alone() {
    let text = template(&["--values", &values("everything")]).unwrap();
    for object in objects(&text) {
        if object["kind"] == "Secret" {
            assert_eq!(
                (name(&object), object.get("data"), object.get("stringData")),
                ("meterplane-webhook", None, None)
            );
        }
    }
    let objects = everything();
    for deployment in of_kind(&objects, "Deployment") {
        let (program, pod) = (name(deployment), &deployment["spec"]["template"]["spec"]);
        let api = matches!(program, "operator" | "console");
        assert_eq!(pod["automountServiceAccountToken"], api, "{program}");
        let volumes = pod["volumes"].as_array().unwrap();
        let token =
            volumes.iter().find_map(|volume| volume["projected"]["sources"][0].get("serviceAccountToken"));
        assert_eq!(
            token.map(|token| &token["audience"]),
            (program != "sink").then(|| "vault".into()).as_ref(),
            "{program}"
        );
    }
}

#[test]
fn authorities_lie_where_the_variable_says_and_come_from_what_the_values_name() {
    let objects = everything();
    let mut seen = 0;
    for deployment in of_kind(&objects, "Deployment") {
        let container = container(&objects, name(deployment));
        for (variable, source) in [
            (
                "MP_NATS_CA_FILE",
                json!({"secret": {"name": "stores-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}),
            ),
            (
                "MP_CLICKHOUSE_CA_FILE",
                json!({"configMap": {"name": "stores-ca", "items": [{"key": "clickhouse.pem", "path": "ca.crt"}]}}),
            ),
            (
                "MP_VAULT_CA_FILE",
                json!({"secret": {"name": "stores-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}),
            ),
        ] {
            let Some(env) = container["env"].as_array().unwrap().iter().find(|env| env["name"] == variable)
            else {
                continue;
            };
            let (folder, file) = env["value"].as_str().unwrap().rsplit_once('/').unwrap();
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["mountPath"] == folder).unwrap();
            // A file mounted by itself would never change.
            assert_eq!((file, mount.get("subPath")), ("ca.crt", None));
            let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let sources = volume["projected"]["sources"].as_array().unwrap();
            assert!(sources.contains(&source), "{variable}: {sources:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 4 + 3 + 3);
}

#[test]
fn no_rule_that_is_bound_holds_a_wildcard() {
    let mut rules = 0;
    for object in everything() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            rules += 1;
            for field in ["verbs", "resources", "apiGroups", "resourceNames", "nonResourceURLs"] {
                let words = rule[field].as_array().into_iter().flatten();
                let wild: Vec<&Value> = words.filter(|word| word.as_str().unwrap().contains('*')).collect();
                assert!(wild.is_empty(), "{}: {field} {wild:?}", name(&object));
            }
        }
    }
    assert!(rules > 15, "{rules} rules");
}

#[test]
fn rights_are_those_of_the_developers_platform() {
    // What an apiserver of 1.36 would say.
    let mutates = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";
    let args = ["--values", &values("least"), "--api-versions", mutates];
    let objects = objects(&template(&args).unwrap());
    let files = fs::read_dir(chart().join("manifests")).unwrap().map(|entry| entry.unwrap().path());
    // The chart is installed into a namespace that is there.
    let shared = files.filter(|file| {
        file.extension().is_some_and(|end| end == "yaml") && !file.ends_with("namespace.yaml")
    });
    for file in shared {
        let text = fs::read_to_string(file).unwrap();
        for wanted in crate::helm::objects(&text) {
            let same = |object: &&Value| object["kind"] == wanted["kind"] && name(object) == name(&wanted);
            let found = objects
                .iter()
                .find(same)
                .unwrap_or_else(|| panic!("no {} {}", wanted["kind"], name(&wanted)));
            for field in ["rules", "roleRef", "spec", "automountServiceAccountToken"] {
                assert_eq!(found.get(field), wanted.get(field), "{} {field}", name(&wanted));
            }
            if wanted["metadata"].get("namespace").is_some() {
                assert_eq!(found["metadata"]["namespace"], "metering");
            }
            for subject in found["subjects"].as_array().into_iter().flatten() {
                assert_eq!(subject["namespace"], "metering");
            }
            for (label, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
                assert_eq!(&found["metadata"]["labels"][label], value, "{}", name(&wanted));
            }
        }
    }
}

#[test]
fn the_webhook_is_where_the_apiserver_is_sent_and_gone_when_it_is_turned_off() {
    let objects = everything();
    let configuration = of_kind(&objects, "ValidatingWebhookConfiguration").next().unwrap();
    let sent = &configuration["webhooks"][0]["clientConfig"]["service"];
    assert_eq!(sent["namespace"], "metering");
    let service =
        of_kind(&objects, "Service").find(|service| service["metadata"]["name"] == sent["name"]).unwrap();
    let port = &service["spec"]["ports"][0];
    assert_eq!(port["port"], sent["port"]);
    let pod = container(&objects, "operator");
    let opened = pod["ports"].as_array().unwrap().iter().find(|it| it["name"] == port["targetPort"]).unwrap();
    let env = pod["env"].as_array().unwrap();
    let value = |name: &str| {
        env.iter().find(|it| it["name"] == name).map(|it| it["value"].as_str().unwrap().to_owned())
    };
    assert_eq!(value("MP_WEBHOOK_LISTEN").unwrap(), format!("0.0.0.0:{}", opened["containerPort"]));
    assert_eq!(value("MP_WEBHOOK_AUTHORITY_SECONDS").unwrap(), (365 * 86_400).to_string());
    let policy = of_kind(&objects, "NetworkPolicy").find(|policy| name(policy) == "operator").unwrap();
    let open = policy["spec"]["ingress"].as_array().unwrap().iter();
    assert!(open.clone().any(|rule| rule["ports"][0]["port"] == port["targetPort"]), "{policy}");

    let off = objects_without_webhook();
    for object in &off {
        assert!(!name(object).contains("webhook"), "{} {}", object["kind"], name(object));
    }
    assert!(of_kind(&off, "ValidatingWebhookConfiguration").next().is_none());
    let pod = container(&off, "operator").to_string();
    assert!(!pod.contains("MP_WEBHOOK") && !pod.contains(r#""containerPort":8443"#), "{pod}");
}

fn objects_without_webhook() -> Vec<Value> {
    objects(&template(&["--values", &values("everything"), "--set", "webhook.enabled=false"]).unwrap())
}

#[test]
fn a_cluster_that_is_too_old_is_refused() {
    let render = |version: &str| template(&["--values", &values("least"), "--kube-version", version]);
    assert!(render("1.33.0-gke.100").is_ok());
    assert!(render("1.32.9").unwrap_err().contains("incompatible with Kubernetes"));
}

#[test]
fn resource_types_stay_unless_they_are_told_to_go() {
    let kept = |args: &[&str]| {
        let objects = objects(&template(&[&["--values", &values("least")], args].concat()).unwrap());
        let of = of_kind(&objects, "CustomResourceDefinition");
        let policies: Vec<Value> =
            of.map(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"].clone()).collect();
        policies
    };
    assert_eq!(kept(&[]), vec![Value::from("keep"); 7]);
    assert_eq!(kept(&["--set", "crds.keep=false"]), vec![Value::Null; 7]);
    assert_eq!(kept(&["--set", "crds.enabled=false"]), Vec::<Value>::new());
}

#[test]
fn rendering_twice_gives_the_same() {
    let render = || template(&["--values", &values("everything")]).unwrap();
    assert_eq!(render(), render());
    for entry in fs::read_dir(chart().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let actions = text.split("{{").skip(1).map(|part| part.split("}}").next().unwrap());
        let code = actions.filter(|action| !action.trim_start_matches(['-', ' ']).starts_with("/*"));
        for word in code.flat_map(|action| action.split(|c: char| !c.is_alphanumeric())) {
            let differs = ["lookup", "now", "uuidv4"].contains(&word)
                || word.starts_with("rand")
                || word.starts_with("gen");
            assert!(!differs, "{} uses {word}", path.display());
        }
    }
}

#[test]
fn policies_allow_the_ports_of_the_stores() {
    let ports = |file: &str, program: &str| {
        let objects = rendered(values(file).as_ref());
        let policy = of_kind(&objects, "NetworkPolicy").find(|policy| name(policy) == program).unwrap();
        let egress = policy["spec"]["egress"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|to| to["ports"].as_array().unwrap());
        egress.map(|port| port["port"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(ports("least", "sink"), [53, 53, 4222, 8123]);
    assert_eq!(ports("everything", "sink"), [53, 53, 4222, 8443]);
    assert_eq!(ports("everything", "ingest"), [53, 53, 4222, 443]);
    assert_eq!(ports("everything", "operator"), [53, 53, 4222, 8222, 8443, 443, 443, 6443]);
    assert_eq!(ports("least", "operator"), [53, 53, 4222, 8123, 8200, 443, 6443]);
}

#[test]
fn alerts_point_to_the_runbooks_of_this_installation() {
    let objects = everything();
    let rule = of_kind(&objects, "PrometheusRule").next().unwrap();
    let groups = rule["spec"]["groups"].as_array().unwrap().iter();
    let urls: Vec<&str> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| rule["annotations"]["runbook_url"].as_str().unwrap())
        .collect();
    assert!(
        urls.len() > 15 && urls.iter().all(|url| url.starts_with("https://wiki.example.com/meterplane/")),
        "{urls:?}"
    );
    let board = of_kind(&objects, "ConfigMap").find(|map| name(map) == "meterplane-dashboard").unwrap();
    let board: Value = serde_json::from_str(board["data"]["meterplane.json"].as_str().unwrap()).unwrap();
    assert_eq!(board["uid"], "meterplane");
}

#[test]
fn prometheus_reads_the_alerts_and_the_panels() {
    let monitoring = chart().join("monitoring");
    let read = |rules: &std::path::Path| {
        let mut command = Command::new(&tools().promrules);
        command.arg(rules).arg(monitoring.join("dashboard.json")).output().unwrap()
    };
    let output = read(&monitoring.join("rules.yaml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It would say so if one of them were wrong.
    let text = fs::read_to_string(monitoring.join("rules.yaml")).unwrap();
    let wrong = std::env::temp_dir().join(format!("mp-rules-{}.yaml", std::process::id()));
    fs::write(&wrong, text.replacen("sum(rate(", "sum(rates(", 1)).unwrap();
    let output = read(&wrong);
    fs::remove_file(&wrong).unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("rates"));
}

#[test]
fn programs_understand_the_variables_that_they_get() {
    let (paths, cancel) = (Paths::discover().unwrap(), Cancel::default());
    let task = Progress::detect().task("our programs", "cargo build, dev profile");
    let programs = Programs { packages: &PROGRAMS, ..Programs::default() };
    let bins = xtask::cargo::build(&paths, programs, &task, &cancel).unwrap();
    let objects = everything();
    for program in PROGRAMS {
        let run = |wrong: Option<(&str, &str)>| {
            let env = container(&objects, program)["env"].as_array().unwrap();
            let value = |env: &Value| env["value"].as_str().unwrap_or("pod").to_owned();
            let env = env.iter().map(|env| (env["name"].as_str().unwrap().to_owned(), value(env)));
            let output = Command::new(bins.join(program)).env_clear().envs(env).envs(wrong).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // They stop at the first file of a pod that is not here; a value that they do not understand ends them before, with 2.
        let (code, said) = run(None);
        assert_eq!(code, Some(1), "{program}: {said}");
        let (code, said) = run(Some(("MP_ADMIN_LISTEN", "nowhere")));
        assert_eq!(code, Some(2), "{program}: {said}");
    }
}

#[test]
fn a_new_key_restarts_those_who_trust() {
    let checksums = |args: &[&str]| {
        let objects = objects(&template(&[&["--values", &values("least")], args].concat()).unwrap());
        let template = |program| {
            of_kind(&objects, "Deployment").find(|it| name(it) == program).unwrap()["spec"]["template"]
                .clone()
        };
        PROGRAMS.map(template)
    };
    let before = checksums(&[]);
    let after = checksums(&["--set", "trust.keys.2=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="]);
    let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
    assert_eq!(changed, [false, true, false, true]);
}
