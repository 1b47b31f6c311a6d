//! The shipped rights are those that our processes use: no call is refused, and no right is left over.

use std::collections::BTreeSet;

use serde_json::Value;
use system_tests::World;
use xtask::platform::audit::AuditedCall;

/// Run after all others, whose calls it counts.
pub const LAST_TESTS: &[crate::Test] = &[("every_right_is_used_and_no_call_is_refused", used)];

/// Rights that the apiserver looks up on the way, for which no call of ours shows: to bind a role, to write an owner reference that keeps
/// its owner, and to make what is applied on the server.
const LOOKED_UP: [(&str, &str); 4] = [
    ("bind", "clusterroles"),
    ("update", "/finalizers"),
    ("create", "usagelimits"),
    ("create", "accesspolicies"),
];

type Right = (String, String, String);

fn rights(world: &World, kind: &str, names: &[&str], namespace: &[&str]) -> BTreeSet<Right> {
    let of = |name: &&str| -> Vec<Right> {
        let json = world.kubectl(&[&["get", kind, name, "--output=json"][..], namespace].concat());
        let role: Value = serde_json::from_str(&json).unwrap();
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
        };
        let mut all = Vec::new();
        for rule in role["rules"].as_array().unwrap() {
            for verb in texts(&rule["verbs"]) {
                for group in texts(&rule["apiGroups"]) {
                    all.extend(
                        texts(&rule["resources"]).into_iter().map(|what| (verb.clone(), group.clone(), what)),
                    );
                }
            }
        }
        all
    };
    names.iter().flat_map(of).collect()
}

fn right(call: &AuditedCall) -> Right {
    (call.verb.clone(), call.group.clone(), call.resource.clone())
}

fn used(world: &World) {
    let calls = world.platform.audited().unwrap();
    for (account, roles) in [
        ("operator", &["meterplane-operator", "meterplane-operator-secrets", "meterplane-webhook"][..]),
        ("console", &["meterplane-console"]),
    ] {
        let own: Vec<&AuditedCall> = calls.iter().filter(|call| call.account == account).collect();
        assert!(!own.is_empty(), "{account} asked for nothing");
        // In a namespace that is claimed at this moment the operator may be a step ahead of its own right on Secrets.
        let refused: Vec<_> =
            own.iter().filter(|call| call.code == 403 && call.resource != "secrets").collect();
        assert!(refused.is_empty(), "{refused:?}");
        let mut given = rights(world, "clusterrole", roles, &[]);
        if account == "operator" {
            given.extend(rights(
                world,
                "role",
                &["meterplane-operator", "meterplane-webhook"],
                &["--namespace", "meterplane-system"],
            ));
        }
        let used: BTreeSet<Right> =
            own.iter().filter(|call| call.code < 300).map(|call| right(call)).collect();
        let looked_up = |(verb, _, what): &&Right| {
            LOOKED_UP.iter().any(|(known, end)| verb == known && what.ends_with(end))
        };
        let left: Vec<&Right> = given.difference(&used).filter(|right| !looked_up(right)).collect();
        assert!(left.is_empty(), "{account} never used {left:?}");
        // What everybody may: to ask who one is, and what the server can do.
        let beyond: Vec<_> = used.difference(&given).filter(|(_, _, what)| !what.is_empty()).collect();
        assert!(beyond.is_empty(), "{account} has other rights than these: {beyond:?}");
    }
}
