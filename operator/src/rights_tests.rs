//! The shipped rights, read as the kube-apiserver reads them.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde::Deserialize;
use serde_json::Value;

fn documents(kind: &str) -> Vec<Value> {
    documents_of("rbac.yaml", kind)
}

fn documents_of(file: &str, kind: &str) -> Vec<Value> {
    let manifests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/meterplane/manifests");
    let text = std::fs::read_to_string(manifests.join(file)).unwrap();
    let documents =
        serde_yaml_ng::Deserializer::from_str(&text).map(|part| Value::deserialize(part).unwrap());
    documents.filter(|document| document["kind"] == kind).collect()
}

fn roles() -> Vec<ClusterRole> {
    documents("ClusterRole").into_iter().map(|role| serde_json::from_value(role).unwrap()).collect()
}

fn rules(name: &str) -> Vec<PolicyRule> {
    let role = roles().into_iter().find(|role| role.metadata.name.as_deref() == Some(name)).unwrap();
    role.rules.unwrap()
}

fn of(rule: &PolicyRule, group: &str, resource: &str) -> bool {
    let groups = rule.api_groups.iter().flatten();
    groups.clone().any(|known| known == group)
        && rule.resources.iter().flatten().any(|known| known == resource)
}

#[test]
fn no_role_holds_a_wildcard() {
    for rule in roles().into_iter().flat_map(|role| role.rules.unwrap()) {
        let lists =
            [Some(rule.verbs), rule.api_groups, rule.resources, rule.resource_names, rule.non_resource_urls];
        assert!(!lists.into_iter().flatten().flatten().any(|word| word.contains('*')));
    }
}

#[test]
fn secrets_are_reached_by_name_and_only_where_a_tenant_is() {
    assert!(!rules("meterplane-operator").iter().any(|rule| of(rule, "", "secrets")));
    let rules = rules("meterplane-operator-secrets");
    assert_eq!(
        (rules.len(), rules[0].verbs.clone()),
        (1, ["get", "create", "patch"].map(str::to_owned).to_vec())
    );
    assert!(of(&rules[0], "", "secrets"));
}

fn may(role: &str, resource: &str, verb: &str) -> bool {
    let rules = rules(role);
    rules.iter().any(|rule| of(rule, crds::GROUP, resource) && rule.verbs.iter().any(|known| known == verb))
}

#[test]
fn the_operator_says_what_came_of_every_kind_and_writes_no_rule() {
    for crd in crds::all().unwrap() {
        let plural = crd.spec.names.plural;
        let reads = if plural == "dataplanes" { "get" } else { "watch" };
        assert!(may("meterplane-operator", &plural, reads), "{plural}");
        assert!(may("meterplane-operator", &format!("{plural}/status"), "patch"), "{plural}");
        let writes = ["create", "update", "delete"].map(|verb| may("meterplane-operator", &plural, verb));
        let expected = if plural == "dataplanes" { [true, false, false] } else { [false; 3] };
        assert_eq!(writes, expected, "{plural}");
    }
}

#[test]
fn people_of_a_tenant_write_what_narrows_and_nothing_that_gives() {
    for role in ["meterplane-tenant-admin", "meterplane-developer", "meterplane-viewer"] {
        for given in ["plans", "tenants", "lanepools", "dataplanes"] {
            assert!(!may(role, given, "create") && !may(role, given, "patch"), "{role} {given}");
        }
        for rule in ["usagelimits", "accesspolicies"] {
            assert!(may(role, rule, "get"), "{role} {rule}");
            assert_eq!(may(role, rule, "patch"), role == "meterplane-tenant-admin", "{role} {rule}");
        }
    }
}

#[test]
fn the_operator_can_bind_no_role_but_the_one_for_secrets() {
    let rules = rules("meterplane-operator");
    let bind: Vec<_> = rules.iter().filter(|rule| rule.verbs.iter().any(|verb| verb == "bind")).collect();
    assert_eq!(bind.len(), 1);
    assert_eq!(bind[0].resource_names, Some(vec!["meterplane-operator-secrets".to_owned()]));
    assert!(
        !rules.iter().any(|rule| rule.verbs.iter().any(|verb| verb == "escalate" || verb == "impersonate"))
    );
}

#[test]
fn the_operator_may_hold_one_lease_and_lists_none() {
    assert!(!rules("meterplane-operator").iter().any(|rule| of(rule, "coordination.k8s.io", "leases")));
    let role = &documents("Role")[0];
    let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
    let leases: Vec<_> = rules.iter().filter(|rule| of(rule, "coordination.k8s.io", "leases")).collect();
    let verbs = |rule: &PolicyRule| rule.verbs.join(" ");
    assert_eq!(leases.iter().map(|rule| verbs(rule)).collect::<Vec<_>>(), ["create", "get update"]);
    assert_eq!(leases[1].resource_names, Some(vec!["meterplane-operator".to_owned()]));
}

#[test]
fn the_console_writes_self_service_kinds_and_nothing_else() {
    let rules = rules("meterplane-console");
    let reads = ["get", "list", "watch"];
    let writes = rules.iter().filter(|rule| rule.verbs.iter().any(|verb| !reads.contains(&verb.as_str())));
    let resources: Vec<_> = writes.flat_map(|rule| rule.resources.clone().unwrap()).collect();
    assert_eq!(resources, ["usagelimits", "accesspolicies"]);
}

#[test]
fn the_webhook_needs_one_secret_and_one_configuration_by_name() {
    let given: Vec<String> = ["Role", "ClusterRole"]
        .into_iter()
        .flat_map(|kind| documents_of("webhook.yaml", kind))
        .flat_map(|role| serde_json::from_value::<Vec<PolicyRule>>(role["rules"].clone()).unwrap())
        .map(|rule| {
            let (what, named) = (rule.resources.unwrap(), rule.resource_names.unwrap());
            format!("{} {} {}", rule.verbs.join(" "), what.join(" "), named.join(" "))
        })
        .collect();
    assert_eq!(
        given,
        ["get update secrets meterplane-webhook", "get patch validatingwebhookconfigurations meterplane"]
    );
    let secret = &documents_of("webhook.yaml", "Secret")[0];
    assert!(secret.get("data").is_none() && secret.get("stringData").is_none(), "it comes empty");
}

#[test]
fn the_webhook_is_asked_about_our_own_kinds_and_nothing_rests_on_it() {
    let configuration = &documents_of("webhook.yaml", "ValidatingWebhookConfiguration")[0];
    for webhook in configuration["webhooks"].as_array().unwrap() {
        assert_eq!((&webhook["failurePolicy"], &webhook["sideEffects"]), (&"Ignore".into(), &"None".into()));
        for rule in webhook["rules"].as_array().unwrap() {
            assert_eq!(rule["apiGroups"], serde_json::json!([crds::GROUP]));
            assert_eq!(rule["operations"], serde_json::json!(["CREATE", "UPDATE"]));
        }
    }
}
