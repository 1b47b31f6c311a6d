//! The pure part: which steps lead from what is there to what is wanted.

use event::{Claim, Observed, Stamp, TenantName};

use super::{KeySpec, KeyState};

/// One change. None of them loses a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// Write the policy that carries the stamp and grants the use of the key.
    WritePolicy {
        /// Whose.
        tenant: TenantName,
        /// The stamp that must be there now; `None` when there is no policy yet.
        from: Option<Stamp>,
        /// The stamp it gets.
        to: Stamp,
    },
    /// Create the key.
    CreateKey {
        /// Whose.
        tenant: TenantName,
        /// The stamp that must be there.
        stamp: Stamp,
    },
    /// Take back the permission to delete the key, left behind by a destruction that was called off.
    ForbidDeletion {
        /// Whose.
        tenant: TenantName,
        /// The stamp that must be there.
        stamp: Stamp,
    },
}

/// What the caller knows or permits beyond the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// The key may be missing: the tenant is new.
    MayCreate,
    /// Data exist that need this key: if it is missing they are shredded, which a new key would only hide.
    MustExist,
}

/// Why a wanted key cannot be had by safe steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It could not be observed.
    Unknown(String),
    /// It is gone.
    Missing,
    /// It is not ours to touch.
    Claimed(Claim),
    /// Vault cannot change this property of an existing key.
    Immutable {
        /// Name of the property.
        field: &'static str,
    },
}

/// Steps, and what stops the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be executed in order.
    pub steps: Vec<KeyStep>,
    /// Why `steps` does not lead all the way, if so.
    pub blocked: Option<Blocked>,
}

/// Type of a tenant's key.
pub(super) const KIND: &str = "aes256-gcm96";

/// Steps from `have` to `want`, as far as they are safe.
pub fn plan(want: &KeySpec, have: &Observed<KeyState>, expectation: Expectation) -> Plan {
    let create = || KeyStep::CreateKey { tenant: want.tenant.clone(), stamp: want.stamp.clone() };
    let write = |from| KeyStep::WritePolicy { tenant: want.tenant.clone(), from, to: want.stamp.clone() };
    let state = match have {
        Observed::Unknown(reason) => return Plan::blocked(Blocked::Unknown(reason.clone())),
        Observed::Absent if expectation == Expectation::MayCreate => {
            return Plan { steps: vec![write(None), create()], blocked: None };
        }
        Observed::Absent => return Plan::blocked(Blocked::Missing),
        Observed::Present(state) => state,
    };
    if let Some(claim) = want.stamp.claim(state.stamp.as_ref()) {
        return Plan::blocked(Blocked::Claimed(claim));
    }
    let mut steps = Vec::new();
    if state.policy.as_deref() != Some(super::policy::render(&want.tenant, &want.stamp).as_str()) {
        steps.push(write(state.stamp.clone()));
    }
    match &state.key {
        None if expectation == Expectation::MustExist => {
            return Plan { steps, blocked: Some(Blocked::Missing) };
        }
        None => steps.push(create()),
        Some(key) if key.kind != KIND => {
            return Plan { steps, blocked: Some(Blocked::Immutable { field: "type" }) };
        }
        Some(key) if key.exportable => {
            return Plan { steps, blocked: Some(Blocked::Immutable { field: "exportable" }) };
        }
        Some(key) if key.deletion_allowed => {
            steps.push(KeyStep::ForbidDeletion { tenant: want.tenant.clone(), stamp: want.stamp.clone() });
        }
        Some(_) => {}
    }
    Plan { steps, blocked: None }
}

/// The step that marks a key as retained; `None` when it is so already or carries no stamp.
pub fn release(have: &KeyState) -> Option<KeyStep> {
    let from = have.stamp.clone().filter(|stamp| !stamp.released)?;
    let to = Stamp { released: true, ..from.clone() };
    Some(KeyStep::WritePolicy { tenant: have.tenant.clone(), from: Some(from), to })
}

/// The step that gives a key to `to`; the caller has decided that it may be taken. `None` when it is so already.
pub fn adopt(have: &KeyState, to: &Stamp) -> Option<KeyStep> {
    (have.stamp.as_ref() != Some(to)).then(|| KeyStep::WritePolicy {
        tenant: have.tenant.clone(),
        from: have.stamp.clone(),
        to: to.clone(),
    })
}

impl Plan {
    fn blocked(blocked: Blocked) -> Self {
        Self { steps: Vec::new(), blocked: Some(blocked) }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
