//! A declared access policy as the snapshot has it, or why it is not accepted.

use crds::access_policy as declared;
use kube::ResourceExt;
use policy::access::{AccessEffect, AccessPolicy, AccessRule};
use policy::compile::check_access;
use policy::limit::Origin;
use policy::matching::{Matcher, Vocabulary};

use super::keys::limit_identity;
use super::rules::{self, ACCESS_POLICY};
use crate::conditions::Why;
use crate::engine::ObjectKey;

/// Reads a declared policy; `ceiling` bounds the cost of its expressions.
///
/// # Errors
/// Why it is not accepted, naming the field.
pub fn policy(object: &crds::AccessPolicy, ceiling: Option<u32>) -> Result<AccessPolicy, Why> {
    let key = ObjectKey::of(object);
    let rule = |rule: &declared::AccessRule| AccessRule {
        name: rule.name.clone(),
        matches: rules::matches(rule.matches.as_ref()),
    };
    let policy = AccessPolicy {
        identity: limit_identity(&key),
        name: object.name_any(),
        effect: match object.spec.effect {
            declared::Effect::Allow => AccessEffect::Allow,
            declared::Effect::Deny => AccessEffect::Deny,
        },
        rules: object.spec.rules.iter().map(rule).collect(),
        mode: rules::mode(object.spec.mode),
        origin: Origin {
            kind: ACCESS_POLICY.to_owned(),
            namespace: key.namespace,
            name: key.name,
            generation: object.metadata.generation.unwrap_or_default(),
        },
    };
    check_access(&policy, 0).map_err(|(field, message)| rules::invalid("spec.", &field, &message))?;
    for (at, rule) in policy.rules.iter().enumerate() {
        let cost =
            Matcher::compile_for(&rule.matches, Vocabulary::EventAndTime).map_or(0, |matcher| matcher.cost());
        rules::affordable(&format!("spec.rules[{at}].match.expression"), cost, ceiling)?;
    }
    Ok(policy)
}
