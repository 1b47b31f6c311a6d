//! A tenant's transit key and the policy that stands beside it.
//!
//! Transit keys carry no metadata, so the stamp is the first line of the policy `mp-<tenant>`. The policy is written before
//! the key is created and deleted after the key is gone: a key without a stamp is never ours.
//!
//! # Rules of [`TransitKeys`]
//! - `observe` never guesses: anything but a clear answer is `Observed::Unknown`.
//! - `execute` and `destroy` look at the stamp again before they write and refuse what is not stamped as expected.
//! - After `execute` of every step, `plan(want, observe())` has no steps. Executing a step twice is harmless.
//! - Nothing but `destroy` loses a key. What it encrypted, and every pseudonym derived from it, is unreadable after.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod live;
mod plan;
mod policy;

use std::future::Future;

use event::{Observed, Stamp, TenantName};

pub use plan::{Blocked, Expectation, KeyStep, Plan, adopt, plan, release};
pub use policy::render as render_policy;

use crate::error::VaultError;

/// A key that should exist: `aes256-gcm96`, not exportable, not deletable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Whose.
    pub tenant: TenantName,
    /// Its owner.
    pub stamp: Stamp,
}

/// A transit key as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// `aes256-gcm96` if it is ours.
    pub kind: String,
    /// Its versions, oldest first; pseudonyms come from version 1.
    pub versions: Vec<u32>,
    /// Key material could leave Vault.
    pub exportable: bool,
    /// It may be deleted: a destruction is under way.
    pub deletion_allowed: bool,
}

/// What was found for a tenant; at least one of both is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// Whose.
    pub tenant: TenantName,
    /// The key.
    pub key: Option<TransitKey>,
    /// Text of the policy.
    pub policy: Option<String>,
    /// The stamp in the policy, if it has a readable one.
    pub stamp: Option<Stamp>,
}

/// Why a change did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key carries another stamp than the step expects; nothing was changed.
    #[error("the key belongs to {found:?}")]
    StampMismatch {
        /// The stamp found.
        found: Option<Stamp>,
    },
    /// Vault refused, or did not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Transit keys of one Vault. The rules are those of the module.
pub trait TransitKeys: Send + Sync {
    /// What is known of `tenant`'s key.
    fn observe(&self, tenant: &TenantName) -> impl Future<Output = Observed<KeyState>> + Send;

    /// Executes one step of a plan.
    fn execute(&self, step: &KeyStep) -> impl Future<Output = Result<(), KeyError>> + Send;

    /// Destroys `tenant`'s key and then its policy, if the stamp is `expected`; an absent key is a success.
    fn destroy(
        &self,
        tenant: &TenantName,
        expected: &Stamp,
    ) -> impl Future<Output = Result<(), KeyError>> + Send;
}
