//! Access policies: who may use which feature when. Deny overrides allow, and there is no order among policies.

use event::violation::Effect;
use serde::{Deserialize, Serialize};

use crate::limit::{Match, Mode, Origin};
use crate::matching::{Fit, InvalidMatch, Matcher, Subject, Vocabulary};

/// Most access policies of one tenant.
pub const MAX_POLICIES: usize = 100;
/// Most rules of one policy.
pub const MAX_RULES: usize = 16;

/// An access policy as the snapshot carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPolicy {
    /// `ns.<namespace>.<name>`.
    pub identity: String,
    /// The name people know it by.
    pub name: String,
    /// What its rules do.
    pub effect: AccessEffect,
    /// An event fits the policy when it fits one of them.
    pub rules: Vec<AccessRule>,
    /// What happens to an attempt that it does not admit.
    #[serde(default)]
    pub mode: Mode,
    /// The resource that said so.
    pub origin: Origin,
}

/// What the rules of a policy do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessEffect {
    /// Events that fit are admitted, and while there is such a policy, no others.
    Allow,
    /// Events that fit are not admitted.
    Deny,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// Its name in the policy.
    pub name: String,
    /// Which events fit.
    pub matches: Match,
}

/// A policy ready to decide.
#[derive(Debug)]
pub struct Access {
    /// The policy.
    pub policy: AccessPolicy,
    rules: Vec<Matcher>,
}

/// Which rule of a policy cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rules[{at}].match.{error}")]
pub struct InvalidRule {
    /// Its place.
    pub at: usize,
    /// What is wrong with it.
    pub error: InvalidMatch,
}

/// An attempt that a policy does not admit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDenial {
    /// Identity of the policy.
    pub identity: String,
    /// Its name.
    pub policy: String,
    /// The deny rule that fits; `None` when no allow rule does.
    pub rule: Option<String>,
}

impl Access {
    /// Compiles a policy.
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn compile(policy: AccessPolicy) -> Result<Self, InvalidRule> {
        let compiled = policy.rules.iter().enumerate().map(|(at, rule)| {
            Matcher::compile_for(&rule.matches, Vocabulary::EventAndTime)
                .map_err(|error| InvalidRule { at, error })
        });
        let rules = compiled.collect::<Result<_, _>>()?;
        Ok(Self { policy, rules })
    }

    /// The first rule that `subject` fits. What cannot be looked through fits deny rules and no allow rule.
    fn fitting(&self, subject: &Subject<'_>) -> Option<&AccessRule> {
        let fits = |fit: Fit| match self.policy.effect {
            AccessEffect::Allow => fit == Fit::Yes,
            AccessEffect::Deny => fit != Fit::No,
        };
        let at = self.rules.iter().position(|rule| fits(rule.fit(subject)))?;
        self.policy.rules.get(at)
    }

    fn denial(&self, rule: Option<&AccessRule>) -> AccessDenial {
        AccessDenial {
            identity: self.policy.identity.clone(),
            policy: self.policy.name.clone(),
            rule: rule.map(|rule| rule.name.clone()),
        }
    }
}

/// What the policies say to one event: what would have refused it and does not.
///
/// # Errors
/// The denial of a policy that is enforced.
pub fn judge(
    policies: &[Access],
    subject: &Subject<'_>,
) -> Result<Vec<(AccessDenial, Effect)>, AccessDenial> {
    let mut remarks = Vec::new();
    let mut note = |denial: AccessDenial, mode: Mode| match mode.effect() {
        Effect::Refused => Err(denial),
        effect => {
            remarks.push((denial, effect));
            Ok(())
        }
    };
    for access in policies.iter().filter(|access| access.policy.effect == AccessEffect::Deny) {
        if let Some(rule) = access.fitting(subject) {
            note(access.denial(Some(rule)), access.policy.mode)?;
        }
    }
    let allows = || policies.iter().filter(|access| access.policy.effect == AccessEffect::Allow);
    let admits: Vec<Mode> = allows()
        .filter(|access| access.fitting(subject).is_some())
        .map(|access| access.policy.mode)
        .collect();
    // A policy on trial admits nothing that the enforced ones do not: it counts only for its own mode and laxer ones.
    for mode in [Mode::Enforce, Mode::Warn, Mode::Observe] {
        let Some(first) = allows().find(|access| access.policy.mode == mode) else { continue };
        if !admits.iter().any(|admitting| *admitting >= mode) {
            note(first.denial(None), mode)?;
        }
    }
    Ok(remarks)
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
